package netlink

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/steptest"
)

var (
	simMAC    = MAC{2, 0, 0x5e, 0, 0x53, 1}
	otherMAC  = MAC{2, 0, 0x5e, 0, 0x53, 2}
	simServer = netip.MustParseAddr("192.0.2.1")
	simAddr   = netip.MustParseAddr("192.0.2.50")
	simNext   = netip.MustParseAddr("192.0.2.80")
)

// A simulation runs a machine against a server under a clock of its own. Its
// packets take no time; its kernel does what it is told.
type simulation struct {
	t       steptest.Tester
	m       machine
	now     time.Time
	server  func(*dhcpv4.DHCPv4) []reply // nil: silent
	events  []Event
	sent    []*dhcpv4.DHCPv4
	unicast []netip.Addr // where each went; zero: broadcast
	arp     []any
	kernel  map[netip.Prefix]bool
	stored  Lease
	granted []time.Time
	failing error // of the kernel
	// disowned: the kernel answers for no address.
	disowned bool
	router   MAC   // zero: silent
	proxy    MAC   // answers for every address; zero: nobody does
	wire     *pcap // nil: nothing is recorded
}

func newSimulation(t steptest.Tester) *simulation {
	s := &simulation{t: t, now: time.Unix(1_800_000_000, 0), kernel: map[netip.Prefix]bool{}}
	s.m = machine{ifname: "eth0", rand: rand.New(rand.NewPCG(1, 2))}
	return s
}

// give hands an input to the machine, and all that follows from it at once.
func (s *simulation) give(in any) {
	s.t.Helper()
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		if arrive, ok := inputs[0].(arriving); ok {
			inputs[0] = arrive()
		}
		for _, a := range s.m.step(s.now, inputs[0]) {
			s.wire.sent(s.now, a)
			switch a := a.(type) {
			case sendMessage:
				d, err := dhcpv4.FromBytes(a.msg.ToBytes())
				if err != nil {
					s.t.Fatalf("sent what the codec cannot read: %v", err)
				}
				s.sent, s.unicast = append(s.sent, d), append(s.unicast, a.to)
				if s.server == nil || !s.m.up {
					continue
				}
				for _, r := range s.server(d) {
					r.xid = d.TransactionID
					inputs = append(inputs, s.answer(r))
				}
			case sendProbe:
				s.arp = append(s.arp, a)
				if s.proxy != (MAC{}) && s.m.up {
					inputs = append(inputs, arp.Claim{Addr: a.addr, From: s.proxy})
				}
			case sendAnnounce:
				s.arp = append(s.arp, a)
			case sendAsk:
				if s.router != (MAC{}) && s.m.up && (a.to == MAC{} || a.to == s.router) {
					inputs = append(inputs, arp.Claim{Addr: a.addr, From: s.router})
				}
			case install:
				if s.failing == nil {
					s.kernel[a.lease.Prefix] = true
					if a.old.Prefix != a.lease.Prefix {
						delete(s.kernel, a.old.Prefix)
					}
				}
				s.disowned = false
				inputs = append(inputs, installed{err: s.failing})
			case disown:
				s.disowned = true
			case remove:
				s.disowned = false
				delete(s.kernel, a.lease.Prefix)
			case grant:
				s.granted = append(s.granted, s.now)
			case tell:
				s.events = append(s.events, a.event)
			case store:
				s.stored = a.lease
			}
		}
	}
}

// run lets time pass.
func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	steptest.Elapse(s.t, &s.now, d, s.m.deadline, func() { s.give(tick{}) })
}

func (s *simulation) plug()   { s.t.Helper(); s.give(linkChanged{up: true, mac: simMAC}) }
func (s *simulation) unplug() { s.t.Helper(); s.give(linkChanged{up: false}) }

// want checks the events since the last call.
func (s *simulation) want(kinds ...EventKind) []Event {
	s.t.Helper()
	got := s.events
	s.events = nil
	ok := len(got) == len(kinds)
	for i := range min(len(got), len(kinds)) {
		ok = ok && got[i].Kind == kinds[i]
	}
	if !ok {
		s.t.Fatalf("events are %v; want %v", got, kinds)
	}
	return got
}

// kinds lists the types of the messages sent since the last call.
func (s *simulation) kinds() (out []dhcpv4.MessageType) {
	for _, d := range s.sent {
		out = append(out, d.MessageType())
	}
	s.sent, s.unicast = nil, nil
	return out
}

