package netlink

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/moment"
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
	// installed answers install. refused are the routes without which it was done, in
	// words.
	installed struct {
		err     error
		refused string
	}
	tampered struct{} // the installed address or its route is missing
	doubted  struct{} // what the phone needs cannot be reached from the address
	// shunned: another interface is used, or not any more.
	shunned struct{ yes bool }
	tick    struct{} // deadline may have passed
	stopped struct{}
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
	// disown: the address stays for a moment, but nobody is told any more that it is ours.
	disown struct{}
	grant  struct{} // a server grants an address
	tell   struct{ event Event }
	store  struct{ lease Lease } // the zero Lease: forget
	note   struct {              // for the log
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
	shunned  bool // its routes are to come after all others
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
	// asking is how the last exchange that was to find an address began: in
	// stateRebooting or stateSelecting.
	asking state
	retry  time.Time // next transmission, or next beginning in stateInit

	offer   reply
	avoid   netip.Addr // server whose offer led to nothing
	held    Lease      // installed, and not expired
	refused bool       // held was refused or is in conflict: not to be used again
	// unconfirmed: held is used, and nobody confirmed that it may be; the asking
	// goes on.
	unconfirmed bool
	next        Lease      // acknowledged, on its way to be held
	last        netip.Addr // to ask for again
	// routerAt is the hardware address of held's router, zero when unknown;
	// attached says that it answered there since the carrier came up.
	routerAt MAC
	attached bool
	told     Lease // as the reader of the events knows it

	lose       time.Time // when Lost is told
	loseReason string
	loseHeld   bool // and held is removed

	probed        time.Time // first probe of next
	probeAt       time.Time // next probe or announcement
	probesTo      int       // probes and then announcements still to send
	suspicion     suspicion
	defended      time.Time
	repaired      time.Time
	repairAt      time.Time
	naks          int // with less than nakMemory between them
	nakAt         time.Time
	conflicts     int    // since the last undisturbed binding
	failures      int    // of the kernel, in a row
	withoutRoutes string // as the log knows it
	leftOut       string // of what was acknowledged last, as the log knows it
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
	case arp.Claim:
		m.arp(now, in)
	case installed:
		m.installed(now, in)
	case tampered:
		m.tampered(now)
	case doubted:
		m.doubt(now)
	case shunned:
		m.shunned = in.yes
	case tick:
	case stopped:
		m.stop(now)
		return m.out
	}
	m.due(now)
	if m.using() && m.held.Metric != m.metricOf(m.held) {
		l := m.held
		l.Metric = m.metricOf(l)
		m.take(l)
	}
	return m.out
}

// metricOf returns the metric of l's routes.
func (m *machine) metricOf(l Lease) int {
	if m.metric != 0 && (l.Doubtful || m.shunned) {
		return m.metric + doubtMetric
	}
	return m.metric
}

// deadline returns when step wants a tick; zero: never.
func (m *machine) deadline() time.Time {
	return moment.Earliest(m.retry, m.probeAt, m.repairAt, m.lose, m.phase(), m.held.Expiry, m.suspicion.until)
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

// using reports whether held is in use and nothing speaks against it.
func (m *machine) using() bool {
	if !m.up || !m.held.Prefix.IsValid() || m.refused {
		return false
	}
	switch m.state {
	case stateBound, stateRenewing, stateRebinding:
		return true
	case stateRebooting, stateSelecting, stateRequesting:
		return m.unconfirmed && m.told.Prefix == m.held.Prefix
	}
	return false
}

// watched returns the address whose conflicts matter, the zero Addr for none.
func (m *machine) watched() netip.Addr {
	switch m.state {
	case stateRebooting, stateRequesting:
		return m.offer.yours
	case stateChecking:
		return m.next.Addr()
	}
	return m.held.Addr()
}

// neighbour returns the address of the router that shows which network this is,
// the zero Addr for none.
func (m *machine) neighbour() netip.Addr { return m.held.Router }

// overheard returns the addresses of which it matters who says that it has them.
func (m *machine) overheard() []netip.Addr {
	var out []netip.Addr
	if a := m.neighbour(); a.IsValid() {
		out = append(out, a)
	}
	if m.suspicion.pending() {
		out = append(out, m.suspicion.decoys...)
	}
	return out
}

// due does what time asks for.
func (m *machine) due(now time.Time) {
	if moment.Passed(now, m.held.Expiry) {
		m.expire(now)
	}
	if moment.Passed(now, m.lose) {
		m.tellLost(now)
	}
	if moment.Passed(now, m.phase()) {
		m.renew(now)
	}
	if moment.Passed(now, m.repairAt) {
		m.repair(now)
	}
	if moment.Passed(now, m.suspicion.until) {
		m.decline(now, m.suspicion.claim)
	}
	if moment.Passed(now, m.probeAt) {
		m.probe(now)
	}
	if moment.Passed(now, m.retry) {
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
	if s == stateRebooting || s == stateSelecting {
		m.asking = s
	}
	m.probed = time.Time{}
	if !m.held.Prefix.IsValid() || m.refused { // else the checks of held go on
		m.stopProbing()
	}
}

func (m *machine) stopProbing() { m.probed, m.probeAt, m.probesTo = time.Time{}, time.Time{}, 0 }

// rest waits in stateInit; until the zero Time: for the carrier.
func (m *machine) rest(until time.Time) {
	m.state, m.retry = stateInit, until
	m.stopProbing()
}
