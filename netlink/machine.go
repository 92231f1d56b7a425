package netlink

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A state is one of RFC 2131 figure 5, and one for an address that was
// acknowledged and waits for an answer to its first ARP probe.
type state int

const (
	stateInit       state = iota // no carrier, or waiting to begin again
	stateRebooting               // the address we had was asked for
	stateSelecting               // DISCOVER sent
	stateRequesting              // an offer was taken
	stateChecking                // acknowledged, probed
	stateBound
	stateRenewing
	stateRebinding
)

func (s state) String() string {
	return [...]string{"init", "rebooting", "selecting", "requesting", "checking", "bound", "renewing", "rebinding"}[s]
}

// What can happen to the machine.
type (
	linkChanged struct {
		up  bool
		mac MAC
	}
	received struct{ reply reply }
	// arpSeen: from says in ARP that it has addr, or, when it probes, that it
	// is about to take it.
	arpSeen struct {
		addr  netip.Addr
		from  MAC
		probe bool
	}
	installed struct{ err error } // answers install
	tampered  struct{}            // the installed address or its route is missing
	tick      struct{}            // deadline may have passed
	stopped   struct{}
)

// What the machine wants done, in order.
type (
	// sendMessage: broadcast when to is the zero Addr, else routed from the
	// address from.
	sendMessage struct {
		msg      *dhcpv4.DHCPv4
		from, to netip.Addr
	}
	sendProbe    struct{ addr netip.Addr }
	sendAnnounce struct{ addr netip.Addr }
	// sendAsk asks who has addr, from an address of ours: to is the zero MAC for
	// everybody.
	sendAsk struct {
		from, addr netip.Addr
		to         MAC
	}
	// install the lease beside the old address, and then take that one away.
	// Answered with installed.
	install struct{ lease, old Lease }
	remove  struct{ lease Lease }
	tell    struct{ event Event }
	store   struct{ lease Lease } // the zero Lease: forget
	note    struct {              // for the log
		level slog.Level
		text  string
		args  []any
	}
)

// A machine is a DHCP client without I/O. It is given the time, and remembers
// when it wants to be woken.
type machine struct {
	mac      MAC
	ifname   string
	metric   int
	hostname string
	// userClass is sent as option 77 when not empty.
	userClass string
	// onlySix: there is IPv6 as well, and the network may keep its IPv4
	// addresses (RFC 8925).
	onlySix bool
	// fullCheck: an address is used only once the whole of RFC 5227 §2.1.1 is done.
	fullCheck bool
	rand      *rand.Rand

	state   state
	up      bool
	out     []any
	xid     transaction
	begun   time.Time // of this exchange
	sent    time.Time // of the last REQUEST: leases count from here
	attempt int
	retry   time.Time // next transmission, or next beginning in stateInit

	offer   reply
	avoid   netip.Addr // server whose offer led to nothing
	held    Lease      // installed, and not expired
	refused bool       // held was refused or is in conflict: not to be used again
	next    Lease      // acknowledged, on its way to be held
	last    netip.Addr // to ask for again
	// routerAt is the hardware address of held's router, zero when unknown;
	// attached says that it answered there since the carrier came up.
	routerAt MAC
	attached bool
	told     Lease // as the reader of the events knows it

	lose       time.Time // when Lost is told
	loseReason string
	loseHeld   bool // and held is removed

	probed    time.Time // first probe of next
	probeAt   time.Time // next probe or announcement
	probesTo  int       // probes and then announcements still to send
	defended  time.Time
	repaired  time.Time
	repairAt  time.Time
	naks      int // with less than nakMemory between them
	nakAt     time.Time
	conflicts int // since the last undisturbed binding
	failures  int // of the kernel, in a row
}

// start sets the lease that was stored when the machine was last stopped or
// killed; it may be the zero Lease, and it may have expired.
func (m *machine) start(stored Lease) {
	m.last = stored.Addr()
	m.next = stored
}

// step takes an input and returns what to do.
func (m *machine) step(now time.Time, in any) []any {
	m.out = nil
	switch in := in.(type) {
	case linkChanged:
		m.link(now, in)
	case received:
		m.receive(now, in.reply)
	case arpSeen:
		m.arp(now, in)
	case installed:
		m.installed(now, in.err)
	case tampered:
		m.tampered(now)
	case tick:
	case stopped:
		m.stop(now)
		return m.out
	}
	m.due(now)
	return m.out
}

