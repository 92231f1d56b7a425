package netlink

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	discoverType = dhcpv4.MessageTypeDiscover
	requestType  = dhcpv4.MessageTypeRequest
	declineType  = dhcpv4.MessageTypeDecline
	releaseType  = dhcpv4.MessageTypeRelease
)

func TestLeaseOfAFreshPhone(t *testing.T) {
	s := newSimulation(t)
	s.server = pool(simAddr)
	s.plug()
	if s.run(holdForProbe - 1); len(s.events) > 0 {
		t.Error("bound before the probe could be answered")
	}
	s.run(1)
	e := s.want(Bound)[0]
	if l := e.Lease; l.Prefix != netip.PrefixFrom(simAddr, 24) || l.Router != simServer || l.StoringServer != "storing.example" ||
		l.MAC != simMAC || l.Interface != "eth0" || l.Server != simServer || l.Expiry.Sub(l.Start) != time.Hour {
		t.Errorf("lease is %+v", l)
	}
	if !s.kernel[e.Lease.Prefix] || s.stored.Prefix != e.Lease.Prefix {
		t.Errorf("kernel has %v, stored is %v", s.kernel, s.stored.Prefix)
	}
	for _, d := range s.sent {
		for _, code := range []dhcpv4.OptionCode{
			dhcpv4.OptionTFTPServerName, dhcpv4.GenericOptionCode(160), dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers, dhcpv4.OptionIPAddressLeaseTime,
			dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionClasslessStaticRoute,
		} {
			if !d.IsOptionRequested(code) {
				t.Errorf("%v does not ask for option %v", d.MessageType(), code)
			}
		}
	}
	if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{discoverType, requestType}) {
		t.Errorf("sent %v", got)
	}
	s.run(10 * time.Second)
	a := sendProbe{simAddr}
	b := sendAnnounce{simAddr}
	if want := []any{a, b, a, a, b, b}; !slices.Equal(s.arp, want) {
		t.Errorf("ARP is %v; want %v", s.arp, want)
	}
}

func TestRenewal(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	s.run(l.Renew.Sub(s.now))
	r := s.want(Renewed)[0].Lease
	if !r.Start.Equal(l.Renew) || r.Expiry.Sub(r.Start) != time.Hour {
		t.Errorf("renewed at %v until %v", r.Start, r.Expiry)
	}
	if len(s.sent) != 1 || s.unicast[0] != simServer || addrFrom(s.sent[0].ClientIPAddr) != simAddr ||
		s.sent[0].Options.Has(dhcpv4.OptionServerIdentifier) || s.sent[0].Options.Has(dhcpv4.OptionRequestedIPAddress) {
		t.Errorf("sent %v to %v", s.sent, s.unicast)
	}
}

func TestSilentServerUntilExpiry(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	s.server = nil
	s.run(l.Expiry.Sub(s.now) - 1)
	s.want()
	for _, d := range s.sent {
		if d.MessageType() != requestType {
			t.Errorf("sent %v", d.MessageType())
		}
	}
	to := slices.Compact(slices.Clone(s.unicast))
	if !slices.Equal(to, []netip.Addr{simServer, {}}) || len(s.sent) > 40 {
		t.Errorf("%d requests to %v", len(s.sent), to)
	}
	s.kinds()
	s.run(1)
	if e := s.want(Lost)[0]; e.Reason != "expired" || e.Lease.Prefix != l.Prefix {
		t.Errorf("lost %v because %q", e.Lease.Prefix, e.Reason)
	}
	if len(s.kernel) != 0 {
		t.Errorf("kernel still has %v", s.kernel)
	}
	s.run(time.Hour)
	if n := len(s.sent); n < 20 || n > 120 {
		t.Errorf("%d DISCOVERs in an hour", n)
	}
	s.server = pool(simNext)
	s.run(2 * maxRetry)
	s.want(Bound)
}

