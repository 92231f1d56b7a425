package netlink

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
)

// aDay is a server of leases of a day.
func aDay(server func(*dhcpv4.DHCPv4) []reply) func(*dhcpv4.DHCPv4) []reply {
	return func(d *dhcpv4.DHCPv4) []reply {
		out := server(d)
		for i := range out {
			out[i].time = 24 * time.Hour
		}
		return out
	}
}

// onlyOffers is silent about addresses that it did not offer.
func onlyOffers(server func(*dhcpv4.DHCPv4) []reply) func(*dhcpv4.DHCPv4) []reply {
	return func(d *dhcpv4.DHCPv4) []reply {
		if d.MessageType() == requestType && !d.Options.Has(dhcpv4.OptionServerIdentifier) {
			return nil
		}
		return server(d)
	}
}

// TestPortThatForwardsLate: a spanning tree holds the port of a phone that has no
// lease. Whenever it opens within two minutes, the phone has an address 10 s later.
func TestPortThatForwardsLate(t *testing.T) {
	for closed := time.Duration(0); closed <= 2*time.Minute; closed += 5 * time.Second {
		s := newSimulation(t)
		s.plug()
		s.run(closed)
		s.want()
		if n := len(s.kinds()); n > 4+int(closed/(6*time.Second)) {
			t.Errorf("%d DISCOVERs in %v", n, closed)
		}
		s.server = pool(simAddr)
		s.run(10*time.Second + holdForProbe)
		if len(s.events) != 1 {
			t.Errorf("closed for %v: not bound 10 s later", closed)
		}
	}
}

// TestUnconfirmedLease: a lease of a day is kept because nobody answers. It is used,
// and asked about until somebody does.
func TestUnconfirmedLease(t *testing.T) {
	replugged := func(t *testing.T, attached bool) *simulation {
		s := newSimulation(t)
		s.server = aDay(pool(simAddr))
		if attached {
			s.router = otherMAC
		}
		s.plug()
		s.run(time.Minute)
		s.want(Bound)
		s.unplug()
		s.run(time.Minute)
		s.want(Lost)
		s.server = nil
		s.plug()
		return s
	}
	switchedOn := func(t *testing.T) *simulation {
		s := newSimulation(t)
		s.server = aDay(pool(simAddr))
		s.plug()
		s.run(time.Minute)
		l := s.want(Bound)[0].Lease
		now := s.now
		s = newSimulation(t)
		s.now = now.Add(time.Minute)
		s.m.start(l)
		s.plug()
		return s
	}
	starts := map[string]func(*testing.T) *simulation{
		"replugged, a router there":   func(t *testing.T) *simulation { return replugged(t, true) },
		"replugged, the router gone":  func(t *testing.T) *simulation { return replugged(t, false) },
		"switched on with the server": switchedOn,
	}
	for name, start := range starts {
		for _, silent := range []time.Duration{12 * time.Second, 30 * time.Second, 50 * time.Second, 2 * time.Minute, time.Hour} {
			within := 11 * time.Second
			if silent > 2*time.Minute {
				within = 2 * maxRetry
			}
			for _, tt := range []struct {
				name   string
				server func(*dhcpv4.DHCPv4) []reply
				want   netip.Addr
				kind   EventKind
			}{
				{"confirms", pool(simAddr), simAddr, Renewed},
				{"refuses", pool(simNext), simNext, Bound},
				{"offers it again", onlyOffers(pool(simAddr)), simAddr, Renewed},
				{"offers another", onlyOffers(pool(simNext)), simNext, Bound},
			} {
				t.Run(fmt.Sprintf("%s for %v, which then %s", name, silent, tt.name), func(t *testing.T) {
					s := start(t)
					s.run(silent)
					if kept := s.events[len(s.events)-1]; kept.Lease.Addr() != simAddr || kept.Lease.Doubtful == s.m.attached || s.events[0].Kind != Bound {
						t.Fatalf("kept %v", s.events)
					}
					s.events = nil
					if n := len(s.kinds()); n > 25+int(silent/(45*time.Second)) {
						t.Errorf("%d messages in %v", n, silent)
					}
					s.server = aDay(tt.server)
					wait := within
					if tt.name[0] == 'o' { // it is asked for any address in turn
						wait *= 2
					}
					s.run(wait)
					e := s.want(tt.kind)[0]
					if e.Lease.Addr() != tt.want || e.Lease.Doubtful || len(s.kernel) != 1 {
						t.Errorf("%v %v, doubtful %v", e.Kind, e.Lease.Prefix, e.Lease.Doubtful)
					}
					s.kinds()
					if s.run(10 * time.Hour); len(s.sent) > 0 {
						t.Errorf("goes on asking: %v", s.kinds())
					}
				})
			}
		}
	}
	t.Run("nobody answers until it ends", func(t *testing.T) {
		s := replugged(t, false)
		s.run(23 * time.Hour)
		s.want(Bound)
		s.run(time.Hour)
		s.want(Lost)
		s.server = pool(simNext)
		s.run(2 * maxRetry)
		s.want(Bound)
	})
	t.Run("somebody removes it meanwhile", func(t *testing.T) {
		s := replugged(t, false)
		s.run(time.Minute)
		l := s.want(Bound)[0].Lease
		delete(s.kernel, l.Prefix)
		s.give(tampered{})
		if !s.kernel[l.Prefix] {
			t.Error("it is not put back")
		}
		s.server = aDay(pool(simAddr))
		s.run(2 * portRetry)
		s.want(Renewed)
	})
	t.Run("another host claims it meanwhile", func(t *testing.T) {
		s := replugged(t, false)
		s.run(time.Minute)
		s.want(Bound)
		s.arp = nil
		s.give(arp.Claim{Addr: simAddr, From: otherMAC})
		s.want()
		if len(s.arp) != 1 {
			t.Errorf("ARP is %v; want it defended", s.arp)
		}
	})
	t.Run("another interface may be better", func(t *testing.T) {
		s := replugged(t, false)
		s.m.metric = 100
		s.run(time.Minute)
		if l := s.want(Bound)[0].Lease; l.Metric != 100+doubtMetric {
			t.Errorf("its metric is %d", l.Metric)
		}
		s.server = aDay(pool(simAddr))
		s.run(2 * portRetry)
		if l := s.want(Renewed)[0].Lease; l.Metric != 100 {
			t.Errorf("confirmed, its metric is %d", l.Metric)
		}
	})
}

