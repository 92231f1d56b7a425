package netlink

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
)

// How the machine loses an address: refused, expired, in use by another host,
// or given back.

// nak takes a refusal, if it comes from whom it may.
func (m *machine) nak(now time.Time, r reply) {
	switch m.state {
	case stateRequesting:
		if r.server != m.offer.server {
			return
		}
		m.avoid = r.server
	case stateRenewing:
		if r.server != m.held.Server {
			return
		}
	case stateRebinding, stateRebooting:
	default:
		return
	}
	m.note(slog.LevelWarn, "refused", "state", m.state, "server", r.server, "why", r.complaint)
	if m.state != stateRequesting {
		m.next, m.last = Lease{}, netip.Addr{}
		m.do(store{})
		m.giveUp(now, "nak", replaceGrace)
	}
	if now.Sub(m.nakAt) > nakMemory {
		m.naks = 0
	}
	m.nakAt = now
	if m.naks++; m.naks > 1 {
		m.rest(now.Add(backoff(m.rand, m.naks-2)))
		return
	}
	m.discover(now)
}

// giveUp lets go of the address, after a grace in which another one may come.
func (m *machine) giveUp(now time.Time, reason string, grace time.Duration) {
	if !m.held.Prefix.IsValid() {
		return
	}
	if grace > 0 && !m.refused { // somebody else may be given it meanwhile, and ask who has it
		m.do(disown{})
	}
	m.refused, m.unconfirmed = true, false
	m.lose, m.loseReason, m.loseHeld = now.Add(grace), reason, true
}

// tellLost tells what lose was set for, and removes the address if it must go.
func (m *machine) tellLost(now time.Time) {
	m.lose = time.Time{}
	if m.loseHeld && m.held.Prefix.IsValid() {
		m.do(remove{m.held})
		m.held, m.refused = Lease{}, false
	}
	if m.told.Prefix.IsValid() {
		m.do(tell{Event{Kind: Lost, Lease: m.told, Reason: m.loseReason, At: now}})
		m.told = Lease{}
	}
}

// expire ends the use of an address whose time is over.
func (m *machine) expire(now time.Time) {
	m.note(slog.LevelWarn, "lease expired", "address", m.held.Prefix)
	if m.next.Addr() == m.held.Addr() {
		m.next = Lease{}
	}
	m.giveUp(now, "expired", 0)
	m.tellLost(now)
	switch m.state {
	case stateBound, stateRenewing, stateRebinding, stateRebooting:
		m.discover(now)
	}
}

// arp looks for another host with our address.
func (m *machine) arp(now time.Time, c arp.Claim) {
	if c.From == m.mac || !c.Addr.IsValid() {
		return
	}
	if m.suspicion.hears(c) {
		m.note(slog.LevelWarn, "a proxy answers for every address, not believing it about ours", "proxy", c.From, "address", m.suspicion.claim.Addr)
		if m.state == stateChecking && m.probesTo == 0 {
			m.probeAt = now
		}
		return
	}
	if c.Addr == m.neighbour() && !c.Probe {
		m.routerSeen(now, c.From)
		return
	}
	if c.From == m.suspicion.proxy {
		return
	}
	switch {
	case m.using() && c.Addr == m.held.Addr():
		switch {
		case c.Probe: // the kernel answers it
		case m.probesTo > arp.Announcements: // still probing
			m.accuse(now, c, m.held.Prefix)
		case m.defended.IsZero() || now.Sub(m.defended) > arp.DefendInterval:
			// And keep it (RFC 5227 §2.4 c): who only had to say something to take
			// a phone its address could silence all of them.
			m.defended = now
			m.note(slog.LevelWarn, "defending the address", "address", c.Addr, "against", c.From)
			m.do(sendAnnounce{c.Addr})
		}
	case c.Addr != m.watched():
	case m.state == stateRequesting:
		m.accuse(now, c, m.offer.prefix())
	case m.state == stateChecking, m.state == stateRebooting && c.Addr != m.held.Addr():
		m.accuse(now, c, m.next.Prefix)
	}
}

// accuse looks into a claim to an address of network, which is declined unless the
// claim is a proxy's.
func (m *machine) accuse(now time.Time, c arp.Claim, network netip.Prefix) {
	if m.suspicion.pending() && m.suspicion.claim == c {
		return
	}
	probes := m.suspicion.accuse(now, m.rand, network, c)
	if len(probes) == 0 {
		m.decline(now, c)
		return
	}
	m.out = append(m.out, probes...)
}

// routerSeen detects network attachment (RFC 4436): the router that we knew,
// where we knew it, says that this is the network that we knew. A server still
// has the last word, for a moment.
func (m *machine) routerSeen(now time.Time, from MAC) {
	switch {
	case m.state >= stateBound:
		m.routerAt = from
	case m.state == stateRebooting && from == m.routerAt && m.unconfirmed: // the server gets its time
		m.attached = true
	case m.state == stateRebooting && from == m.routerAt && !m.attached:
		m.attached = true
		if soon := now.Add(attachWait); soon.Before(m.retry) {
			m.retry = soon
		}
	}
}

// decline gives an address back that somebody else uses (RFC 2131 §3.1.5).
func (m *machine) decline(now time.Time, c arp.Claim) {
	m.suspicion.concede(c)
	if c.Addr != m.watched() && c.Addr != m.held.Addr() {
		return // what was looked into meanwhile is not ours any more
	}
	m.note(slog.LevelWarn, "address is in use, declining it", "address", c.Addr, "by", c.From)
	server := m.held.Server
	switch {
	case c.Addr == m.held.Addr():
	case m.state == stateRequesting:
		server = m.offer.server
	case m.state == stateChecking, m.state == stateRebooting:
		server = m.next.Server
	}
	m.xid[0]++ // no late ACK for this exchange
	m.do(sendMessage{msg: m.message(now, dhcpv4.MessageTypeDecline,
		optAddr(dhcpv4.OptionRequestedIPAddress, c.Addr),
		optAddr(dhcpv4.OptionServerIdentifier, server))})
	m.next, m.last, m.defended, m.unconfirmed = Lease{}, netip.Addr{}, time.Time{}, false
	m.do(store{})
	if m.held.Addr() == c.Addr {
		m.giveUp(now, "conflict", 0)
		m.tellLost(now)
	}
	if m.conflicts++; m.conflicts > 1 {
		m.rest(now.Add(declineWait))
		return
	}
	m.discover(now)
}

// stop gives the address back.
func (m *machine) stop(now time.Time) {
	if m.held.Prefix.IsValid() {
		if m.up && !m.refused && m.held.Server.IsValid() {
			m.begin(now, stateInit)
			d := m.message(now, dhcpv4.MessageTypeRelease, optAddr(dhcpv4.OptionServerIdentifier, m.held.Server))
			d.ClientIPAddr = m.held.Addr().AsSlice()
			m.do(sendMessage{msg: d, from: m.held.Addr(), to: m.held.Server})
			m.do(store{})
		}
		m.loseHeld = true
	}
	m.loseReason = "released"
	m.tellLost(now)
	m.rest(time.Time{})
}