func TestRebindingAcceptsAnotherServer(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	other := netip.MustParseAddr("192.0.2.2")
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		r.server = other
		return []reply{r}
	}
	s.run(l.Rebind.Sub(s.now) - 1)
	s.want()
	s.run(1)
	if r := s.want(Renewed)[0].Lease; r.Server != other {
		t.Errorf("server is %v", r.Server)
	}
}

func TestNak(t *testing.T) {
	tests := []struct {
		name   string
		server func(*dhcpv4.DHCPv4) []reply
		want   []EventKind
	}{
		{"and another address at once", pool(simNext), []EventKind{Bound}},
		{"and nothing else", func(d *dhcpv4.DHCPv4) []reply {
			if d.MessageType() == requestType {
				return []reply{{kind: dhcpv4.MessageTypeNak, server: simServer}}
			}
			return nil
		}, []EventKind{Lost}},
		{"from a rogue", func(d *dhcpv4.DHCPv4) []reply {
			return append([]reply{{kind: dhcpv4.MessageTypeNak, server: simNext}}, pool(simAddr)(d)...)
		}, []EventKind{Renewed}},
		{"to every request", func(d *dhcpv4.DHCPv4) []reply {
			if d.MessageType() == requestType {
				return []reply{{kind: dhcpv4.MessageTypeNak, server: simServer}}
			}
			return pool(simNext)(d)
		}, []EventKind{Lost}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			l := s.bind()
			s.server = tt.server
			s.run(l.Renew.Sub(s.now) + time.Minute)
			e := s.want(tt.want...)[0]
			if e.Kind == Lost && e.Reason != "nak" {
				t.Errorf("lost because %q", e.Reason)
			}
			if e.Kind == Bound && (e.Lease.Addr() != simNext || s.kernel[l.Prefix]) {
				t.Errorf("bound to %v, kernel has %v", e.Lease.Prefix, s.kernel)
			}
			if len(s.sent) > 30 {
				t.Errorf("%d messages in a minute", len(s.sent))
			}
		})
	}
}

func TestCable(t *testing.T) {
	t.Run("flaps", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.unplug()
		s.run(linkGrace - 1)
		s.plug()
		s.run(time.Second)
		s.want(Renewed)
	})
	t.Run("back on the same network", func(t *testing.T) {
		s := newSimulation(t)
		l := s.bind()
		s.unplug()
		s.run(time.Minute)
		if e := s.want(Lost)[0]; e.Reason != "link down" {
			t.Errorf("lost because %q", e.Reason)
		}
		s.plug()
		if b := s.want(Bound)[0]; b.Lease.Prefix != l.Prefix {
			t.Errorf("bound to %v", b.Lease.Prefix)
		}
		if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{requestType}) {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("on another network", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.unplug()
		s.server = pool(simNext)
		s.plug()
		s.run(time.Second)
		s.want(Bound)
		if len(s.kernel) != 1 {
			t.Errorf("kernel has %v", s.kernel)
		}
	})
	t.Run("on a network whose server is silent about others", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.unplug()
		s.server = func(d *dhcpv4.DHCPv4) []reply {
			if addrFrom(d.RequestedIPAddress()) == simAddr && d.MessageType() == requestType {
				return nil
			}
			return pool(simNext)(d)
		}
		s.plug()
		s.run(rebootWait + holdForProbe)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext {
			t.Errorf("bound to %v", e.Lease.Prefix)
		}
	})
	t.Run("while the server is dead", func(t *testing.T) {
		s := newSimulation(t)
		l := s.bind()
		s.unplug()
		s.run(time.Minute)
		s.want(Lost)
		s.server = nil
		s.plug()
		s.run(15 * time.Second)
		if e := s.want(Bound)[0]; !e.Lease.Expiry.Equal(l.Expiry) {
			t.Errorf("kept until %v; the lease ends at %v", e.Lease.Expiry, l.Expiry)
		}
		s.run(time.Hour)
		s.want(Lost)
	})
	t.Run("out after a refusal, and in again", func(t *testing.T) {
		s := newSimulation(t)
		l := s.bind()
		s.server = func(d *dhcpv4.DHCPv4) []reply { return []reply{{kind: dhcpv4.MessageTypeNak, server: simServer}} }
		s.run(l.Renew.Sub(s.now))
		s.unplug()
		s.run(linkGrace / 2)
		s.plug()
		s.want()
		s.run(replaceGrace)
		if e := s.want(Lost)[0]; e.Reason != "nak" || len(s.kernel) != 0 {
			t.Errorf("lost because %q, kernel has %v", e.Reason, s.kernel)
		}
	})
	t.Run("away until expiry", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.unplug()
		s.run(2 * time.Hour)
		s.want(Lost)
		if len(s.kernel) != 0 {
			t.Errorf("kernel has %v", s.kernel)
		}
	})
}

