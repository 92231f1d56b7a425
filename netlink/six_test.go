package netlink

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"pgregory.net/rapid"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/steptest"
)

var (
	simAddr6  = netip.MustParseAddr("2001:db8::50")
	simNext6  = netip.MustParseAddr("2001:db8::80")
	simRouter = netip.MustParseAddr("fe80::1")
	simDUID   = dhcpv6.DUID(&dhcpv6.DUIDEN{EnterpriseNumber: 1, EnterpriseIdentifier: []byte{7}})
)

// A simulation6 runs a machine6 against a server under a clock of its own.
type simulation6 struct {
	t      steptest.Tester
	m      machine6
	now    time.Time
	server func(*dhcpv6.Message) []*dhcpv6.Message
	sent   []dhcpv6.MessageType
	last   *dhcpv6.Message // sent
	kernel map[netip.Addr]bool
	wire   *pcap // nil: nothing is recorded
}

func newSimulation6(t steptest.Tester) *simulation6 {
	return &simulation6{
		t: t, now: time.Unix(1_800_000_000, 0), kernel: map[netip.Addr]bool{},
		m: machine6{rand: rand.New(rand.NewPCG(1, 2))},
	}
}

func (s *simulation6) give(in any) {
	s.t.Helper()
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		if arrive, ok := inputs[0].(arriving); ok {
			inputs[0] = arrive()
		}
		for _, a := range s.m.step(s.now, inputs[0]) {
			s.wire.sent(s.now, a)
			switch a := a.(type) {
			case send6:
				d, err := dhcpv6.MessageFromBytes(a.msg.ToBytes())
				if err != nil {
					s.t.Fatalf("sent what the codec cannot read: %v", err)
				}
				if l := s.last; l != nil && l.TransactionID == d.TransactionID && l.MessageType != d.MessageType {
					s.t.Fatalf("%v in the transaction of the %v before it", d.MessageType, l.MessageType)
				}
				s.sent, s.last = append(s.sent, d.MessageType), d
				if s.server != nil && s.m.link.ready {
					for _, r := range s.server(d) {
						r.TransactionID = d.TransactionID
						inputs = append(inputs, s.answer(r))
					}
				}
			case install6:
				delete(s.kernel, a.old.addr)
				s.kernel[a.lease.addr] = true
			case remove6:
				delete(s.kernel, a.addr)
			}
		}
	}
}

func (s *simulation6) run(d time.Duration) {
	s.t.Helper()
	steptest.Elapse(s.t, &s.now, d, s.m.deadline, func() { s.give(tick{}) })
}

func (s *simulation6) took() []dhcpv6.MessageType {
	out := s.sent
	s.sent = nil
	return out
}

func reply6(kind dhcpv6.MessageType, status iana.StatusCode, a netip.Addr, valid time.Duration, more ...dhcpv6.Option) *dhcpv6.Message {
	d := &dhcpv6.Message{MessageType: kind}
	d.AddOption(dhcpv6.OptClientID(duid(simMAC)))
	d.AddOption(dhcpv6.OptServerID(simDUID))
	if status != iana.StatusSuccess {
		d.AddOption(&dhcpv6.OptStatusCode{StatusCode: status})
	}
	if a.IsValid() {
		ia := &dhcpv6.OptIANA{IaId: [4]byte(simMAC[2:])}
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice(), PreferredLifetime: valid, ValidLifetime: valid})
		d.AddOption(ia)
	}
	for _, o := range more {
		d.AddOption(o)
	}
	return d
}

