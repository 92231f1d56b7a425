package netlink

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"flexphone/netlink/internal/moment"
)

// A state6 is where the DHCPv6 client stands (RFC 8415 §18.2).
type state6 int

const (
	idle6       state6 = iota // no link, or the routers want no DHCPv6
	confirming6               // the link was away: is the address still right here?
	soliciting6
	requesting6
	bound6
	renewing6
	rebinding6
	informing6 // asks for everything but an address
	informed6
)

func (s state6) String() string {
	return [...]string{"idle", "confirming", "soliciting", "requesting", "bound", "renewing", "rebinding", "informing", "informed"}[s]
}

// What can happen to a machine6, beside tick and stopped.
type (
	// linkSays: whether packets can be sent, and what the routers' last
	// advertisement asked for.
	linkSays struct {
		ready          bool
		mac            MAC
		managed, other bool // M and O of RFC 4861 §4.2
	}
	received6 struct{ msg *dhcpv6.Message }
	// duplicate: the kernel found addr at another host.
	duplicate struct{ addr netip.Addr }
)

// What a machine6 wants done.
type (
	send6 struct{ msg *dhcpv6.Message } // to all servers of the link
	// install6 also renews. An old address that differs goes afterwards.
	install6 struct{ lease, old lease6 }
	remove6  struct{ addr netip.Addr }
)

// A lease6 is an address of a DHCPv6 server. Zero times are never.
type lease6 struct {
	addr             netip.Addr
	preferred, valid time.Time
	renew, rebind    time.Time
	server           dhcpv6.DUID
}

// A machine6 is a DHCPv6 client without I/O, as machine is for IPv4.
type machine6 struct {
	mac  MAC
	rand *rand.Rand

	state   state6
	link    linkSays
	out     []any
	xid     dhcpv6.TransactionID
	begun   time.Time
	sent    time.Time
	wait    time.Duration
	tries   int
	retry   time.Time
	offer   lease6
	held    lease6
	dns     []netip.Addr
	domains []string
}

// Intervals of RFC 8415 §7.6; SOL_MAX_RT and INF_MAX_RT are less than there, for
// a phone that nobody can call.
const (
	first6      = time.Second
	maxSolicit6 = 2 * time.Minute
	maxRequest6 = 30 * time.Second
	maxConfirm6 = 4 * time.Second
	firstRenew6 = 10 * time.Second
	maxRenew6   = 10 * time.Minute
	requests6   = 10
	confirms6   = 3
	// refresh6 is IRT_DEFAULT, minRefresh6 IRT_MINIMUM (§21.23).
	refresh6    = 24 * time.Hour
	minRefresh6 = 10 * time.Minute
	// minLease6: what is leased for less is not worth a phone's registration.
	minLease6 = 2 * time.Second
)

func (m *machine6) step(now time.Time, in any) []any {
	m.out = nil
	switch in := in.(type) {
	case linkSays:
		m.hear(now, in)
	case received6:
		m.receive(now, in.msg)
	case duplicate:
		m.decline(now, in.addr)
	case doubted:
		if m.state == bound6 && now.Sub(m.sent) >= doubtGap {
			m.begin(now, confirming6, first6)
		}
	case stopped:
		m.stop(now)
		return m.out
	}
	m.due(now)
	return m.out
}

// deadline returns when step wants a tick; zero: never.
func (m *machine6) deadline() time.Time { return moment.Earliest(m.retry, m.phase(), m.held.valid) }

func (m *machine6) phase() time.Time {
	switch m.state {
	case bound6:
		return m.held.renew
	case renewing6:
		return m.held.rebind
	}
	return time.Time{}
}

// listening reports whether replies can be of use.
func (m *machine6) listening() bool {
	return m.state != idle6 && m.state != bound6 && m.state != informed6
}

func (m *machine6) due(now time.Time) {
	if moment.Passed(now, m.held.valid) {
		m.drop()
		if m.link.ready && m.state != soliciting6 && m.state != requesting6 {
			m.begin(now, soliciting6, first6)
		}
	}
	if moment.Passed(now, m.phase()) {
		next := renewing6
		if m.state == renewing6 || moment.Passed(now, m.held.rebind) {
			next = rebinding6
		}
		m.begin(now, next, firstRenew6)
	}
	if moment.Passed(now, m.retry) {
		m.resend(now)
	}
}

// begin starts an exchange.
func (m *machine6) begin(now time.Time, s state6, wait time.Duration) {
	m.state, m.wait, m.tries = s, wait, 0
	m.renumber(now)
	m.send(now)
}

// renumber takes another transaction identifier (RFC 8415 §16.1).
func (m *machine6) renumber(now time.Time) {
	m.begun = now
	u := m.rand.Uint32()
	m.xid = dhcpv6.TransactionID{byte(u >> 16), byte(u >> 8), byte(u)}
}

// rest ends all exchanges.
func (m *machine6) rest(s state6, until time.Time) { m.state, m.retry = s, until }