func TestNetworkAttachment(t *testing.T) {
	away := func(t *testing.T) (*simulation, Lease) {
		s := newSimulation(t)
		s.router = otherMAC
		l := s.bind()
		if s.m.routerAt != otherMAC {
			t.Fatal("the router was not learned")
		}
		s.unplug()
		s.run(time.Minute)
		s.want(Lost)
		s.server = nil
		return s, l
	}
	t.Run("the router is there, the server silent", func(t *testing.T) {
		s, l := away(t)
		s.plug()
		s.run(attachWait)
		if b := s.want(Bound)[0].Lease; b.Prefix != l.Prefix || !b.Expiry.Equal(l.Expiry) {
			t.Errorf("bound to %v until %v", b.Prefix, b.Expiry)
		}
		if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{requestType}) {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("the router is gone, the server silent about others", func(t *testing.T) {
		s, _ := away(t)
		s.router = MAC{}
		s.server = func(d *dhcpv4.DHCPv4) []reply {
			if addrFrom(d.RequestedIPAddress()) == simAddr && d.MessageType() == requestType {
				return nil
			}
			return pool(simNext)(d)
		}
		s.plug()
		s.run(strangerWait + holdForProbe)
		if b := s.want(Bound)[0].Lease; b.Addr() != simNext {
			t.Errorf("bound to %v", b.Prefix)
		}
	})
	t.Run("the router is another one", func(t *testing.T) {
		s, _ := away(t)
		s.router = MAC{2, 0, 0x5e, 0, 0x53, 9}
		s.plug()
		s.give(arpSeen{addr: simServer, from: s.router})
		s.run(rebootWait)
		s.want()
	})
	t.Run("the router is there, the server refuses", func(t *testing.T) {
		s, _ := away(t)
		s.server = pool(simNext)
		s.plug()
		s.run(time.Second)
		if b := s.want(Bound)[0].Lease; b.Addr() != simNext {
			t.Errorf("bound to %v", b.Prefix)
		}
	})
}

func TestStoredLease(t *testing.T) {
	for _, tt := range []struct {
		name   string
		age    time.Duration
		server func(*dhcpv4.DHCPv4) []reply
		want   []EventKind
		sent   []dhcpv4.MessageType
	}{
		{"confirmed", time.Minute, pool(simAddr), []EventKind{Bound}, []dhcpv4.MessageType{requestType}},
		{"refused", time.Minute, pool(simNext), []EventKind{Bound}, []dhcpv4.MessageType{requestType, discoverType, requestType}},
		{"no server", time.Minute, nil, []EventKind{Bound}, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType}},
		{"expired, no server", 2 * time.Hour, nil, nil, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType, discoverType}},
		{"from the future, no server", -time.Hour, nil, nil, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType, discoverType}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			l := s.bind()
			s = newSimulation(t)
			s.server = tt.server
			s.now = l.Start.Add(tt.age)
			s.m.start(l)
			s.plug()
			s.run(12 * time.Second)
			s.want(tt.want...)
			if got := s.kinds(); !slices.Equal(got, tt.sent) {
				t.Errorf("sent %v; want %v", got, tt.sent)
			}
		})
	}
}

