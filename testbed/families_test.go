package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// A phone that has IPv6 alone and one that has IPv4 alone are at one storing server, which
// both families reach. They call each other by it, and speak through its relay.
func TestPhonesOfTwoFamilies(t *testing.T) {
	ofTwoFamilies(t, func(_ context.Context, _ *testing.T, bed *Bed) (six, four *Server) { return bed.Server, bed.Server })
}

// Each of them is at another server of a cluster: who calls has a pass for its own server's relay,
// and tells the other where that is reached by the other's family.
func TestPhonesOfTwoFamiliesInACluster(t *testing.T) {
	ofTwoFamilies(t, func(ctx context.Context, t *testing.T, bed *Bed) (six, four *Server) {
		nats := startNATS(t, bed)
		one := addMember(ctx, t, bed, "one", nats, 5694, nil)
		return one, addMember(ctx, t, bed, "two", nats, 5704, one)
	})
}

// ofTwoFamilies has a phone of either family call the other, each at its own server.
func ofTwoFamilies(t *testing.T, servers func(context.Context, *testing.T, *Bed) (six, four *Server)) {
	t.Helper()
	if board() != hostBoard {
		t.Skip("one of the phones is a program with an address of its own")
	}
	ctx, bed := ownTown(t, Config{})
	server := netip.MustParsePrefix("2001:db8:77::10/64")
	must(t, bed.ISP.Stop())
	// A host of several addresses would answer by UDP from the one that its kernel likes best.
	must(t, bed.Server.host.sysctl("net/ipv6/conf/eth0/accept_ra", "0"))
	advertise(ctx, t, bed.ISP)
	must(t, bed.Server.host.address("eth0", server, netip.Addr{}))
	at6, at4 := servers(ctx, t, bed)
	var phones []*Phone
	for number := 101; number <= 102; number++ {
		c := PhoneConfig{
			Name: fmt.Sprintf("phone-%d", number), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
			Speech: speak(t, words[number-101]), StoringServer: netip.AddrPortFrom(server.Addr(), uint16(at6.port)).String(),
		}
		at := at6
		if number == 102 {
			c.Addr, c.StoringServer, at = East.Address(70), at4.Address(), at4
		}
		p, err := bed.AddPhone(ctx, c)
		must(t, err)
		if number == 102 {
			must(t, p.machine.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"))
		}
		must(t, p.PowerOn(ctx))
		must(t, p.Plug())
		await(ctx, t, p, "registered")
		must(t, at.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
		phones = append(phones, p)
	}
	six, four := phones[0], phones[1]
	awaitRowAt(ctx, t, at6, six, func(addrs []string) bool { return slices.Equal(addrs, []string{address6(six).String()}) })
	awaitRowAt(ctx, t, at4, four, func(addrs []string) bool { return slices.Equal(addrs, []string{East.Address(70).String()}) })
	for _, c := range []struct {
		caller, callee *Phone
		number         string
	}{{six, four, "102"}, {four, six, "101"}} {
		talk, err := Call(ctx, c.caller, c.callee, c.number)
		must(t, err)
		for _, p := range phones {
			if got := wayOf(ctx, t, p, "relayed"); got != "relayed" {
				t.Errorf("%s calls: sound is %q at %s, want relayed", c.caller.Name, got, p.Name)
			}
			if got := linkOf(ctx, t, p); got != "relayed" {
				t.Errorf("%s calls: the link is %q at %s, want relayed", c.caller.Name, got, p.Name)
			}
		}
		hearEachOther(ctx, t, c.caller, c.callee)
		must(t, talk.HangUp(ctx, c.caller))
	}
}