// pool6 is a decent server with one address to give.
func pool6(a netip.Addr) func(*dhcpv6.Message) []*dhcpv6.Message {
	return func(d *dhcpv6.Message) []*dhcpv6.Message {
		asked := netip.Addr{}
		if ia := d.Options.OneIANA(); ia != nil && ia.Options.OneAddress() != nil {
			asked = addrFrom(ia.Options.OneAddress().IPv6Addr)
		}
		switch d.MessageType {
		case dhcpv6.MessageTypeSolicit:
			return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeAdvertise, 0, a, time.Hour)}
		case dhcpv6.MessageTypeConfirm:
			if asked != a {
				return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, iana.StatusNotOnLink, netip.Addr{}, 0)}
			}
			return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, 0, netip.Addr{}, 0)}
		case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
			if asked != a {
				return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, iana.StatusNoBinding, netip.Addr{}, 0)}
			}
			return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, 0, a, time.Hour, dhcpv6.OptDNS(simNext6.AsSlice()))}
		case dhcpv6.MessageTypeInformationRequest:
			return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, 0, netip.Addr{}, 0, dhcpv6.OptDNS(simNext6.AsSlice()))}
		}
		return nil
	}
}

var managed6 = linkSays{ready: true, mac: simMAC, managed: true, other: true}

func TestDHCPv6(t *testing.T) {
	type kinds = []dhcpv6.MessageType
	const (
		solicit, request, confirm = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeConfirm
		renew, rebind, release    = dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeRelease
		inform, decline           = dhcpv6.MessageTypeInformationRequest, dhcpv6.MessageTypeDecline
	)
	bind := func(t *testing.T) *simulation6 {
		s := newSimulation6(t)
		s.server = pool6(simAddr6)
		s.give(managed6)
		if s.m.state != bound6 || !s.kernel[simAddr6] || !slices.Equal(s.m.dns, []netip.Addr{simNext6}) {
			t.Fatalf("%v with %v, DNS %v", s.m.state, s.kernel, s.m.dns)
		}
		return s
	}
	check := func(t *testing.T, s *simulation6, want kinds, has ...netip.Addr) {
		t.Helper()
		if got := s.took(); !slices.Equal(got, want) {
			t.Errorf("sent %v; want %v", got, want)
		}
		if len(s.kernel) != len(has) || len(has) > 0 && !s.kernel[has[0]] {
			t.Errorf("kernel has %v; want %v", s.kernel, has)
		}
	}
	t.Run("lease, renew, release", func(t *testing.T) {
		s := bind(t)
		check(t, s, kinds{solicit, request}, simAddr6)
		s.run(30*time.Minute + time.Second)
		check(t, s, kinds{renew}, simAddr6)
		s.give(stopped{})
		check(t, s, kinds{release})
	})
	t.Run("rapid commit", func(t *testing.T) {
		s := newSimulation6(t)
		s.server = func(d *dhcpv6.Message) []*dhcpv6.Message {
			return []*dhcpv6.Message{reply6(dhcpv6.MessageTypeReply, 0, simAddr6, time.Hour, &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})}
		}
		s.give(managed6)
		check(t, s, kinds{solicit}, simAddr6)
	})
	t.Run("the server dies", func(t *testing.T) {
		s := bind(t)
		s.server = nil
		s.run(time.Hour - 1)
		if !s.kernel[simAddr6] || s.m.state != rebinding6 || len(s.sent) > 30 {
			t.Errorf("%v, %d messages, kernel has %v", s.m.state, len(s.sent), s.kernel)
		}
		if s.run(1); s.kernel[simAddr6] {
			t.Error("the address outlives its lease")
		}
		s.took()
		if s.run(time.Hour); len(s.sent) < 20 || len(s.sent) > 60 {
			t.Errorf("%d messages in an hour", len(s.sent))
		}
		s.server = pool6(simNext6)
		s.run(3 * time.Minute)
		if !s.kernel[simNext6] {
			t.Errorf("%v, kernel has %v", s.m.state, s.kernel)
		}
	})
	t.Run("the server gives another address", func(t *testing.T) {
		s := bind(t)
		s.took()
		s.server = pool6(simNext6)
		s.run(31 * time.Minute)
		check(t, s, kinds{renew, solicit, request}, simNext6)
	})
	t.Run("the cable leads to the same network", func(t *testing.T) {
		s := bind(t)
		s.took()
		s.give(linkSays{})
		s.give(managed6)
		check(t, s, kinds{confirm}, simAddr6)
	})
	t.Run("the cable leads to another network", func(t *testing.T) {
		s := bind(t)
		s.took()
		s.give(linkSays{})
		s.server = pool6(simNext6)
		s.give(managed6)
		check(t, s, kinds{confirm, solicit, request}, simNext6)
	})
	t.Run("the cable leads to a network without a server", func(t *testing.T) {
		s := bind(t)
		s.took()
		s.give(linkSays{})
		s.server = nil
		s.give(managed6)
		s.run(15 * time.Second)
		check(t, s, kinds{confirm, confirm, confirm}, simAddr6)
	})
	t.Run("another host has the address", func(t *testing.T) {
		s := bind(t)
		s.took()
		s.server = pool6(simNext6)
		s.give(duplicate{simAddr6})
		s.run(2 * time.Second)
		check(t, s, kinds{decline, solicit, request}, simNext6)
	})
	t.Run("no addresses, information only", func(t *testing.T) {
		s := newSimulation6(t)
		s.server = pool6(simAddr6)
		s.give(linkSays{ready: true, mac: simMAC, other: true})
		s.run(time.Hour)
		check(t, s, kinds{inform})
		if !slices.Equal(s.m.dns, []netip.Addr{simNext6}) {
			t.Errorf("DNS is %v", s.m.dns)
		}
		s.give(managed6) // the routers changed their mind
		check(t, s, kinds{solicit, request}, simAddr6)
	})
	t.Run("the routers want none", func(t *testing.T) {
		s := newSimulation6(t)
		s.server = pool6(simAddr6)
		s.give(linkSays{ready: true, mac: simMAC})
		s.run(time.Hour)
		check(t, s, nil)
	})
	for name, bad := range map[string]*dhcpv6.Message{
		"multicast":    reply6(dhcpv6.MessageTypeAdvertise, 0, netip.MustParseAddr("ff02::1"), time.Hour),
		"loopback":     reply6(dhcpv6.MessageTypeAdvertise, 0, netip.IPv6Loopback(), time.Hour),
		"link-local":   reply6(dhcpv6.MessageTypeAdvertise, 0, simRouter, time.Hour),
		"no time":      reply6(dhcpv6.MessageTypeAdvertise, 0, simAddr6, 0),
		"no addresses": reply6(dhcpv6.MessageTypeAdvertise, iana.StatusNoAddrsAvail, simAddr6, time.Hour),
		"not asked":    reply6(dhcpv6.MessageTypeReply, 0, simAddr6, time.Hour),
		"nobody's":     {MessageType: dhcpv6.MessageTypeAdvertise},
		"reconfigure":  reply6(dhcpv6.MessageTypeReconfigure, 0, simAddr6, time.Hour),
	} {
		t.Run("a server that says "+name, func(t *testing.T) {
			s := newSimulation6(t)
			s.server = func(*dhcpv6.Message) []*dhcpv6.Message { return []*dhcpv6.Message{bad} }
			s.give(managed6)
			s.run(time.Minute)
			if s.m.state != soliciting6 || len(s.kernel) > 0 || len(s.sent) > 10 {
				t.Errorf("%v, %d messages, kernel has %v", s.m.state, len(s.sent), s.kernel)
			}
			s.server = pool6(simAddr6)
			s.run(3 * time.Minute)
			if !s.kernel[simAddr6] {
				t.Error("no way back")
			}
		})
	}
}

