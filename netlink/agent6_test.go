package netlink

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"pgregory.net/rapid"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/steptest"
)

// An agentSim runs an agent6 under a clock of its own, with a kernel that does as it is
// told, and makes an address of each prefix that routers say.
type agentSim struct {
	t      steptest.Tester
	a      agent6
	now    time.Time
	link   link.State
	kernel []netip.Prefix
	six    held6 // but for the addresses
	server func(*dhcpv6.Message) []*dhcpv6.Message
	open   bool
	told   Lease
	events int
}

func newAgentSim(t steptest.Tester) *agentSim {
	s := &agentSim{t: t, now: time.Unix(1_800_000_000, 0)}
	s.a = agent6{ifname: "eth0", manage: true, pair: pair{ifname: "eth0"}, dhcp: machine6{rand: rand.New(rand.NewPCG(1, 2))}}
	s.six = held6{local: netip.MustParseAddr("fe80::2"), sight: sight6{routed: true, router: routerA, routers: []netip.Addr{routerA}}}
	return s
}

func (s *agentSim) give(in any) {
	s.t.Helper()
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, a := range s.a.step(s.now, inputs[0]) {
			switch a := a.(type) {
			case open6:
				s.open = true
				inputs = append(inputs, opened6{})
			case shut6:
				s.open = false
			case send6:
				if s.server != nil && s.open && s.link.Running {
					for _, r := range s.server(a.msg) {
						r.TransactionID = a.msg.TransactionID
						inputs = append(inputs, received6{r})
					}
				}
			case install6:
				s.remove(a.old.addr)
				s.kernel = append(s.kernel, netip.PrefixFrom(a.lease.addr, 128))
			case remove6:
				s.remove(a.addr)
			case deprecate6:
				s.remove(a.addr.prefix.Addr())
			case flush6:
				s.kernel = slices.DeleteFunc(s.kernel, func(p netip.Prefix) bool { return p.Bits() == 64 })
			case tell:
				s.tell(a.event)
			}
		}
		if len(inputs) > 50 {
			s.t.Fatalf("the agent goes round in circles")
		}
	}
}

func (s *agentSim) remove(a netip.Addr) {
	s.kernel = slices.DeleteFunc(s.kernel, func(p netip.Prefix) bool { return p.Addr() == a })
}

// tell checks that what is told fits what was told, and what there is.
func (s *agentSim) tell(e Event) {
	s.t.Helper()
	s.events++
	switch {
	case e.Kind == Lost && !s.told.Prefix.IsValid():
		s.t.Fatalf("lost what there was not")
	case e.Kind == Renewed && e.Lease.Prefix != s.told.Prefix:
		s.t.Fatalf("%v is renewed as %v", s.told.Prefix, e.Lease.Prefix)
	}
	if s.told = e.Lease; e.Kind == Lost {
		s.told = Lease{}
	}
	for _, a := range s.told.IPv6 {
		if !slices.ContainsFunc(s.kernel, func(p netip.Prefix) bool { return p.Addr() == a }) {
			s.t.Fatalf("told %v; the kernel has %v", a, s.kernel)
		}
	}
}

// look gives the agent what there is, and again when that has changed thereby, since
// the kernel hints at it.
func (s *agentSim) look() {
	s.t.Helper()
	s.give(linkSeen{s.link})
	before := slices.Clone(s.kernel)
	defer func() {
		if !slices.Equal(s.kernel, before) {
			s.look()
		}
	}()
	held := held6{}
	if s.link.Index != 0 {
		held = s.six
		held.answering = held.sight.routers
		for _, p := range s.kernel {
			held.sight.addrs = append(held.sight.addrs, heldAddress{prefix: p, life: time.Hour})
		}
	}
	s.give(held)
}

func (s *agentSim) run(d time.Duration) {
	s.t.Helper()
	steptest.Elapse(s.t, &s.now, d, func() time.Time { return s.a.deadline(s.now) }, s.look)
}

// says has a router say a prefix, of which the kernel makes an address.
func (s *agentSim) says(router netip.Addr, p netip.Prefix) {
	s.t.Helper()
	if !s.link.Running {
		return
	}
	if a := netip.PrefixFrom(p.Addr().Next(), 64); !slices.Contains(s.kernel, a) {
		s.kernel = append(s.kernel, a)
	}
	s.give(routerSays{router, []saidPrefix{{p, 2 * time.Hour}}})
	s.look()
}

