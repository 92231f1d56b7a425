package netlink

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/link"
)

// How the machine comes to a lease, and keeps it: what it asks, and what it makes
// of answers and of silence.

func (m *machine) link(now time.Time, in linkChanged) {
	if in.up == m.up {
		return
	}
	m.up = in.up
	m.note(slog.LevelInfo, "carrier", "up", m.up)
	if !m.up {
		m.rest(time.Time{})
		m.suspicion.until = time.Time{}
		if end := now.Add(link.Grace); m.told.Prefix.IsValid() && (m.lose.IsZero() || m.lose.After(end)) {
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
	m.attached, m.unconfirmed, m.suspicion = false, false, suspicion{}
	switch {
	case m.held.Prefix.IsValid() && !m.refused:
		wait := rebootWait
		if m.held.Router.IsValid() && m.routerAt != (MAC{}) {
			m.do(sendAsk{from: m.held.Addr(), addr: m.held.Router, to: m.routerAt})
			wait = strangerWait
		}
		m.reboot(now, m.held.Addr(), wait)
	case m.next.Prefix.IsValid():
		m.reboot(now, m.next.Addr(), rebootWait)
	default:
		m.discover(now)
	}
}

// reboot asks for the address we had (RFC 2131 §3.2), and waits so long for an
// answer.
func (m *machine) reboot(now time.Time, a netip.Addr, wait time.Duration) {
	m.begin(now, stateRebooting)
	m.offer = reply{yours: a}
	m.sent, m.retry = now, now.Add(wait)
	m.do(sendMessage{msg: m.message(now, dhcpv4.MessageTypeRequest,
		m.ask(optAddr(dhcpv4.OptionRequestedIPAddress, a))...)})
	m.firstProbe(now, a) // while the server thinks
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
	case stateRebooting, stateSelecting:
		silent := m.attempt >= discoversBeforeOld
		switch {
		case (silent || m.attached) && m.keepOld(now, silent):
		case m.unconfirmed:
			m.askAgain(now)
		case m.state == stateRebooting:
			m.discover(now) // the old address stays until something better is known
		default:
			m.sendDiscover(now)
		}
	case stateRequesting:
		tries := firstTries
		if m.offer.server == m.avoid { // and there is no other
			tries = requestTries
		}
		if m.attempt >= tries {
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
// (RFC 2131 §3.2), when it certainly has not expired, and goes on asking. It
// reports false when there is nothing to do. silent says that all were asked, and
// nobody answered.
func (m *machine) keepOld(now time.Time, silent bool) bool {
	l := m.held
	if !l.Prefix.IsValid() {
		l = m.next
	}
	if !l.Prefix.IsValid() || m.refused || l.Start.After(now) ||
		!l.Expiry.IsZero() && !l.Expiry.After(now) {
		return false
	}
	doubtful := silent && !m.attached
	if m.unconfirmed && m.told.Prefix == l.Prefix && (m.told.Doubtful || !doubtful) {
		return false // it is kept
	}
	m.note(slog.LevelWarn, "no server answers, keeping the lease and asking on", "address", l.Prefix, "expiry", l.Expiry)
	m.unconfirmed = true
	l.Doubtful = doubtful
	l.Metric = m.metricOf(l)
	m.take(l)
	return true
}

// resume goes on asking about the lease that is in use, no later than if it had not
// been installed meanwhile.
func (m *machine) resume(now time.Time) {
	m.state, m.retry = m.asking, m.sent.Add(backoff(m.rand, max(m.attempt-1, 0)))
	if m.retry.Before(now) {
		m.retry = now
	}
	if soon := now.Add(confirmWait); m.attached && m.attempt < discoversBeforeOld {
		m.retry = soon
	}
}

// askAgain asks about the lease in use: for its address, and in turn for any, since
// a server that does not know the first is silent about it.
func (m *machine) askAgain(now time.Time) {
	n, begun := m.attempt, m.begun
	if m.asking == stateSelecting || m.attached && n < discoversBeforeOld {
		m.reboot(now, m.held.Addr(), 0)
	} else {
		m.discover(now)
	}
	m.attempt, m.begun, m.retry = n, begun, now.Add(backoff(m.rand, n))
}

// doubt asks whether the lease still holds, though it need not be renewed yet:
// this may be another network without the carrier having been away.
func (m *machine) doubt(now time.Time) {
	if m.state != stateBound || !m.using() || !m.held.Server.IsValid() || now.Sub(m.sent) < doubtGap {
		return
	}
	m.unconfirmed, m.attached = true, false
	if m.held.Router.IsValid() && m.routerAt != (MAC{}) {
		m.do(sendAsk{from: m.held.Addr(), addr: m.held.Router, to: m.routerAt})
	}
	m.reboot(now, m.held.Addr(), rebootWait)
}

// receive takes what a server says.
func (m *machine) receive(now time.Time, r reply) {
	if r.xid != m.xid || !m.listening() {
		return
	}
	if r.kind == dhcpv4.MessageTypeNak {
		m.nak(now, r)
		return
	}
	if m.onlySix && r.onlySix > 0 && (m.state == stateSelecting || m.state == stateRebooting) {
		m.yieldToSix(now, r.onlySix) // before the address is judged: there may be none (RFC 8925 §3.3)
		return
	}
	l, err := m.promised(r)
	if err != nil {
		m.note(slog.LevelDebug, "ignoring a reply", "server", r.server, "error", err)
		return
	}
	switch r.kind {
	case dhcpv4.MessageTypeOffer:
		m.offered(now, r)
	case dhcpv4.MessageTypeAck:
		m.granted(now, r, l)
	}
}

// yieldToSix does without an IPv4 address, on a network that would rather have it so.
func (m *machine) yieldToSix(now time.Time, wait time.Duration) {
	m.note(slog.LevelInfo, "the network is for IPv6 alone", "again", wait)
	m.next = Lease{}
	m.do(store{})
	m.rest(now.Add(wait))
	m.giveUp(now, "IPv6 only", 0)
}

// promised is the lease that an offer or an ACK means.
func (m *machine) promised(r reply) (Lease, error) {
	l, err := r.lease(m.sent)
	if err != nil {
		return Lease{}, err
	}
	l.MAC, l.Interface, l.Metric = m.mac, m.ifname, m.metricOf(l)
	if r.time != forever {
		t1, t2 := leaseTimes(m.rand, r.time, r.t1, r.t2)
		l.Renew, l.Rebind = m.sent.Add(t1), m.sent.Add(t2)
	}
	return l, nil
}

// offered takes the first offer. One of a server that did not keep its word waits
// for others until the next DISCOVER.
func (m *machine) offered(now time.Time, r reply) {
	if m.state != stateSelecting || r.server == m.avoid && m.attempt == 0 {
		return
	}
	m.state, m.offer, m.attempt = stateRequesting, r, 0
	m.request(now)
	m.firstProbe(now, r.yours)
}

// granted takes an ACK, if it answers what was asked. Where no offer went before, and
// no address was asked for, nobody was asked yet who has it.
func (m *machine) granted(now time.Time, r reply, l Lease) {
	if !m.answers(r) {
		return
	}
	if m.state == stateSelecting {
		m.firstProbe(now, r.yours)
	}
	m.acknowledged(now, l, r.odd)
}

// answers reports whether an ACK is for what was asked, from whom it was asked.
func (m *machine) answers(r reply) bool {
	switch m.state {
	case stateSelecting:
		return r.rapid
	case stateRequesting:
		return r.yours == m.offer.yours && r.server == m.offer.server
	case stateRebooting:
		return r.yours == m.offer.yours
	case stateRenewing:
		return r.yours == m.held.Addr() && r.server == m.held.Server
	case stateRebinding:
		return r.yours == m.held.Addr()
	}
	return false
}