func TestConflict(t *testing.T) {
	claim := arpSeen{addr: simAddr, from: otherMAC}
	t.Run("before binding", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		s.server = pool(simNext)
		s.give(claim)
		s.run(time.Second)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext || s.kernel[netip.PrefixFrom(simAddr, 24)] {
			t.Errorf("bound to %v, kernel has %v", e.Lease.Prefix, s.kernel)
		}
		if !slices.Contains(s.kinds(), declineType) {
			t.Error("no DECLINE")
		}
	})
	t.Run("again and again", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		for range 10 {
			s.give(claim)
			s.run(time.Second)
		}
		if n := len(s.kinds()); n > 10 {
			t.Errorf("%d messages in ten seconds", n)
		}
	})
	t.Run("while probing", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		s.run(probeGap)
		s.want(Bound)
		s.server = nil
		s.give(claim)
		if e := s.want(Lost)[0]; e.Reason != "conflict" || len(s.kernel) != 0 {
			t.Errorf("lost because %q, kernel has %v", e.Reason, s.kernel)
		}
	})
	t.Run("after binding", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.give(claim)
		s.want()
		if want := []any{sendAnnounce{simAddr}}; !slices.Equal(s.arp, want) {
			t.Errorf("ARP is %v; want %v", s.arp, want)
		}
		s.run(2 * defendInterval)
		s.give(claim)
		s.want()
		s.run(time.Second)
		s.give(claim)
		s.want(Lost)
	})
	t.Run("with ourselves, or about another address", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.give(arpSeen{addr: simAddr, from: simMAC})
		s.give(arpSeen{addr: simNext, from: otherMAC})
		s.give(arpSeen{addr: simAddr, from: otherMAC, probe: true})
		s.want()
		if len(s.arp) != 0 {
			t.Errorf("ARP is %v", s.arp)
		}
	})
}

func TestFullConflictDetection(t *testing.T) {
	claim := arpSeen{addr: simAddr, from: otherMAC}
	t.Run("nobody has the address", func(t *testing.T) {
		s := newSimulation(t)
		s.m.fullCheck = true
		s.server = pool(simAddr)
		s.plug()
		begun := s.now
		s.run(4*time.Second - 1) // two gaps of a second, and two seconds
		s.want()
		s.run(fullProbeWait + 2*fullProbeGap + 1)
		if e := s.want(Bound)[0]; e.At.Sub(begun) < 4*time.Second {
			t.Errorf("bound after %v", e.At.Sub(begun))
		}
		s.run(time.Minute)
		a, b := sendProbe{simAddr}, sendAnnounce{simAddr}
		if want := []any{a, a, a, b, b}; !slices.Equal(s.arp, want) {
			t.Errorf("ARP is %v; want %v", s.arp, want)
		}
	})
	t.Run("another host has it", func(t *testing.T) {
		s := newSimulation(t)
		s.m.fullCheck = true
		s.server = pool(simAddr)
		s.plug()
		s.run(3 * time.Second)
		s.server = pool(simNext)
		s.give(claim)
		s.run(8 * time.Second)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext || s.kernel[netip.PrefixFrom(simAddr, 24)] {
			t.Errorf("bound to %v, kernel has %v", e.Lease.Prefix, s.kernel)
		}
	})
	t.Run("another host wants it too", func(t *testing.T) {
		s := newSimulation(t)
		s.m.fullCheck = true
		s.server = pool(simAddr)
		s.plug()
		s.give(arpSeen{addr: simAddr, from: otherMAC, probe: true})
		if !slices.Contains(s.kinds(), declineType) {
			t.Error("no DECLINE")
		}
	})
	t.Run("the address is renewed", func(t *testing.T) {
		s := newSimulation(t)
		s.m.fullCheck = true
		s.server = pool(simAddr)
		s.plug()
		s.run(10 * time.Second)
		l := s.want(Bound)[0].Lease
		s.arp = nil
		s.run(l.Renew.Sub(s.now))
		s.want(Renewed)
		if len(s.arp) != 0 {
			t.Errorf("ARP is %v", s.arp)
		}
	})
}

