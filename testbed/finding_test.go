package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// raw160 is option 160 of exactly these bytes, which dnsmasq takes of none that it
// knows to be a text.
func raw160(bytes string) string {
	return "160," + strings.ReplaceAll(fmt.Sprintf("% x", bytes), " ", ":")
}

// officeDNS is what a name server knows of the storing server: its service in
// office.test. Nobody knows anything of lab.test.
func officeDNS() []string {
	return []string{
		"--local=/test/", "--srv-host=_coaps._udp.office.test,store.office.test,5684",
		"--host-record=store.office.test," + serverAddress.Addr().String(),
	}
}

// boot has a phone that is off start anew in the provider's network as it is now, and
// waits until it has registered.
func boot(ctx context.Context, t testing.TB, p *Phone) {
	t.Helper()
	must(t, p.Unplug())
	must(t, p.PowerOn(ctx))
	p.Mark()
	must(t, p.Plug())
	await(ctx, t, p, "registered")
}

// A phone whose settings do not name the storing server finds it by whatever the
// network says, in the forms in which networks say it; what is meant for telephones
// of other makes hides nothing, and is in the log.
func TestFindingTheStoringServer(t *testing.T) {
	ctx, bed := ownTown(t, Config{})
	must(t, bed.AddDNS(ctx, officeDNS()...))
	p := addPhone(ctx, t, bed, 101)
	server, dns, nobody := serverAddress.Addr().String(), "option:dns-server,"+fixedRouter.Addr().String(), "203.0.113.99"
	const office = "15,office.test"
	cases := []struct {
		name    string
		options []string
		says    string // what the log must have
	}{
		{"a service of option 15's domain", []string{dns, office}, ""},
		{"the first of two name servers is dead", []string{"option:dns-server," + nobody + "," + fixedRouter.Addr().String(), office}, ""},
		{"a dot behind the domain", []string{dns, "15,office.test."}, ""},
		{"the first of two domains in option 15", []string{dns, "15,office.test lab.test"}, ""},
		{"the second of two domains in option 15", []string{dns, "15,lab.test office.test"}, ""},
		{"a domain of option 119", []string{dns, "15,lab.test", "option:domain-search,office.test"}, ""},
		{"the second domain of option 119", []string{dns, "option:domain-search,lab.test,office.test"}, ""},
		{"66, an address and a port", []string{"66," + server + ":5684"}, ""},
		{"66, a URL", []string{"66,coaps://" + server + ":5684"}, ""},
		{"66, a URL in capitals, with a path", []string{"66,COAPS://" + server + "/rd"}, ""},
		{"66, a name", []string{dns, "66,store.office.test"}, ""},
		{"66, a name without its domain", []string{dns, office, "66,store"}, ""},
		{"66, two addresses, the first dead", []string{"66," + nobody + " " + server}, ""},
		{"66, two names, the first of nobody", []string{dns, "66,nobody.office.test store.office.test"}, ""},
		{"66, quotes around", []string{`66,'` + server + `'`}, ""},
		{"66, a line's end behind", []string{"66," + server + "\n"}, ""},
		{"160, a name", []string{dns, raw160("store.office.test:5684\n")}, ""},
		{"160, a web server's and ours", []string{raw160("http://" + nobody + "/cfg coaps://" + server)}, "http://"},
		{"160 is dead, and 66 ours", []string{"66,coaps://" + server, raw160(nobody)}, ""},
		{"160 is four bytes of another's, and 66 ours", []string{"66,coaps://" + server + ":5684", raw160("\xcb\x00\x71\x63")}, ""},
		{"160, a URL", []string{"160,coaps://" + server}, ""},
		{"160, a list whose first is dead", []string{raw160(nobody + ", " + server)}, ""},
		{"160, blanks around", []string{raw160(" " + server + " ")}, ""},
		{"160, quotes around", []string{raw160(`"` + server + `"`)}, ""},
		{"160, NUL behind", []string{raw160(server + ":5684\x00\x00")}, ""},
		{"160, a line's end behind", []string{raw160(server + "\r\n")}, ""},
		{"160, four bytes", []string{raw160(string(serverAddress.Addr().AsSlice()))}, ""},
		{"160 goes before 66", []string{"66,coaps://" + nobody, "160,coaps://" + server}, ""},
		{"66 is TFTP, 160 is ours", []string{"66,tftp://" + nobody + "/phones", raw160(server)}, "tftp://"},
		{"66 is TFTP, beside a service", []string{dns, office, "66,tftp://" + nobody + "/phones"}, "tftp://"},
		{"66 is a plain TFTP server, beside a service", []string{dns, office, "66," + nobody}, ""},
		{"160 is a web server's, beside a service", []string{dns, office, "160,http://" + nobody + ":80/cfg/"}, "http://"},
		{"66 is a web server's, beside a service", []string{dns, office, "66,http://" + nobody + ":8080/polycom/cfg"}, "http://"},
		{"66 is nonsense, beside a service", []string{dns, office, "66,10.77.0.1:99999"}, "10.77.0.1:99999"},
	}
	if board() != hostBoard { // a virtual machine takes long to start
		cases = cases[:2]
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			must(t, p.PowerOff())
			must(t, bed.ISP.Say(ctx, tt.options...))
			boot(ctx, t, p)
			if tt.says != "" {
				_, _, err := p.AwaitLog(ctx, 0, tt.says)
				must(t, err)
			}
		})
	}
	if board() == hostBoard { // all this without the machine's own file, which is another's
		names, err := os.ReadFile(filepath.Join(p.dir, p.Name+".resolv.conf"))
		if err != nil || len(names) > 0 {
			t.Errorf("the host's resolv.conf has become %q, %v", names, err)
		}
	}
}