// deadline returns when step wants a tick; zero: never.
func (m *machine) deadline() time.Time {
	var d time.Time
	for _, t := range []time.Time{m.retry, m.probeAt, m.repairAt, m.lose, m.phase(), m.held.Expiry} {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	return d
}

// phase returns when bound becomes renewing or renewing rebinding.
func (m *machine) phase() time.Time {
	switch m.state {
	case stateBound:
		return m.held.Renew
	case stateRenewing:
		return m.held.Rebind
	}
	return time.Time{}
}

// listening reports whether replies can be of use.
func (m *machine) listening() bool {
	return m.state != stateInit && m.state != stateBound && m.state != stateChecking
}

// watched returns the address whose conflicts matter, the zero Addr for none.
func (m *machine) watched() netip.Addr {
	switch m.state {
	case stateRequesting:
		return m.offer.yours
	case stateChecking:
		return m.next.Addr()
	}
	return m.held.Addr()
}

// neighbour returns the address of the router that shows which network this is,
// the zero Addr for none.
func (m *machine) neighbour() netip.Addr { return m.held.Router }

// due does what time asks for.
func (m *machine) due(now time.Time) {
	passed := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if passed(m.held.Expiry) {
		m.expire(now)
	}
	if passed(m.lose) {
		m.tellLost(now)
	}
	if passed(m.phase()) {
		m.renew(now)
	}
	if passed(m.repairAt) {
		m.repair(now)
	}
	if passed(m.probeAt) {
		m.probe(now)
	}
	if passed(m.retry) {
		m.resend(now)
	}
}

func (m *machine) do(a any) { m.out = append(m.out, a) }

func (m *machine) note(l slog.Level, text string, args ...any) { m.do(note{l, text, args}) }

// begin starts an exchange in state s.
func (m *machine) begin(now time.Time, s state) {
	m.state, m.begun, m.attempt = s, now, 0
	u := m.rand.Uint32()
	m.xid = transaction{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)}
	m.stopProbing()
}

func (m *machine) stopProbing() { m.probed, m.probeAt, m.probesTo = time.Time{}, time.Time{}, 0 }

// rest waits in stateInit; until the zero Time: for the carrier.
func (m *machine) rest(until time.Time) {
	m.state, m.retry = stateInit, until
	m.stopProbing()
}

func (m *machine) link(now time.Time, in linkChanged) {
	if in.up == m.up {
		return
	}
	m.up = in.up
	m.note(slog.LevelInfo, "carrier", "up", m.up)
	if !m.up {
		m.rest(time.Time{})
		if end := now.Add(linkGrace); m.told.Prefix.IsValid() && (m.lose.IsZero() || m.lose.After(end)) {
			m.lose, m.loseReason, m.loseHeld = end, "link down", m.refused
		}
		return
	}
	if !m.lose.IsZero() && m.loseReason == "link down" {
		m.lose = time.Time{}
		switch {
		case m.refused:
			m.giveUp(now, "nak", replaceGrace)
		case !m.held.Prefix.IsValid():
			m.lose, m.loseReason, m.loseHeld = now.Add(replaceGrace), "not installed", false
		}
	}
	m.mac, m.naks, m.conflicts, m.avoid = in.mac, 0, 0, netip.Addr{}
	m.attached = false
	switch {
	case m.held.Prefix.IsValid() && !m.refused:
		if m.held.Router.IsValid() && m.routerAt != (MAC{}) {
			m.do(sendAsk{from: m.held.Addr(), addr: m.held.Router, to: m.routerAt})
		}
		m.reboot(now, m.held.Addr())
	case m.next.Prefix.IsValid():
		m.reboot(now, m.next.Addr())
	default:
		m.discover(now)
	}
}

// reboot asks for the address we had (RFC 2131 §3.2).
func (m *machine) reboot(now time.Time, a netip.Addr) {
	m.begin(now, stateRebooting)
	m.offer = reply{yours: a}
	m.sent, m.retry = now, now.Add(rebootWait)
	m.do(sendMessage{msg: m.message(now, dhcpv4.MessageTypeRequest,
		m.ask(optAddr(dhcpv4.OptionRequestedIPAddress, a))...)})
}

// discover asks for any address, best the last one.
func (m *machine) discover(now time.Time) {
	m.begin(now, stateSelecting)
	m.sendDiscover(now)
}

func (m *machine) sendDiscover(now time.Time) {
	opts := m.ask(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(optRapidCommit), nil))
	if m.last.IsValid() {
		opts = append(opts, optAddr(dhcpv4.OptionRequestedIPAddress, m.last))
	}
	m.sent, m.retry = now, now.Add(backoff(m.rand, m.attempt))
	m.do(sendMessage{msg: m.message(now, dhcpv4.MessageTypeDiscover, opts...)})
}

// request takes the offer.
func (m *machine) request(now time.Time) {
	m.sent, m.retry = now, now.Add(backoff(m.rand, m.attempt))
	m.do(sendMessage{msg: m.message(now, dhcpv4.MessageTypeRequest, m.ask(
		optAddr(dhcpv4.OptionRequestedIPAddress, m.offer.yours),
		optAddr(dhcpv4.OptionServerIdentifier, m.offer.server))...)})
}

