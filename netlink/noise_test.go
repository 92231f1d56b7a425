package netlink

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/noise"
)

// noisyReply is a DHCP message to mac in exchange xid, and spoiled in most cases.
func noisyReply(n noise.Noise, xid transaction, mac MAC) []byte {
	kinds := []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak, dhcpv4.MessageTypeDiscover}
	hosts := []netip.Addr{simAddr, simNext, simServer, netip.MustParseAddr("192.0.2.255"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("127.0.0.1"), netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")}
	pick := func() netip.Addr { return hosts[n.IntN(len(hosts))] }
	r := goodReply(kinds[n.IntN(len(kinds))], pick())
	r.xid, r.server, r.with.Router = xid, pick(), pick()
	r.bits = []int{0, 1, 8, 24, 30, 31, 32}[n.IntN(7)]
	r.time = []time.Duration{0, time.Second, time.Hour, forever}[n.IntN(4)]
	r.t1, r.t2 = time.Duration(n.Uint32())*time.Second, time.Duration(n.Uint32())*time.Second
	r.with.MTU, r.with.VoiceVLAN, r.classless = n.IntN(1<<16), n.IntN(5000), n.IntN(2) == 0
	for range n.IntN(4) {
		p, err := pick().Prefix(n.IntN(33))
		if err != nil {
			panic(err)
		}
		r.with.Routes = append(r.with.Routes, Route{p, pick()})
	}
	b := encodeReply(r, mac)
	if n.IntN(4) == 0 {
		return b
	}
	return n.Spoil(b, 0)
}

// noisyAdvertisement is one that no kernel takes, or that says nothing of prefixes.
func noisyAdvertisement(n noise.Noise) []byte {
	router := []netip.Addr{routerA, routerB, netip.MustParseAddr("2001:db8::1"), netip.IPv6Unspecified()}[n.IntN(4)]
	prefixes := []netip.Prefix{prefixP, prefixQ, netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("ff00::/8")}
	good := raOf(router, uint32(n.IntN(3))*600, []netip.Addr{simAddr6}, prefixes[n.IntN(4)], prefixes[n.IntN(4)])
	b := n.Spoil(good, 0)
	if says, err := parseRA(b); err == nil && len(says.prefixes) > 0 {
		b[7] = 64 // it would have been right
	}
	return b
}

// TestMachineAmongNoise: replies in the right exchange, at any moment of a client's
// life. When they end, it has the address that its server gives.
func TestMachineAmongNoise(t *testing.T) {
	n := noise.New(t)
	s := newSimulation(t)
	s.server = pool(simAddr)
	s.plug()
	const burst = 100
	for range noise.Many / burst {
		if n.IntN(4) == 0 {
			s.unplug()
			s.run(time.Duration(n.Int64N(int64(time.Second))))
			s.plug()
		}
		for range burst {
			if r, err := parseReply(noisyReply(n, s.m.xid, simMAC), simMAC); err == nil {
				s.give(received{r})
			}
			s.run(time.Duration(n.Int64N(int64(time.Minute))))
		}
		s.events = nil
		// A lease of a liar's, who named himself as its server, ends, or is refused
		// when it is renewed; one for ever ends with the cable.
		s.unplug()
		s.run(time.Second)
		s.plug()
		s.run(2*time.Hour + 2*maxRetry)
		if a := s.m.held.Addr(); a != simAddr || !s.kernel[s.m.held.Prefix] || len(s.kernel) != 1 {
			t.Fatalf("%v, holds %v, the kernel has %v", s.m.state, s.m.held.Prefix, s.kernel)
		}
	}
}

// TestHearsayAmongNoise: the prefix that the router says stays first.
func TestHearsayAmongNoise(t *testing.T) {
	n := noise.New(t)
	now := time.Unix(1_800_000_000, 0)
	var h hearsay[netip.Prefix]
	hear := func(b []byte) {
		says, err := parseRA(b)
		if err != nil {
			return
		}
		for _, p := range says.prefixes {
			h.say(now, says.router, p.valid, p.prefix)
		}
	}
	for i := range noise.Many {
		if i%100 == 0 {
			hear(raOf(routerA, 7200, nil, prefixP))
		}
		hear(noisyAdvertisement(n))
		now = now.Add(time.Duration(n.Int64N(int64(time.Second))))
		if got := h.known(now); !slices.Equal(got, []netip.Prefix{prefixP}) {
			t.Fatalf("after %d: %v", i, got)
		}
	}
}