// TestNoGapInAsking: whatever a phone holds meanwhile, nobody who plugs a server in
// within two minutes waits for longer than eight seconds and a quarter of that.
func TestNoGapInAsking(t *testing.T) {
	for _, router := range []MAC{{}, otherMAC} {
		s := newSimulation(t)
		s.router = router
		s.server = aDay(pool(simAddr))
		s.plug()
		s.run(time.Minute)
		s.unplug()
		s.run(time.Minute)
		s.kinds()
		s.server = nil
		s.plug()
		last, most := s.now, time.Duration(0)
		for end := s.now.Add(2 * time.Minute); s.now.Before(end); {
			s.run(100 * time.Millisecond)
			if len(s.kinds()) > 0 {
				last = s.now
			}
			most = max(most, s.now.Sub(last))
		}
		if most > portRetry*5/4+100*time.Millisecond {
			t.Errorf("nothing was asked for %v", most)
		}
	}
}

// TestDoubt: what the phone needs is out of reach, and its lease is confirmed.
func TestDoubt(t *testing.T) {
	bound := func(t *testing.T) *simulation {
		s := newSimulation(t)
		s.router = otherMAC
		s.server = aDay(pool(simAddr))
		s.plug()
		s.run(time.Hour)
		s.want(Bound)
		s.kinds()
		return s
	}
	t.Run("the server confirms it", func(t *testing.T) {
		s := bound(t)
		for range 600 { // as often as somebody fails
			s.give(doubted{})
			s.run(100 * time.Millisecond)
		}
		s.want(Renewed)
		if n := len(s.kinds()); n != 1 {
			t.Errorf("%d messages in a minute", n)
		}
	})
	t.Run("another network behind the same switch", func(t *testing.T) {
		s := bound(t)
		s.router, s.server = MAC{}, onlyOffers(pool(simNext))
		s.give(doubted{})
		s.run(rebootWait + 2*holdForProbe)
		if e := s.want(Bound)[0]; e.Lease.Addr() != simNext {
			t.Errorf("bound to %v", e.Lease.Prefix)
		}
	})
	t.Run("the server is dead, the router is not", func(t *testing.T) {
		s := bound(t)
		s.server = nil
		s.give(doubted{})
		s.run(time.Minute)
		s.want()
		s.server = aDay(pool(simNext))
		s.run(2 * portRetry)
		s.want(Bound)
	})
	t.Run("the server is dead, too", func(t *testing.T) {
		s := bound(t)
		s.server, s.router = nil, MAC{}
		s.give(doubted{})
		s.run(time.Minute)
		if l := s.want(Renewed)[0].Lease; !l.Doubtful {
			t.Error("the lease is told to be good")
		}
		s.give(doubted{})
		s.server = aDay(pool(simAddr))
		s.run(2 * portRetry)
		if l := s.want(Renewed)[0].Lease; l.Doubtful {
			t.Error("the lease is still told to be doubtful")
		}
	})
	t.Run("another server offers another address where the router is ours", func(t *testing.T) {
		s := bound(t)
		s.server = onlyOffers(pool(simNext))
		s.give(doubted{})
		s.run(5 * time.Second)
		s.want()
	})
	t.Run("without a lease", func(t *testing.T) {
		s := newSimulation(t)
		s.give(doubted{})
		s.plug()
		s.give(doubted{})
		s.server = pool(simAddr)
		s.run(10 * time.Second)
		s.want(Bound)
	})
}

// TestReplugged: a cable that was out takes routes with it. What is missing when it
// is in again is no reason to use the address before anybody was asked about it.
func TestReplugged(t *testing.T) {
	s := newSimulation(t)
	s.bind()
	s.unplug()
	s.run(time.Minute)
	s.want(Lost)
	s.server = nil
	s.plug()
	s.give(tampered{})
	s.give(arp.Claim{Addr: simAddr, From: otherMAC})
	s.want()
	if len(s.arp) > 0 {
		t.Errorf("defended what another network may have given to another: %v", s.arp)
	}
	s.server = pool(simNext)
	s.run(rebootWait + 2*holdForProbe)
	if e := s.want(Bound)[0]; e.Lease.Addr() != simNext {
		t.Errorf("bound to %v", e.Lease.Prefix)
	}
}
