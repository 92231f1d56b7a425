package main

import (
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The server's DNS, asked by dig: addresses and services of a phone by number
// and MAC, for a short while each; nothing by default, and nothing for those
// who may not ask.
func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is not installed (Debian's package bind9-dnsutils)")
	}
	serving := func(more ...string) (ask func(...string) (status string, lines []string)) {
		p := serveFor(t, t.TempDir(), append([]string{"--dns", "127.0.0.1:0", "--zone", "phones.example.net"}, more...)...)
		c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
		r := announcement(phoneMAC(1), 1, "192.0.2.1")
		r.Addrs = append(r.Addrs, announcement(phoneMAC(1), 1, "2001:db8::1").Addrs...)
		if _, err := c.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		host, port, err := net.SplitHostPort(p.dns)
		if err != nil {
			t.Fatal(err)
		}
		return func(what ...string) (status string, lines []string) {
			t.Helper()
			out, err := exec.CommandContext(t.Context(), dig, append([]string{"@" + host, "-p", port, "+norecurse", "+tries=1", "+nosearch"}, what...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("dig %v: %v\n%s", what, err, out)
			}
			if m := regexp.MustCompile(`status: (\w+)`).FindStringSubmatch(string(out)); m != nil {
				status = m[1]
			}
			_, answers, _ := strings.Cut(string(out), ";; ANSWER SECTION:\n")
			answers, _, _ = strings.Cut(answers, "\n\n")
			for _, l := range strings.Split(answers, "\n") {
				if f := strings.Fields(l); len(f) > 4 {
					ttl, err := strconv.Atoi(f[1])
					if err != nil || ttl < 1 || ttl > 10 {
						t.Errorf("dig %v: %q lives for %s s; want 1 to 10", what, l, f[1])
					}
					lines = append(lines, strings.Join(append(f[3:4], f[4:]...), " "))
				}
			}
			return status, lines
		}
	}
	ask := serving("--resolve", "anyone")
	for _, tt := range []struct{ name, kind, want string }{
		{"101.phones.example.net", "A", "A 192.0.2.1"},
		{"101.phones.example.net", "AAAA", "AAAA 2001:db8::1"},
		{"02-00-5e-00-53-01.phones.example.net", "A", "A 192.0.2.1"},
		{"02005E005301.phones.example.net", "AAAA", "AAAA 2001:db8::1"},
		{"002200600335105.phones.example.net", "A", "A 192.0.2.1"},
		{"_sip._udp.101.phones.example.net", "SRV", "SRV 0 0 5060 101.phones.example.net."},
		{"_sip._tcp.101.phones.example.net", "SRV", "SRV 0 0 5060 101.phones.example.net."},
		{"_sips._tcp.101.phones.example.net", "SRV", "SRV 0 0 5061 101.phones.example.net."},
		{"101.phones.example.net", "NAPTR", `NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.101.phones.example.net.` +
			`|NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.101.phones.example.net.|NAPTR 30 10 "s" "SIP+D2T" "" _sip._tcp.101.phones.example.net.`},
	} {
		for _, by := range []string{"+notcp", "+tcp"} {
			if status, got := ask(by, tt.name, tt.kind); status != "NOERROR" || strings.Join(got, "|") != tt.want {
				t.Errorf("dig %s %s %s: %s %q; want %q", by, tt.name, tt.kind, status, got, tt.want)
			}
		}
	}
	if status, got := ask("102.phones.example.net", "A"); status != "NXDOMAIN" || got != nil {
		t.Errorf("a number that nobody has: %s %q", status, got)
	}
	for _, policy := range []string{"enrolled", "nobody"} {
		if status, got := serving("--resolve", policy)("101.phones.example.net", "A"); status != "REFUSED" || got != nil {
			t.Errorf("--resolve %s: %s %q; want it refused", policy, status, got)
		}
	}
	// Whoever asks too often is told to come by TCP, and there refused.
	ask = serving("--resolve", "anyone", "--lookups", "0.001")
	refused := 0
	for range 30 {
		if status, _ := ask("+tcp", "101.phones.example.net", "A"); status == "REFUSED" {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("of 30 lookups, %d are refused; want 10", refused)
	}
}