// TestWhateverHappens6 is TestWhateverHappens for DHCPv6.
func TestWhateverHappens6(t *testing.T) {
	addrs := rapid.SampledFrom([]netip.Addr{simAddr6, simNext6, simRouter, {}})
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation6(t)
		var times []time.Time
		seen := 0
		anyReply := func(t *rapid.T) *dhcpv6.Message {
			return reply6(
				rapid.SampledFrom([]dhcpv6.MessageType{dhcpv6.MessageTypeAdvertise, dhcpv6.MessageTypeReply}).Draw(t, "kind"),
				rapid.SampledFrom([]iana.StatusCode{0, iana.StatusNoBinding, iana.StatusNotOnLink, iana.StatusNoAddrsAvail}).Draw(t, "status"),
				addrs.Draw(t, "address"),
				rapid.SampledFrom([]time.Duration{0, 2 * time.Second, time.Minute, time.Hour, forever}).Draw(t, "valid"))
		}
		flaps := 0
		check := func(t *rapid.T) {
			m := &s.m
			switch m.state {
			case bound6, renewing6, rebinding6, confirming6:
				if !m.held.addr.IsValid() {
					t.Fatalf("%v without an address", m.state)
				}
			case idle6:
				if !m.retry.IsZero() {
					t.Fatal("idle with a timer")
				}
			}
			if m.held.addr.IsValid() && !m.held.valid.IsZero() && !s.now.Before(m.held.valid) {
				t.Fatalf("%v past its end", m.held.addr)
			}
			if m.listening() == m.retry.IsZero() && m.state != informed6 {
				t.Fatalf("%v sends at %v", m.state, m.retry)
			}
			if len(s.kernel) > 1 || len(s.kernel) == 1 && !s.kernel[m.held.addr] {
				t.Fatalf("kernel has %v, held is %v", s.kernel, m.held.addr)
			}
			for ; seen < len(s.sent); seen++ {
				times = append(times, s.now)
			}
			for len(times) > 0 && s.now.Sub(times[0]) > time.Minute {
				times = times[1:]
			}
			if len(times) > 150+8*flaps {
				t.Fatalf("%d messages in a minute", len(times))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"":       check,
			"link":   func(*rapid.T) { flaps++; s.give(linkSays{ready: !s.m.link.ready, mac: simMAC, managed: true}) },
			"mode":   func(t *rapid.T) { l := managed6; l.managed = rapid.Bool().Draw(t, "managed"); s.give(l) },
			"time":   func(t *rapid.T) { s.run(time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "by"))) },
			"sleep":  func(t *rapid.T) { s.now = s.now.Add(6 * time.Hour); s.give(tick{}) },
			"packet": func(t *rapid.T) { d := anyReply(t); d.TransactionID = s.m.xid; s.give(received6{d}) },
			"double": func(t *rapid.T) { s.give(duplicate{addrs.Draw(t, "address")}) },
			"server": func(t *rapid.T) {
				d := anyReply(t)
				s.server = rapid.SampledFrom([]func(*dhcpv6.Message) []*dhcpv6.Message{
					nil, pool6(simAddr6), pool6(simNext6), func(*dhcpv6.Message) []*dhcpv6.Message { return []*dhcpv6.Message{d} },
				}).Draw(t, "which")
			},
		})
		s.server = pool6(simAddr6)
		s.give(linkSays{})
		s.give(managed6)
		s.run(3 * maxSolicit6)
		if s.m.state != bound6 || !s.kernel[s.m.held.addr] {
			t.Fatalf("%v, kernel has %v", s.m.state, s.kernel)
		}
	})
}

