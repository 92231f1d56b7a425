package netlink

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
)

func TestCable(t *testing.T) {
	t.Run("flaps", func(t *testing.T) {
		s := newSimulation(t)
		s.bind()
		s.unplug()
		s.run(link.Grace - 1)
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
		s.run(link.Grace / 2)
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
		s.give(arp.Claim{Addr: simServer, From: s.router})
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
	// The first wait is half a second, which is five slots, more or less; the next one
	// ten more, and so on. Twice the mean is chance.
	spread := 5
	for i, slots := range repeated {
		most := 0
		for at, n := range slots {
			most = max(most, n)
			if i == 0 && at > 5 {
				t.Errorf("%d ask again only in slot %d of %v", n, at, slot)
			}
		}
		if most > 2*phones/spread {
			t.Errorf("repetition %d: %d of %d in one slot of %v", i+1, most, phones, slot)
		}
		if i < 2 {
			spread *= 2
		}
	}
}
