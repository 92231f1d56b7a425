package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The provider's IPv6 network (RFC 3849), and the address that the kernel makes of
// a phone's MAC in it.
var east6 = netip.MustParsePrefix("2001:db8:77::1/64")

func address6(p *Phone) netip.Addr {
	b := east6.Masked().Addr().As16()
	copy(b[8:], []byte{p.MAC[0] ^ 2, p.MAC[1], p.MAC[2], 0xff, 0xfe, p.MAC[3], p.MAC[4], p.MAC[5]})
	return netip.AddrFrom16(b)
}

// advertise has the provider's router advertise IPv6 beside its IPv4, until the
// test is over or withdraw is called. It says what these arguments of dnsmasq have
// it say beside.
func advertise(ctx context.Context, t testing.TB, isp *ISP, beside ...string) (withdraw func()) {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	must(t, isp.host.sysctl("net/ipv6/conf/all/forwarding", "1"))
	must(t, isp.host.address(street, east6, netip.Addr{}))
	// In its first minute dnsmasq advertises each 5 to 20 s, whatever it is told, and by
	// itself lets the router live for three of the intervals that it is told.
	p, err := isp.host.run(isp.dir, command{name: "advertiser", path: isp.dnsmasq, args: append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file=", "--port=0", "--log-facility=-",
		"--interface=" + street, "--bind-interfaces", "--dhcp-leasefile=" + isp.dir + "/leases6",
		"--enable-ra", "--ra-param=" + street + ",4,600", "--dhcp-range=2001:db8:77::,ra-only,5m",
	}, beside...)})
	must(t, err)
	t.Cleanup(func() { p.kill() })
	_, _, err = p.await(ctx, 0, func(line string) bool { return strings.Contains(line, "router advertisement") })
	must(t, err)
	return func() {
		p.kill()
		must(t, isp.host.withdraw(street, east6))
	}
}

// TestPhonesWithoutIPv4: the provider gives IPv6 alone. The phones register what
// they have, with a storing server that their settings name, and call each other.
func TestPhonesWithoutIPv4(t *testing.T) {
	ctx, bed := ownTown(t, Config{})
	server := netip.MustParsePrefix("2001:db8:77::10/64")
	must(t, bed.ISP.Stop())
	advertise(ctx, t, bed.ISP)
	must(t, bed.Server.host.address("eth0", server, netip.Addr{}))
	var phones []*Phone
	for number := 101; number <= 102; number++ {
		p, err := bed.AddPhone(ctx, PhoneConfig{
			Name: fmt.Sprintf("phone-%d", number), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
			Speech: speak(t, words[number-101]), StoringServer: "[" + server.Addr().String() + "]:5684",
		})
		must(t, err)
		must(t, p.PowerOn(ctx))
		if board() != hostBoard { // its settings are on its disk
			must(t, p.Save(fmt.Sprintf("data = \"/data\"\nstoring_server = %q\n", p.server), false))
			must(t, p.PowerOff())
			must(t, p.PowerOn(ctx))
		}
		must(t, p.Plug())
		await(ctx, t, p, "registered")
		must(t, bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
		awaitRow(ctx, t, bed, p, func(addrs []string) bool { return slices.Equal(addrs, []string{address6(p).String()}) })
		phones = append(phones, p)
	}
	callWithSound(ctx, t, phones[0], phones[1], "102", address6(phones[1]))
}

// TestServerThatIsReachedByIPv6: the street has both kinds of addresses, the storing
// server is named by its IPv6 one. The phone registers both of its own, whichever
// comes first, and again when another IPv4 lease comes.
func TestServerThatIsReachedByIPv6(t *testing.T) {
	ctx, bed := ownTown(t, Config{})
	server := netip.MustParsePrefix("2001:db8:77::10/64")
	advertise(ctx, t, bed.ISP)
	must(t, bed.Server.host.address("eth0", server, netip.Addr{}))
	must(t, bed.ISP.Say(ctx, "66,coaps://["+server.Addr().String()+"]"))
	p, err := bed.AddPhone(ctx, PhoneConfig{Name: "phone-101", MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 1}, Speech: speak(t, words[0])})
	must(t, err)
	must(t, p.PowerOn(ctx))
	must(t, p.Plug())
	both := func(four netip.Addr) func([]string) bool {
		return func(addrs []string) bool {
			return len(addrs) == 2 && slices.Contains(addrs, four.String()) && slices.Contains(addrs, address6(p).String())
		}
	}
	await(ctx, t, p, "registered")
	awaitRow(ctx, t, bed, p, both(addressOf(ctx, t, p)))
	move(ctx, t, bed, p, East.Address(70))
	awaitRow(ctx, t, bed, p, both(East.Address(70)))
}

// TestCallOverIPv6: the street has both kinds of addresses. A phone registers all
// that it has, and whoever calls it tries them in the order of RFC 6724. When IPv6
// is gone, it is called at its IPv4 address as before.
func TestCallOverIPv6(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	four := addressOf(ctx, t, b)
	withdraw := advertise(ctx, t, bed.ISP)
	for _, p := range phones {
		awaitRow(ctx, t, bed, p, func(addrs []string) bool {
			return len(addrs) == 2 && slices.Contains(addrs, address6(p).String())
		})
	}
	callWithSound(ctx, t, a, b, "102", address6(b))

	if board() == hostBoard { // nor does a telephone of another make notice the board
		b.Mark()
		s, err := bed.StartSipp("uac-holds", b.MAC.Hex(), address6(b))
		must(t, err)
		rungBy(ctx, t, b, s)
		must(t, b.OffHook(ctx))
		await(ctx, t, b, "established")
		await(ctx, t, b, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
		must(t, b.OnHook(ctx))
	}

	must(t, b.machine.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"))
	awaitRow(ctx, t, bed, b, func(addrs []string) bool { return slices.Equal(addrs, []string{four.String()}) })
	callWithSound(ctx, t, a, b, "102", four)

	withdraw()
	for _, p := range phones { // which the next test finds without
		must(t, p.machine.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"))
		awaitRow(ctx, t, bed, p, func(addrs []string) bool { return len(addrs) == 1 })
		must(t, p.machine.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0"))
	}
}

// awaitRow waits until the storing server holds addresses of p that ok accepts.
func awaitRow(ctx context.Context, t testing.TB, bed *Bed, p *Phone, ok func(addrs []string) bool) {
	t.Helper()
	awaitRowAt(ctx, t, bed.Server, p, ok)
}

// awaitRowAt is awaitRow with another storing server.
func awaitRowAt(ctx context.Context, t testing.TB, at *Server, p *Phone, ok func(addrs []string) bool) {
	t.Helper()
	look := time.NewTicker(100 * time.Millisecond) // the server tells operators nothing unasked
	defer look.Stop()
	for {
		row, err := at.Row(ctx, p.MAC)
		if err == nil && ok(row.Addrs) {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("the row of %s is %+v, %v", p.Name, row, err)
		}
	}
}