func TestNetworkForIPv6Alone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		onlySix bool
		want    []EventKind
	}{
		{"and a phone that has it", true, nil},
		{"and a phone without", false, []EventKind{Bound}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			s.m.onlySix = tt.onlySix
			s.server = func(d *dhcpv4.DHCPv4) []reply {
				if d.IsOptionRequested(dhcpv4.GenericOptionCode(optOnlySix)) != tt.onlySix {
					t.Error("the option is asked for by the wrong one")
				}
				out := pool(simAddr)(d)
				for i := range out {
					out[i].onlySix = minOnlySix
					if tt.onlySix { // a server may have none to offer (RFC 8925 §3.3)
						out[i].yours = netip.IPv4Unspecified()
					}
				}
				return out
			}
			s.plug()
			s.run(minOnlySix - time.Second)
			s.want(tt.want...)
			if tt.onlySix && len(s.sent) != 1 {
				t.Errorf("sent %v", s.kinds())
			}
			if s.run(2 * time.Second); tt.onlySix && len(s.sent) != 2 {
				t.Errorf("after the wait sent %v", s.kinds())
			}
		})
	}
}

func TestRelease(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	s.give(stopped{})
	if e := s.want(Lost)[0]; e.Reason != "released" || e.Lease.Prefix != l.Prefix {
		t.Errorf("lost %v because %q", e.Lease.Prefix, e.Reason)
	}
	if len(s.sent) != 1 || s.sent[0].MessageType() != releaseType || s.unicast[0] != simServer ||
		addrFrom(s.sent[0].ClientIPAddr) != simAddr || addrFrom(s.sent[0].ServerIdentifier()) != simServer {
		t.Errorf("sent %v to %v", s.sent, s.unicast)
	}
	if len(s.kernel) != 0 || s.stored.Prefix.IsValid() || !s.m.deadline().IsZero() {
		t.Errorf("kernel has %v, stored is %v, deadline %v", s.kernel, s.stored.Prefix, s.m.deadline())
	}
}

func TestOfferThatLeadsToNothing(t *testing.T) {
	s := newSimulation(t)
	rogue := netip.MustParseAddr("192.0.2.66")
	s.server = func(d *dhcpv4.DHCPv4) []reply { // its offer is always first
		offer := goodReply(dhcpv4.MessageTypeOffer, simNext)
		offer.server = rogue
		switch id := addrFrom(d.ServerIdentifier()); {
		case d.MessageType() == discoverType:
			return append([]reply{offer}, pool(simAddr)(d)...)
		case id == simServer:
			return pool(simAddr)(d)
		}
		return nil
	}
	s.plug()
	s.run(5 * time.Second)
	if e := s.want(Bound)[0]; e.Lease.Server != simServer {
		t.Errorf("bound by %v", e.Lease.Server)
	}
}

// TestSlowServer: the only server takes seven seconds to acknowledge. It gets the
// time once it is clear that there is no other.
func TestSlowServer(t *testing.T) {
	s := newSimulation(t)
	var asked []*dhcpv4.DHCPv4
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		if d.MessageType() == discoverType {
			return pool(simAddr)(d)
		}
		asked = append(asked, d)
		return nil
	}
	s.plug()
	for range 60 {
		s.run(time.Second)
		for _, d := range asked {
			r := pool(simAddr)(d)[0]
			if r.xid = d.TransactionID; s.m.state == stateRequesting && s.m.xid == r.xid && s.now.Sub(s.m.begun) > 7*time.Second {
				s.give(received{r})
			}
		}
	}
	s.want(Bound)
}

func TestKernelThatRefuses(t *testing.T) {
	s := newSimulation(t)
	s.failing = errors.New("no memory")
	s.server = pool(simAddr)
	s.plug()
	s.run(time.Minute)
	s.want()
	if n := len(s.sent); n > 20 {
		t.Errorf("%d messages in a minute", n)
	}
	s.failing = nil
	s.run(2 * maxRetry)
	s.want(Bound)
}

