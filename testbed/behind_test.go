package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flexphone/testbed/nat"
)

// closed is the NAT of most homes: nobody is let in who was not spoken to.
var closed = nat.Config{Filter: nat.Port}

// addBehind builds the phone with that number in a home and waits until it is in
// standby, and the row says that it is behind a NAT, and besides what is given.
func addBehind(ctx context.Context, t testing.TB, bed *Bed, home *Home, number int, addr string, says ...string) *Phone {
	t.Helper()
	return addBehindAt(ctx, t, bed, bed.Server, home, number, addr, says...)
}

// addBehindAt is addBehind with another storing server.
func addBehindAt(ctx context.Context, t testing.TB, bed *Bed, server *Server, home *Home, number int, addr string, says ...string) *Phone {
	t.Helper()
	p, err := bed.AddPhone(ctx, PhoneConfig{
		Name:   fmt.Sprintf("phone-%d", number),
		MAC:    MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
		Speech: speak(t, words[(number-101)%len(words)]),
		Home:   home, Addr: netip.MustParseAddr(addr), StoringServer: server.Address(),
	})
	must(t, err)
	must(t, p.PowerOn(ctx))
	must(t, p.Plug())
	await(ctx, t, p, "registered")
	must(t, server.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
	await(ctx, t, p, "registered", append(says, "reach", "nat")...)
	return p
}

// homes are n homes with a NAT each, in a town of their own.
func homes(t testing.TB, n int, c nat.Config) (context.Context, *Bed, []*Home) {
	t.Helper()
	if board() != hostBoard {
		t.Skip("it puts programs behind routers")
	}
	ctx, bed, _ := town(t, Config{}, 0)
	return ctx, bed, homesIn(t, bed, n, c)
}

// homesIn adds n homes to a town.
func homesIn(t testing.TB, bed *Bed, n int, c nat.Config) []*Home {
	t.Helper()
	all := make([]*Home, n)
	for i := range all {
		var err error
		all[i], err = bed.AddHome(fmt.Sprintf("home-%d", i+1), West.Address(2*i), c)
		must(t, err)
	}
	return all
}

// linkOf is what p says of the link of its call.
func linkOf(ctx context.Context, t testing.TB, p *Phone) string {
	t.Helper()
	s, err := p.Status(ctx)
	must(t, err)
	for _, link := range []string{"direct", "relayed"} {
		if strings.Contains(string(s.Call), `"link":"`+link+`"`) {
			return link
		}
	}
	return ""
}

// Phones behind NATs that let no connection in are called and call, whoever hangs up,
// and also where both have the same address. They hear each other.
func TestCallsFromBehindNATs(t *testing.T) {
	ctx, bed, all := homes(t, 2, closed)
	a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
	b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
	c := addPhone(ctx, t, bed, 103)
	for _, tt := range []struct {
		caller, callee *Phone
		number, link   string
	}{
		{a, c, "103", "direct"},
		{c, a, "101", "relayed"},
		{a, b, "102", "relayed"},
		{b, a, "101", "relayed"},
	} {
		talk, err := Call(ctx, tt.caller, tt.callee, tt.number)
		must(t, err)
		t.Logf("%s calls %s: rings after %v", tt.caller.Name, tt.number, talk.Rang.Sub(talk.Dialed))
		for _, p := range []*Phone{tt.caller, tt.callee} {
			if link := linkOf(ctx, t, p); link != tt.link {
				t.Errorf("%s calls %s: the link is %q at %s; want %s", tt.caller.Name, tt.number, link, p.Name, tt.link)
			}
		}
		hearEachOther(ctx, t, tt.caller, tt.callee)
		must(t, talk.HangUp(ctx, tt.callee))
	}
}

// A call by the relay goes on when the phones move, and when the storing server is
// restarted, with its sound, and ends when it is hung up.
func TestRelayedCallMoves(t *testing.T) {
	ctx, bed, all := homes(t, 2, closed)
	a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
	b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.3")
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	for i, p := range []*Phone{a, b} {
		p.Mark()
		must(t, p.Move(netip.AddrFrom4([4]byte{192, 168, 77, byte(10 + i)})))
		await(ctx, t, p, "moved", "who", "local")
	}
	hearEachOther(ctx, t, a, b)
	must(t, bed.Server.Stop())
	must(t, bed.Server.Start(ctx))
	b.Mark()
	must(t, b.Move(netip.MustParseAddr("192.168.77.20")))
	await(ctx, t, b, "moved", "who", "local")
	hearEachOther(ctx, t, a, b)
	must(t, talk.HangUp(ctx, b))
}

// A router that speaks PCP or NAT-PMP lets callers in: they call the phone directly, at
// the address that its row names beside its own. Given back, nobody gets in.
func TestRouterLetsCallsIn(t *testing.T) {
	ctx, bed, all := homes(t, 2, closed)
	must(t, bed.Grant(all[0], true))
	must(t, bed.Grant(all[1], false))
	caller := addPhone(ctx, t, bed, 101)
	for i, home := range all {
		number := 102 + i
		p := addBehind(ctx, t, bed, home, number, "192.168.77.2", "address", "192.168.77.2 "+home.Outside.String())
		talk, err := Call(ctx, caller, p, fmt.Sprint(number))
		must(t, err)
		t.Logf("%d rings after %v", number, talk.Rang.Sub(talk.Dialed))
		for _, one := range []*Phone{caller, p} {
			if link := linkOf(ctx, t, one); link != "direct" {
				t.Errorf("%s calls %d: the link is %q at %s; want direct", caller.Name, number, link, one.Name)
			}
		}
		must(t, talk.HangUp(ctx, p))
		must(t, p.PowerOff())
		if home.NAT.Grants(nat.TCP, 5061) {
			t.Errorf("%s has not given its port back", p.Name)
		}
	}
}