var agentLink = link.State{Index: 2, MAC: simMAC, Enabled: true, Running: true}

// TestAgentOnAnAdapter: what DHCPv6 leased is there again when the adapter is back, and
// an adapter that is away wakes nobody for it.
func TestAgentOnAnAdapter(t *testing.T) {
	s := newAgentSim(t)
	s.six.managed, s.server, s.link = true, pool6(simAddr6), agentLink
	s.look()
	s.run(time.Minute)
	if !slices.Equal(s.told.IPv6, []netip.Addr{simAddr6}) {
		t.Fatalf("told %v", s.told.IPv6)
	}
	s.link, s.kernel = link.State{}, nil
	s.look()
	s.run(45 * time.Minute) // past T1
	s.link = agentLink
	s.link.Index = 3
	s.look()
	s.run(time.Minute)
	if !slices.Equal(s.told.IPv6, []netip.Addr{simAddr6}) {
		t.Errorf("on the new adapter it told %v, the kernel has %v", s.told.IPv6, s.kernel)
	}
}

// TestAgentWhateverHappens: whatever cables, routers and servers do, in any order,
// nothing is told that the kernel does not hold, and in the end what the router says is
// told first.
func TestAgentWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newAgentSim(t)
		s.a.manage = rapid.Bool().Draw(t, "manage")
		routers := rapid.SampledFrom([]netip.Addr{routerA, routerB})
		prefixes := rapid.SampledFrom([]netip.Prefix{prefixP, prefixQ})
		four := Lease{Prefix: netip.PrefixFrom(simAddr, 24)}
		has4 := false
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if len(s.told.IPv6) > maxIPv6 {
					t.Fatalf("told %v", s.told.IPv6)
				}
				if d := s.a.deadline(s.now); s.link.Index == 0 && !d.IsZero() && !d.After(s.now) {
					t.Fatal("asks to be woken for an interface that is gone")
				}
			},
			"link": func(t *rapid.T) {
				s.link = rapid.SampledFrom([]link.State{{}, agentLink, {Index: 2, MAC: simMAC, Enabled: true}, {Index: 3, MAC: simMAC, Enabled: true, Running: true}}).Draw(t, "link")
				if s.link.Index != s.a.link.Index {
					s.kernel = nil
				}
				s.look()
			},
			"router":  func(t *rapid.T) { s.says(routers.Draw(t, "router"), prefixes.Draw(t, "prefix")) },
			"mode":    func(t *rapid.T) { s.six.managed = rapid.Bool().Draw(t, "managed"); s.look() },
			"routes":  func(t *rapid.T) { s.six.sight.routed = rapid.Bool().Draw(t, "routed"); s.look() },
			"doubt":   func(*rapid.T) { s.give(doubted{}); s.look() },
			"removed": func(*rapid.T) { s.kernel = nil; s.look() },
			"server": func(t *rapid.T) {
				s.server = rapid.SampledFrom([]func(*dhcpv6.Message) []*dhcpv6.Message{nil, pool6(simAddr6), pool6(simNext6)}).Draw(t, "which")
			},
			"IPv4": func(t *rapid.T) {
				if has4 = !has4; has4 {
					s.give(fourSays{Event{Kind: Bound, Lease: four}})
				} else {
					s.give(fourSays{Event{Kind: Lost, Lease: four, Reason: "expired"}})
				}
				s.look()
			},
			"time": func(t *rapid.T) { s.run(time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "by"))) },
		})
		s.link, s.kernel = link.State{}, nil
		s.look()
		s.run(time.Minute)
		s.link, s.server, s.six.managed, s.six.sight.routed = agentLink, nil, false, true
		s.look()
		for range 10 {
			s.says(routerA, prefixQ)
			s.run(10 * time.Second)
		}
		s.events = 0
		s.says(routerA, prefixQ)
		s.run(time.Second)
		if len(s.told.IPv6) == 0 || !prefixQ.Contains(s.told.IPv6[0]) || s.told.Addr().Is4() != has4 || s.events > 0 {
			t.Fatalf("told %v and then %d events, the kernel has %v", s.told.Addrs(), s.events, s.kernel)
		}
		s.give(stopped{})
		s.give(gone{})
		if s.told.Prefix.IsValid() {
			t.Fatal("the end is not told")
		}
	})
}
