package registry

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flexphone/testbed/labtest"
)

// TestKernelsChoiceIsAnnouncedFirst: on an interface with addresses of two providers,
// a unique local one and IPv4, the one that this kernel would reach the server from comes
// first of its kind, whichever that is, and the kinds stay in their order.
func TestKernelsChoiceIsAnnouncedFirst(t *testing.T) {
	if !labtest.Inside(t, 1) {
		return
	}
	ip := func(args string) string {
		t.Helper()
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("0"), 0o644) != nil {
		t.Skip("this kernel has no IPv6")
	}
	ip("link set lo up")
	ip("link add phone0 type veth peer name router0")
	ip("link set router0 up")
	ip("link set phone0 up")
	const p, q, local, four = "2001:db8:1::5", "2001:db8:2::5", "fd00:7::5", "192.0.2.50"
	for _, a := range []string{p, q, local} {
		ip("-6 address add " + a + "/64 dev phone0 nodad")
	}
	ip("address add " + four + "/24 dev phone0")
	ip("-6 route add default via fe80::1 dev phone0")
	for _, tt := range []struct {
		name   string
		do     []string // by ip(8), one after the other
		server string
		had    string // the order of the lease
		want   string
	}{
		{"the server is near one prefix", nil, "2001:db8:1::99", four + " " + q + " " + p + " " + local, four + " " + p + " " + q + " " + local},
		{"and near the other", nil, "2001:db8:2::99", four + " " + q + " " + p + " " + local, four + " " + q + " " + p + " " + local},
		{"it is a neighbour in the site", nil, "fd00:7::99", four + " " + q + " " + p + " " + local, four + " " + q + " " + p + " " + local},
		{"it has IPv4", nil, "192.0.2.99", q + " " + four, q + " " + four},
		{"the near prefix is deprecated", []string{"-6 address change " + p + "/64 dev phone0 preferred_lft 0"}, "2001:db8:1:1::99", p + " " + q, q + " " + p},
		{"it is preferred again", []string{"-6 address change " + p + "/64 dev phone0 preferred_lft forever"}, "2001:db8:1:1::99", q + " " + p, p + " " + q},
		{"the route says another", []string{"-6 route replace default via fe80::1 dev phone0 src " + q}, "2001:db8:1:1::99", p + " " + q, q + " " + p},
		{"there is no way there", []string{"-6 route delete default"}, "2001:db8:9::99", p + " " + q, p + " " + q},
	} {
		for _, args := range tt.do {
			ip(args)
		}
		server := netip.AddrPortFrom(netip.MustParseAddr(tt.server), 5684)
		got := bestFirst(parseAll(tt.had), sourceTo(server))
		if !slices.Equal(got, parseAll(tt.want)) {
			t.Errorf("%s: announces %v; want %v", tt.name, got, tt.want)
		}
		if own := sourceTo(server); own.IsValid() {
			if says := ip("route get " + tt.server); !strings.Contains(says, own.String()) {
				t.Errorf("%s: found %v, where the kernel says %s", tt.name, own, says)
			}
		}
	}
}

func parseAll(text string) (out []netip.Addr) {
	for _, a := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