// bind brings the simulation to BOUND with simAddr, after the probes.
func (s *simulation) bind() Lease {
	s.t.Helper()
	s.server = pool(simAddr)
	s.plug()
	s.run(5 * time.Second)
	e := s.want(Bound)
	s.kinds()
	s.arp = nil
	return e[0].Lease
}

// goodReply is what a decent server says.
func goodReply(kind dhcpv4.MessageType, a netip.Addr) reply {
	return reply{
		kind: kind, server: simServer, yours: a, bits: 24, time: time.Hour,
		with: Lease{Router: simServer, DNS: []netip.Addr{simServer}, StoringServers: []string{"storing.example"}},
	}
}

// pool is an authoritative server with one address to give.
func pool(a netip.Addr) func(*dhcpv4.DHCPv4) []reply {
	return func(d *dhcpv4.DHCPv4) []reply {
		switch d.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			return []reply{goodReply(dhcpv4.MessageTypeOffer, a)}
		case dhcpv4.MessageTypeRequest:
			want := addrFrom(d.RequestedIPAddress())
			if !want.IsValid() {
				want = addrFrom(d.ClientIPAddr)
			}
			if want != a {
				return []reply{{kind: dhcpv4.MessageTypeNak, server: simServer}}
			}
			return []reply{goodReply(dhcpv4.MessageTypeAck, a)}
		}
		return nil
	}
}

// encodeReply is the inverse of parseReply.
func encodeReply(r reply, mac MAC) []byte {
	d := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: iana.HWTypeEthernet, TransactionID: r.xid, ClientHWAddr: mac[:],
		YourIPAddr: r.yours.AsSlice(), Options: dhcpv4.Options{},
	}
	put := func(code uint8, v []byte) {
		if len(v) > 0 {
			d.Options[code] = v
		}
	}
	number := func(t time.Duration) []byte {
		if t == 0 {
			return nil
		}
		return binary.BigEndian.AppendUint32(nil, uint32(t/time.Second))
	}
	d.Options[53] = []byte{byte(r.kind)}
	put(54, r.server.AsSlice())
	if r.bits > 0 {
		put(1, ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), r.bits)).Mask)
	}
	if !r.classless {
		put(3, r.with.Router.AsSlice())
	}
	var dns []byte
	for _, a := range r.with.DNS {
		dns = append(dns, a.AsSlice()...)
	}
	put(6, dns)
	if r.with.MTU > 0 {
		put(26, binary.BigEndian.AppendUint16(nil, uint16(r.with.MTU)))
	}
	put(51, number(r.time))
	put(56, []byte(r.complaint))
	put(58, number(r.t1))
	put(59, number(r.t2))
	for i, s := range r.with.StoringServers {
		switch {
		case i == 0 && len(r.with.StoringServers) > 1:
			put(160, []byte(s))
		case i < 2:
			put(66, []byte(s))
		default:
			d.Options[150] = append(d.Options[150], netip.MustParseAddr(s).AsSlice()...)
		}
	}
	put(28, r.with.Broadcast.AsSlice())
	if len(r.with.Domains) > 0 {
		put(119, (&rfc1035label.Labels{Labels: r.with.Domains}).ToBytes())
	}
	if r.with.VoiceVLAN > 0 {
		put(132, strconv.AppendInt(nil, int64(r.with.VoiceVLAN), 10))
	}
	put(108, number(r.onlySix))
	if r.rapid {
		d.Options[optRapidCommit] = nil
	}
	var old []byte
	for _, e := range r.with.Routes {
		old = append(append(old, e.Dst.Addr().AsSlice()...), e.Via.AsSlice()...)
	}
	if !r.classless {
		put(33, old)
	} else {
		var list dhcpv4.Routes
		if r.with.Router.IsValid() {
			list = append(list, &dhcpv4.Route{Dest: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Router: r.with.Router.AsSlice()})
		}
		for _, e := range r.with.Routes {
			via := e.Via
			if !via.IsValid() {
				via = netip.IPv4Unspecified()
			}
			list = append(list, &dhcpv4.Route{Dest: ipNet(e.Dst), Router: via.AsSlice()})
		}
		put(121, list.ToBytes())
	}
	return d.ToBytes()
}