func TestTampering(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	for range 5 {
		delete(s.kernel, l.Prefix)
		s.give(tampered{})
	}
	s.run(2 * time.Second)
	s.want()
	if !s.kernel[l.Prefix] {
		t.Error("the address is not back")
	}
}

func TestRapidCommit(t *testing.T) {
	s := newSimulation(t)
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		r.rapid = d.Options.Has(dhcpv4.GenericOptionCode(optRapidCommit))
		return []reply{r}
	}
	s.plug()
	s.run(time.Second)
	s.want(Bound)
	if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{discoverType}) {
		t.Errorf("sent %v", got)
	}
}

func TestLeaseTimes(t *testing.T) {
	s := newSimulation(t)
	for _, d := range []time.Duration{time.Second, 2 * time.Second, time.Minute, 24 * time.Hour, forever - time.Second} {
		for _, t1 := range []time.Duration{0, time.Second, d / 2, d, 2 * d} {
			for _, t2 := range []time.Duration{0, time.Second, d / 2, d, 2 * d} {
				r1, r2 := leaseTimes(s.m.rand, d, t1, t2)
				if r1 <= 0 || r1 >= r2 || r2 >= d {
					t.Errorf("leaseTimes(%v, %v, %v) = %v, %v", d, t1, t2, r1, r2)
				}
			}
		}
	}
}

// TestFlappingLink: a cable with a loose contact, out for a fifth of a second and
// in for as long, two minutes on end. Nobody is told of a loss or of another
// address, and the server hears from the phone once each time and no more.
func TestFlappingLink(t *testing.T) {
	s := newSimulation(t)
	s.bind()
	flaps := 0
	for end := s.now.Add(2 * time.Minute); s.now.Before(end); flaps++ {
		s.unplug()
		s.run(200 * time.Millisecond)
		s.plug()
		s.run(200 * time.Millisecond)
	}
	for _, e := range s.events {
		if e.Kind != Renewed {
			t.Fatalf("told of %v (%s)", e.Kind, e.Reason)
		}
	}
	s.events = nil
	if n := len(s.kinds()); n != flaps {
		t.Errorf("%d messages for %d flaps", n, flaps)
	}
}

// TestStreetAfterAPowerCut: a thousand phones get their power back at one moment,
// and no server answers yet. What each repeats is spread, more with each time.
func TestStreetAfterAPowerCut(t *testing.T) {
	const phones, slot = 1000, 100 * time.Millisecond
	begin := newSimulation(t).now
	var repeated [5]map[int64]int // by how often, by slot
	for i := range repeated {
		repeated[i] = map[int64]int{}
	}
	for n := range phones {
		s := newSimulation(t)
		s.m.rand = rand.New(rand.NewPCG(uint64(n), 7))
		s.plug()
		for i := range repeated {
			s.now = s.m.deadline()
			s.give(tick{})
			repeated[i][int64(s.now.Sub(begin)/slot)]++
		}
		if len(s.sent) != 1+len(repeated) {
			t.Fatalf("sent %v", s.kinds())
		}
	}
	// A second more or less a quarter is five slots; the next wait ten more, and so
	// on. Twice the mean is chance.
	spread := 5
	for i, slots := range repeated {
		most := 0
		for _, n := range slots {
			most = max(most, n)
		}
		if most > 2*phones/spread {
			t.Errorf("repetition %d: %d of %d in one slot of %v", i+1, most, phones, slot)
		}
		if i < 2 {
			spread *= 2
		}
	}
}

// TestUserClass: option 77 of DISCOVER and REQUEST (RFC 3004), each class with
// its length before it.
func TestUserClass(t *testing.T) {
	s := newSimulation(t)
	s.m.userClass = "desk"
	s.server = pool(simAddr)
	s.plug()
	for _, d := range s.sent {
		if got := string(d.Options[77]); got != "\x04desk" {
			t.Errorf("%v says %q", d.MessageType(), got)
		}
	}
	if len(s.sent) != 2 {
		t.Errorf("sent %v", s.kinds())
	}
}