func (m *machine6) hear(now time.Time, in linkSays) {
	old := m.link
	m.link = in
	switch {
	case !in.ready:
		m.rest(idle6, time.Time{})
	case !old.ready:
		m.mac = in.mac
		switch {
		case m.held.addr.IsValid():
			m.begin(now, confirming6, first6)
		default:
			m.ask(now)
		}
	case m.state == idle6, m.state == informing6 && in.managed, m.state == informed6 && in.managed:
		m.ask(now)
	}
}

// ask begins what the routers want.
func (m *machine6) ask(now time.Time) {
	switch {
	case m.link.managed:
		m.begin(now, soliciting6, first6)
	case m.link.other:
		m.begin(now, informing6, first6)
	default:
		m.rest(idle6, time.Time{})
	}
}

func (m *machine6) resend(now time.Time) {
	most := maxSolicit6
	m.tries++
	switch m.state {
	case requesting6:
		if m.tries >= requests6 {
			m.begin(now, soliciting6, first6)
			return
		}
		most = maxRequest6
	case confirming6:
		if m.tries >= confirms6 { // nobody objects (RFC 8415 §18.2.3)
			m.confirmed()
			return
		}
		most = maxConfirm6
	case renewing6, rebinding6:
		most = maxRenew6
	case soliciting6, informing6:
	case informed6:
		m.begin(now, informing6, first6)
		return
	default:
		m.retry = time.Time{}
		return
	}
	m.wait = min(2*m.wait, most)
	m.send(now)
}

func (m *machine6) receive(now time.Time, d *dhcpv6.Message) {
	client, server := d.Options.ClientID(), d.Options.ServerID()
	if !m.listening() || d.TransactionID != m.xid || client == nil || server == nil ||
		!bytes.Equal(client.ToBytes(), duid(m.mac).ToBytes()) {
		return
	}
	if d.MessageType != dhcpv6.MessageTypeReply && (d.MessageType != dhcpv6.MessageTypeAdvertise || m.state != soliciting6) {
		return
	}
	status := iana.StatusSuccess
	if s := d.Options.Status(); s != nil {
		status = s.StatusCode
	}
	switch m.state {
	case confirming6:
		if status == iana.StatusNotOnLink {
			m.drop()
			m.ask(now)
			return
		}
		m.confirmed()
		return
	case informing6:
		m.learn(d)
		m.rest(informed6, now.Add(max(d.Options.InformationRefreshTime(refresh6), minRefresh6)))
		return
	}
	l, ok := m.leased(d, server)
	if status != iana.StatusSuccess || !ok {
		m.refused(now, d.MessageType)
		return
	}
	switch m.state {
	case soliciting6:
		if d.MessageType == dhcpv6.MessageTypeAdvertise {
			m.offer = l
			m.begin(now, requesting6, first6)
			return
		}
		if d.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
			return
		}
	case requesting6:
		if !m.offer.server.Equal(server) {
			return
		}
	case renewing6:
		if !m.held.server.Equal(server) {
			return
		}
	}
	m.learn(d)
	m.out = append(m.out, install6{lease: l, old: m.held})
	m.held = l
	m.rest(bound6, time.Time{})
}

// confirmed goes on with the address that was held. The interface may be another one
// that does not have it yet.
func (m *machine6) confirmed() {
	m.out = append(m.out, install6{lease: m.held, old: m.held})
	m.rest(bound6, time.Time{})
}

// refused takes an answer without an address. A binding that a server does not
// know, or that it ends, is asked for anew.
func (m *machine6) refused(now time.Time, kind dhcpv6.MessageType) {
	switch m.state {
	case requesting6:
		m.begin(now, soliciting6, first6)
		m.out = m.out[:len(m.out)-1] // not at once: the server just refused
	case renewing6, rebinding6:
		if kind == dhcpv6.MessageTypeReply {
			m.begin(now, soliciting6, first6) // the address stays for its time, or for a better one
		}
	}
}

func (m *machine6) drop() {
	if m.held.addr.IsValid() {
		m.out = append(m.out, remove6{m.held.addr})
	}
	m.held = lease6{}
}

// decline gives back an address that another host uses.
func (m *machine6) decline(now time.Time, a netip.Addr) {
	if a != m.held.addr || !a.IsValid() {
		return
	}
	m.renumber(now)
	d := m.message(now, dhcpv6.MessageTypeDecline)
	d.AddOption(dhcpv6.OptServerID(m.held.server))
	d.AddOption(m.identity(a))
	m.out = append(m.out, send6{d})
	m.drop()
	m.begin(now, soliciting6, first6)
	m.out = m.out[:len(m.out)-1] // in a second: not the same address again at once
}

// stop gives the address back.
func (m *machine6) stop(now time.Time) {
	if m.held.addr.IsValid() {
		if m.link.ready {
			m.renumber(now)
			d := m.message(now, dhcpv6.MessageTypeRelease)
			d.AddOption(dhcpv6.OptServerID(m.held.server))
			d.AddOption(m.identity(m.held.addr))
			m.out = append(m.out, send6{d})
		}
		m.drop()
	}
	m.rest(idle6, time.Time{})
}