// renew enters RENEWING at T1 and REBINDING at T2.
func (m *machine) renew(now time.Time) {
	s := stateRenewing
	if m.state == stateRenewing || !m.held.Rebind.After(now) {
		s = stateRebinding
	}
	m.begin(now, s)
	m.extend(now)
}

// extend sends the REQUEST of a renewal: to the server until T2, then to all.
func (m *machine) extend(now time.Time) {
	start, end, to := m.held.Renew, m.held.Rebind, m.held.Server
	if m.state == stateRebinding {
		start, end, to = m.held.Rebind, m.held.Expiry, netip.Addr{}
	}
	d := m.message(now, dhcpv4.MessageTypeRequest, m.ask()...)
	d.ClientIPAddr = m.held.Addr().AsSlice()
	m.sent, m.retry = now, now.Add(fuzz(m.rand, renewRetry(end.Sub(now), end.Sub(start)), 10))
	m.do(sendMessage{msg: d, from: m.held.Addr(), to: to})
}

// resend does what follows silence.
func (m *machine) resend(now time.Time) {
	m.attempt++
	switch m.state {
	case stateInit:
		m.discover(now)
	case stateRebooting:
		if m.attached && m.keepOld(now) {
			return
		}
		m.discover(now) // the old address stays until something better is known
	case stateSelecting:
		if m.attempt == discoversBeforeOld && m.keepOld(now) {
			return
		}
		m.sendDiscover(now)
	case stateRequesting:
		if m.attempt >= requestTries {
			m.avoid = m.offer.server
			m.discover(now)
			return
		}
		m.request(now)
	case stateRenewing, stateRebinding:
		m.extend(now)
	default:
		m.retry = time.Time{}
	}
}

// keepOld uses a lease that nobody confirmed and nobody refused
// (RFC 2131 §3.2), when it certainly has not expired.
func (m *machine) keepOld(now time.Time) bool {
	l := m.held
	if !l.Prefix.IsValid() {
		l = m.next
	}
	if !l.Prefix.IsValid() || m.refused || l.Start.After(now) ||
		!l.Expiry.IsZero() && !l.Expiry.After(now) {
		return false
	}
	m.note(slog.LevelWarn, "no server answers, keeping the lease", "address", l.Prefix, "expiry", l.Expiry)
	if soon := now.Add(confirmWait); m.attached && l.Renew.After(soon) {
		l.Renew = soon
	}
	m.take(l)
	return true
}

func (m *machine) receive(now time.Time, r reply) {
	if r.xid != m.xid || !m.listening() {
		return
	}
	if r.kind == dhcpv4.MessageTypeNak {
		m.nak(now, r)
		return
	}
	if m.onlySix && r.onlySix > 0 && (m.state == stateSelecting || m.state == stateRebooting) {
		// Before the address is judged: there may be none (RFC 8925 §3.3).
		m.note(slog.LevelInfo, "the network is for IPv6 alone", "again", r.onlySix)
		m.next = Lease{}
		m.do(store{})
		m.rest(now.Add(r.onlySix))
		m.giveUp(now, "IPv6 only", 0)
		return
	}
	l, err := r.lease(m.sent)
	if err != nil {
		m.note(slog.LevelDebug, "ignoring a reply", "server", r.server, "error", err)
		return
	}
	l.MAC, l.Interface, l.Metric = m.mac, m.ifname, m.metric
	if r.time != forever {
		t1, t2 := leaseTimes(m.rand, r.time, r.t1, r.t2)
		l.Renew, l.Rebind = m.sent.Add(t1), m.sent.Add(t2)
	}
	switch {
	case m.state == stateSelecting && r.kind == dhcpv4.MessageTypeOffer:
		if r.server == m.avoid && m.attempt == 0 {
			return // others first
		}
		m.state, m.offer, m.attempt = stateRequesting, r, 0
		m.request(now)
		m.firstProbe(now, r.yours)
	case m.state == stateSelecting && r.kind == dhcpv4.MessageTypeAck && r.rapid:
		m.firstProbe(now, r.yours)
		m.acknowledged(now, l)
	case m.state == stateRequesting && r.kind == dhcpv4.MessageTypeAck:
		if r.server == m.offer.server && r.yours == m.offer.yours {
			m.acknowledged(now, l)
		}
	case m.state == stateRebooting && r.kind == dhcpv4.MessageTypeAck:
		if r.yours == m.offer.yours {
			m.firstProbe(now, r.yours)
			m.acknowledged(now, l)
		}
	case (m.state == stateRenewing || m.state == stateRebinding) && r.kind == dhcpv4.MessageTypeAck:
		if r.yours == m.held.Addr() && (m.state == stateRebinding || r.server == m.held.Server) {
			m.acknowledged(now, l)
		}
	}
}