func TestPair(t *testing.T) {
	four := Lease{Interface: "eth0", Prefix: netip.PrefixFrom(simAddr, 24), Expiry: time.Unix(1_800_003_600, 0)}
	other := four
	other.Prefix = netip.PrefixFrom(simNext, 24)
	bound, renewed := Event{Kind: Bound, Lease: four}, Event{Kind: Renewed, Lease: four}
	lost := Event{Kind: Lost, Lease: four, Reason: "expired"}
	bare := sight6{running: true}
	six := sight6{running: true, routed: true, router: simRouter, addrs: []heldAddress{{prefix: netip.PrefixFrom(simAddr6, 64), life: time.Hour}}}
	two := six
	two.addrs = append([]heldAddress{{prefix: netip.MustParsePrefix("fd00::1/64")}}, six.addrs...)
	unrouted := six
	unrouted.routed = false
	down := sight6{}
	type moment struct {
		after time.Duration
		in    any
		want  EventKind
		addrs int
	}
	for _, tt := range []struct {
		name    string
		moments []moment
	}{
		{"IPv4, then IPv6", []moment{{0, bound, Bound, 1}, {time.Second, six, Renewed, 2}, {0, six, 0, 0}, {time.Minute, renewed, Renewed, 2}}},
		{"IPv6, and IPv4 in a moment", []moment{{0, six, 0, 0}, {fourGrace - 1, bound, Bound, 2}}},
		{"IPv6, and IPv4 late", []moment{{0, six, 0, 0}, {fourGrace, nil, Bound, 1}, {time.Second, bound, Bound, 2}}},
		{"IPv4 is lost", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, lost, Bound, 1}, {0, bound, Bound, 2}}},
		{"IPv4 moves", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, Event{Kind: Bound, Lease: other}, Bound, 2}}},
		{"IPv6 is away for a moment", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, bare, 0, 0}, {time.Second, six, 0, 0}}},
		{"IPv6 is lost", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, bare, 0, 0}, {gapGrace, nil, Renewed, 1}}},
		{"both are lost", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, down, 0, 0}, {link.Grace, lost, Lost, 0}}},
		{"IPv6 without a router", []moment{{0, unrouted, 0, 0}, {time.Minute, nil, 0, 0}}},
		{"another IPv6 address", []moment{{0, bound, Bound, 1}, {0, six, Renewed, 2}, {0, two, Renewed, 3}, {0, six, Renewed, 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pair{ifname: "eth0"}
			seen := sight6{running: true}
			now := time.Unix(1_800_000_000, 0)
			for i, m := range tt.moments {
				now = now.Add(m.after)
				var events []Event
				switch in := m.in.(type) {
				case Event:
					events = p.fourEvent(now, in)
				case sight6:
					seen = in
					events = p.sixSeen(now, seen)
				default:
					events = p.sixSeen(now, seen)
				}
				var got Event
				for _, e := range events {
					got = e
				}
				if got.Kind != m.want || m.addrs > 0 && len(got.Lease.Addrs()) != m.addrs {
					t.Errorf("moment %d: %v of %v; want %v of %d", i, got.Kind, got.Lease.Addrs(), m.want, m.addrs)
				}
			}
			if a := p.told.Addrs(); len(a) == 3 && !slices.Equal(a, []netip.Addr{simAddr, simAddr6, netip.MustParseAddr("fd00::1")}) {
				t.Errorf("addresses are %v", a)
			}
		})
	}
}

