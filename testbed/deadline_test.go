package testbed

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// A phone that would find its storing server by the DNS alone starts on a line whose
// router gives leases and lives, and behind which nothing is reached, no name server
// either: it is on its fallback interface that it registers.
func TestTheNameServersOfALineSayNothing(t *testing.T) {
	if board() != hostBoard {
		t.Skip("the virtual machine has one interface")
	}
	ctx, bed := ownTown(t, Config{})
	must(t, bed.AddDNS(ctx, officeDNS()...))
	must(t, bed.ISP.Say(ctx, "option:dns-server,"+fixedRouter.Addr().String(), "15,office.test"))
	p, err := bed.AddPhone(ctx, PhoneConfig{Name: "phone-101", MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 1}})
	must(t, err)

	dead, err := newHost("dead")
	must(t, err)
	t.Cleanup(dead.close)
	must(t, dead.link.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "wan0", PeerNamespace: netlink.NsFd(p.host.ns.Fd()),
		PeerHardwareAddr: net.HardwareAddr{0x02, 0x00, 0x5e, 0x00, 0x53, 0x71},
	}))
	must(t, dead.address("lan0", netip.MustParsePrefix("10.99.0.1/24"), netip.Addr{}))
	must(t, dead.up("lan0"))
	leases, err := dead.run(bed.Dir, command{name: "deadline", path: bed.ISP.dnsmasq, args: []string{
		"--no-daemon", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file=", "--port=0", "--log-facility=-", "--no-ping",
		"--interface=lan0", "--bind-interfaces", "--dhcp-leasefile=" + filepath.Join(bed.Dir, "leases.dead"),
		"--dhcp-range=10.99.0.50,10.99.0.60,2m", "--dhcp-option=option:dns-server,198.18.0.53", "--dhcp-option=15,office.test",
	}})
	must(t, err)
	t.Cleanup(func() { leases.kill() })

	m := program{p}
	settings := strings.NewReplacer("interface = \"eth0\"\n", "interface = \"wan0\"\n", `fallback_interface = ""`, `fallback_interface = "eth0"`).Replace(m.settings())
	must(t, os.WriteFile(m.config(), []byte(settings), 0o600))
	must(t, p.PowerOn(ctx))
	must(t, p.Plug())
	if e := await(ctx, t, p, "lease.bound"); !strings.HasPrefix(e.Field("address"), "10.99.0.") {
		t.Logf("first %v", e) // the fallback was sooner
	}
	await(ctx, t, p, "registered")
	if s, err := p.Status(ctx); err != nil || !East.Router.Contains(s.Addr()) {
		t.Errorf("registered as %+v, %v; want an address of the fallback's", s, err)
	}
}
