package netlink

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
)

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
			if s.disowned {
				t.Error("nobody is answered any more")
			}
		})
	}
}

// A refused address stays for a moment, in which the kernel does not say that it is ours; it
// does again with another one, and when it is gone.
func TestRefusedAddressIsDisowned(t *testing.T) {
	for _, another := range []bool{false, true} {
		s := newSimulation(t)
		l := s.bind()
		refuses := true
		s.server = func(d *dhcpv4.DHCPv4) []reply {
			switch {
			case refuses && d.MessageType() == requestType:
				return []reply{{kind: dhcpv4.MessageTypeNak, server: simServer}}
			case refuses:
				return nil
			}
			return pool(simNext)(d)
		}
		s.run(l.Renew.Sub(s.now) + replaceGrace/4)
		if !s.kernel[l.Prefix] || !s.disowned {
			t.Errorf("kernel has %v, disowned %v", s.kernel, s.disowned)
		}
		refuses = !another
		s.run(2 * replaceGrace)
		if s.kernel[l.Prefix] || s.disowned || (len(s.kernel) == 1) != another {
			t.Errorf("afterwards the kernel has %v, disowned %v", s.kernel, s.disowned)
		}
	}
}

func TestConflict(t *testing.T) {
	claim := arp.Claim{Addr: simAddr, From: otherMAC}
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
		s.run(arp.FastProbeGap)
		s.want(Bound)
		s.server = nil
		s.give(claim)
		s.run(hearing)
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
	})
	t.Run("again and again after binding", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		for range 60 {
			s.give(claim)
			s.run(time.Second)
		}
		s.want()
		if n := len(s.arp); n < 5 || n > 6 {
			t.Errorf("defended %d times in a minute; want each %v", n, arp.DefendInterval)
		}
		if got := s.kinds(); len(got) > 0 {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("with a proxy that answers for every address", func(t *testing.T) {
		for _, full := range []bool{false, true} {
			s := newSimulation(t)
			s.m.fullCheck = full
			s.proxy = otherMAC
			s.server = pool(simAddr)
			s.plug()
			s.run(10 * time.Second)
			if e := s.want(Bound)[0]; e.Lease.Addr() != simAddr {
				t.Errorf("bound to %v", e.Lease.Prefix)
			}
			if slices.Contains(s.kinds(), declineType) {
				t.Error("declined what a proxy answered for")
			}
			s.unplug()
			s.run(time.Minute)
			s.want(Lost)
			s.plug()
			s.run(time.Minute)
			s.want(Bound)
		}
	})
	t.Run("with a proxy that shows itself when the address is in use", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		s.run(2 * holdForProbe)
		s.want(Bound)
		s.proxy = otherMAC
		s.run(time.Minute)
		s.want()
	})
	t.Run("with a proxy too slow for its hearing", func(t *testing.T) {
		s := newSimulation(t)
		pools := []netip.Addr{simAddr, simNext}
		s.server = func(d *dhcpv4.DHCPv4) []reply { return pool(pools[0])(d) }
		s.plug()
		s.give(claim)
		pools = pools[1:]
		s.run(hearing)
		s.give(arp.Claim{Addr: simNext, From: otherMAC})
		s.run(hearing)
		s.give(arp.Claim{Addr: simNext, From: otherMAC})
		s.run(2 * declineWait)
		for range 3 {
			s.give(arp.Claim{Addr: simNext, From: otherMAC})
		}
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext || s.m.suspicion.proxy != otherMAC {
			t.Errorf("bound to %v", e.Lease.Prefix)
		}
	})
	t.Run("with a host that has one more address", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		s.server = pool(simNext)
		s.give(claim)
		for _, a := range s.m.suspicion.decoys[:1] {
			s.give(arp.Claim{Addr: a, From: otherMAC})
		}
		s.run(time.Second)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext {
			t.Errorf("bound to %v", e.Lease.Prefix)
		}
	})
	t.Run("with a host, while a third one speaks", func(t *testing.T) {
		s := newSimulation(t)
		s.server = pool(simAddr)
		s.plug()
		s.server = pool(simNext)
		s.give(claim)
		for _, a := range slices.Clone(s.m.suspicion.decoys) {
			s.give(arp.Claim{Addr: a, From: MAC{2, 0, 0, 0, 0, 3}})
			s.give(arp.Claim{Addr: a, From: otherMAC, Probe: true})
		}
		s.run(time.Second)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext {
			t.Errorf("bound to %v", e.Lease.Prefix)
		}
	})
	t.Run("with ourselves, or about another address", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.give(arp.Claim{Addr: simAddr, From: simMAC})
		s.give(arp.Claim{Addr: simNext, From: otherMAC})
		s.give(arp.Claim{Addr: simAddr, From: otherMAC, Probe: true})
		s.want()
		if len(s.arp) != 0 {
			t.Errorf("ARP is %v", s.arp)
		}
	})
}

func TestFullConflictDetection(t *testing.T) {
	claim := arp.Claim{Addr: simAddr, From: otherMAC}
	t.Run("nobody has the address", func(t *testing.T) {
		s := newSimulation(t)
		s.m.fullCheck = true
		s.server = pool(simAddr)
		s.plug()
		begun := s.now
		s.run(4*time.Second - 1) // two gaps of a second, and two seconds
		s.want()
		s.run(arp.ProbeWait + 2*arp.ProbeGap + 1)
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
		s.give(arp.Claim{Addr: simAddr, From: otherMAC, Probe: true})
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