// An IPv6 address is named as any other is, by option or by service, and by settings.
func TestFindingTheStoringServerByIPv6(t *testing.T) {
	ctx, bed := ownTown(t, Config{})
	server := netip.MustParsePrefix("2001:db8:77::10/64")
	advertise(ctx, t, bed.ISP)
	must(t, bed.Server.host.address("eth0", server, netip.Addr{}))
	at := server.Addr().String()
	must(t, bed.AddDNS(ctx, "--local=/test/", "--srv-host=_coaps._udp.office.test,store.office.test,5684", "--host-record=store.office.test,"+at))
	dns := "option:dns-server," + fixedRouter.Addr().String()
	p := addPhone(ctx, t, bed, 101)
	cases := map[string][]string{
		"66, an address":                    {"66," + at},
		"66, an address in brackets":        {"66,[" + at + "]"},
		"66, a URL":                         {"66,coaps://[" + at + "]:5684"},
		"160, an address and a port":        {raw160("[" + at + "]:5684\x00")},
		"160, after an address of nobody":   {raw160("2001:db8:77::99, " + at)},
		"66, a name":                        {dns, "66,store.office.test"},
		"a service of option 15's domain":   {dns, "15,office.test"},
		"66 is TFTP by IPv6, 160 is ours":   {"66,tftp://[2001:db8:77::99]/", raw160("coaps://" + "[" + at + "]")},
		"66 is IPv4 of nobody, 160 is ours": {"66,203.0.113.99", raw160(at)},
	}
	if board() != hostBoard { // a virtual machine takes long to start
		cases = map[string][]string{"66, a URL": cases["66, a URL"]}
	}
	for name, options := range cases {
		t.Run(name, func(t *testing.T) {
			must(t, p.PowerOff())
			must(t, bed.ISP.Say(ctx, options...))
			boot(ctx, t, p)
		})
	}
}

// Settings take every form that the options take.
func TestStoringServerInSettings(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one program reads them on every board: tried on the host")
	}
	ctx, bed := ownTown(t, Config{})
	must(t, bed.AddDNS(ctx, officeDNS()...))
	must(t, bed.ISP.Say(ctx, "option:dns-server,"+fixedRouter.Addr().String(), "15,office.test"))
	p := addPhone(ctx, t, bed, 101)
	m := p.machine.(program)
	server := serverAddress.Addr().String()
	for _, form := range []string{
		server, server + ":5684", " " + server + "\n", server + "\x00", "'" + server + "'", "coaps://" + server, "COAPS://" + server + ":5684/rd",
		"203.0.113.99, " + server, "203.0.113.99 " + server, "[2001:db8:77::99]:5684," + server,
		"store.office.test", "store", "coaps://store.office.test:5684", "nobody.office.test store.office.test",
	} {
		t.Run(form, func(t *testing.T) {
			must(t, p.PowerOff())
			p.server = form
			must(t, os.WriteFile(m.config(), []byte(strings.ReplaceAll(m.settings(), `\x00`, `\u0000`)), 0o600))
			boot(ctx, t, p)
		})
	}
}

// The domain may be of IPv6 alone: of a router (DNSSL, RFC 8106), or of DHCPv6 beside
// it (option 24, RFC 3646).
func TestFindingByADomainOfIPv6(t *testing.T) {
	ctx, bed := ownTown(t, Config{})
	must(t, bed.AddDNS(ctx, officeDNS()...))
	must(t, bed.ISP.Say(ctx, "option:dns-server,"+fixedRouter.Addr().String()))
	advertise(ctx, t, bed.ISP, "--dhcp-option=option6:domain-search,lab.test,office.test")
	addPhone(ctx, t, bed, 101)
}

// A name server that boots more slowly than the phone is asked again until it is there.
func TestTheNameServerComesLate(t *testing.T) {
	for _, says := range [][]string{{"15,office.test"}, {"66,store.office.test"}} {
		t.Run(says[0], func(t *testing.T) {
			ctx, bed := ownTown(t, Config{})
			must(t, bed.ISP.Say(ctx, slices.Concat(says, []string{"option:dns-server," + fixedRouter.Addr().String()})...))
			p, err := bed.AddPhone(ctx, PhoneConfig{Name: "phone-101", MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 1}, Speech: speak(t, words[0])})
			must(t, err)
			must(t, p.PowerOn(ctx))
			must(t, p.Plug())
			for range 3 { // it does not give up
				await(ctx, t, p, "register.failed")
			}
			must(t, bed.AddDNS(ctx, officeDNS()...))
			await(ctx, t, p, "registered")
		})
	}
}