// firstProbe asks who has a, unless we do. The full check begins later.
func (m *machine) firstProbe(now time.Time, a netip.Addr) {
	if a == m.held.Addr() && !m.refused || m.fullCheck {
		return
	}
	m.probed = now
	m.do(sendProbe{a})
}

func (m *machine) acknowledged(now time.Time, l Lease) {
	m.avoid = netip.Addr{}
	if m.fullCheck && (l.Addr() != m.held.Addr() || m.refused) {
		m.next, m.state, m.retry = l, stateChecking, time.Time{}
		m.probesTo, m.probeAt = probes, now.Add(time.Duration(m.rand.Int64N(int64(fullProbeWait))))
		return
	}
	if hold := m.probed.Add(holdForProbe); !m.probed.IsZero() && now.Before(hold) {
		m.next, m.state = l, stateChecking
		m.retry, m.probeAt = time.Time{}, hold
		return
	}
	m.take(l)
}

// take has l installed.
func (m *machine) take(l Lease) {
	m.next, m.state, m.retry, m.probeAt = l, stateChecking, time.Time{}, time.Time{}
	m.do(install{lease: l, old: m.held})
}

// installed goes on once the kernel has the address and its route.
func (m *machine) installed(now time.Time, err error) {
	if m.state != stateChecking {
		return
	}
	if err != nil {
		m.note(slog.LevelError, "cannot install the address", "address", m.next.Prefix, "error", err)
		m.do(remove{m.next})
		if m.held.Prefix.IsValid() && m.held.Prefix != m.next.Prefix {
			m.do(remove{m.held})
		}
		m.held, m.refused = Lease{}, false
		if m.told.Prefix.IsValid() && m.lose.IsZero() {
			m.lose, m.loseReason, m.loseHeld = now.Add(replaceGrace), "not installed", false
		}
		m.rest(now.Add(backoff(m.rand, m.failures)))
		m.failures++
		return
	}
	m.failures = 0
	fresh := m.held.Prefix != m.next.Prefix
	if m.next.Router.IsValid() && (m.routerAt == (MAC{}) || m.held.Router != m.next.Router) {
		m.routerAt = MAC{}
		m.do(sendAsk{from: m.next.Addr(), addr: m.next.Router})
	}
	kind := Renewed
	if m.told.Prefix != m.next.Prefix {
		kind = Bound
	}
	m.held, m.last, m.refused, m.state = m.next, m.next.Addr(), false, stateBound
	m.lose, m.retry = time.Time{}, time.Time{}
	if kind == Bound || !m.told.Start.Equal(m.held.Start) { // else it was only repaired
		m.told = m.held
		m.do(tell{Event{Kind: kind, Lease: m.held, At: now}})
		m.do(store{m.held})
	}
	if fresh {
		m.probesTo, m.probeAt = probes-1+announcements, now.Add(probeGap)
		if m.fullCheck {
			m.probesTo, m.probeAt = announcements-1, now.Add(announceGap)
		}
		m.do(sendAnnounce{m.held.Addr()})
	} else if m.probesTo == 0 {
		m.conflicts = 0
	}
}

// probe ends the wait for an answer to the first probe, or sends what follows:
// two more probes, and then the announcements of RFC 5227 §2.3.
func (m *machine) probe(now time.Time) {
	m.probeAt = time.Time{}
	switch {
	case m.state == stateChecking && m.fullCheck && m.probesTo > 0:
		m.do(sendProbe{m.next.Addr()})
		if m.probeAt = now.Add(fullAnnounceWait); m.probesTo > 1 {
			m.probeAt = now.Add(fullProbeGap + time.Duration(m.rand.Int64N(int64(fullProbeGap))))
		}
		m.probesTo--
		return
	case m.state == stateChecking:
		m.take(m.next)
		return
	case !m.held.Prefix.IsValid() || m.probesTo == 0:
		return
	case m.probesTo > announcements:
		m.do(sendProbe{m.held.Addr()})
		m.probeAt = now.Add(probeGap)
	default:
		m.do(sendAnnounce{m.held.Addr()})
		m.probeAt = now.Add(announceGap)
	}
	if m.probesTo--; m.probesTo == 0 {
		m.probeAt = time.Time{}
	}
}

// tampered puts back what somebody removed.
func (m *machine) tampered(now time.Time) {
	switch m.state {
	case stateBound, stateRenewing, stateRebinding:
		if next := m.repaired.Add(repairGap); now.Before(next) {
			m.repairAt = next
			return
		}
		m.repair(now)
	}
}

func (m *machine) repair(now time.Time) {
	m.repairAt = time.Time{}
	switch m.state {
	case stateBound, stateRenewing, stateRebinding:
		m.repaired = now
		m.note(slog.LevelWarn, "address or route was removed, installing it again", "address", m.held.Prefix)
		m.take(m.held)
	}
}