func FuzzDHCPv6(f *testing.F) {
	f.Add(reply6(dhcpv6.MessageTypeAdvertise, 0, simAddr6, time.Hour).ToBytes())
	f.Add(reply6(dhcpv6.MessageTypeReply, iana.StatusNoBinding, simAddr6, time.Hour, dhcpv6.OptDNS(simNext6.AsSlice())).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := dhcpv6.MessageFromBytes(b)
		if err != nil {
			return
		}
		for _, says := range []linkSays{managed6, {ready: true, mac: simMAC, other: true}} {
			s := newSimulation6(t)
			s.give(says)
			d.TransactionID = s.m.xid
			s.give(received6{d})
			if a := s.m.held.addr; a.IsValid() && !isHost6(a) {
				t.Errorf("holds %v", a)
			}
		}
	})
}

func FuzzAdvice(f *testing.F) {
	head := make([]byte, sizeofNdUserOpt)
	head[2], head[4] = 24, 3
	dns := append([]byte{raDNS, 3, 0, 0, 0, 0, 1, 0}, simAddr6.AsSlice()...)
	f.Add(append(slices.Clone(head), dns...))
	f.Add(append(slices.Clone(head), append([]byte{raSearch, 3, 0, 0, 0, 0, 1, 0}, "\x03six\x07example\x00\x00\x00\x00"...)...))
	dns = append(dns, 20, 0, 1, 0) // and NDUSEROPT_SRCADDR
	dns = append(dns, simRouter.AsSlice()...)
	got, err := parseAdvice(append(slices.Clone(head), dns...))
	if want := (advice{index: 3, router: simRouter, life: 256 * time.Second, dns: []netip.Addr{simAddr6}}); err != nil || !reflect.DeepEqual(got, want) {
		f.Errorf("read as %+v, %v", got, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAdvice(b)
		if err != nil && (a.dns != nil || a.domains != nil) || len(a.dns) > 8 || len(a.domains) > maxDomains {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
