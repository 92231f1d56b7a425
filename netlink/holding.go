package netlink

import (
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"flexphone/netlink/internal/arp"
)

// How the machine comes to hold what was acknowledged: it is probed, installed and
// announced, and put back when somebody removes it.

// firstProbe asks who has a, unless we do. The full check begins later.
func (m *machine) firstProbe(now time.Time, a netip.Addr) {
	if a == m.held.Addr() && !m.refused || m.fullCheck {
		return
	}
	m.probed = now
	m.do(sendProbe{a})
}

func (m *machine) acknowledged(now time.Time, l Lease, odd []string) {
	m.avoid, m.unconfirmed = netip.Addr{}, false
	m.do(grant{})
	if text := strings.Join(odd, "; "); text != m.leftOut {
		if m.leftOut = text; text != "" {
			m.note(slog.LevelWarn, "the server sends what cannot be, going without", "what", text)
		}
	}
	if m.fullCheck && (l.Addr() != m.held.Addr() || m.refused) {
		m.next, m.state, m.retry = l, stateChecking, time.Time{}
		m.probesTo, m.probeAt = arp.Probes, now.Add(time.Duration(m.rand.Int64N(int64(arp.ProbeWait))))
		return
	}
	if hold := m.probed.Add(holdForProbe); !m.probed.IsZero() && now.Before(hold) {
		m.next, m.state = l, stateChecking
		m.retry, m.probeAt = time.Time{}, hold
		return
	}
	if m.suspicion.pending() && m.suspicion.claim.Addr == l.Addr() && (l.Addr() != m.held.Addr() || m.refused) {
		m.next, m.state = l, stateChecking
		m.retry, m.probeAt = time.Time{}, m.suspicion.until
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
func (m *machine) installed(now time.Time, in installed) {
	if m.state != stateChecking {
		return
	}
	if err := in.err; err != nil {
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
	if in.refused != m.withoutRoutes {
		if m.withoutRoutes = in.refused; in.refused != "" {
			m.note(slog.LevelWarn, "the kernel refuses routes, going without", "routes", in.refused)
		}
	}
	fresh := m.held.Prefix != m.next.Prefix
	if m.next.Router.IsValid() && (m.routerAt == (MAC{}) || m.held.Router != m.next.Router) {
		m.routerAt = MAC{}
		m.do(sendAsk{from: m.next.Addr(), addr: m.next.Router})
	}
	kind := Renewed
	if !fresh && m.probesTo > 0 {
		m.probeAt = now.Add(arp.FastProbeGap)
	}
	if m.told.Prefix != m.next.Prefix {
		kind = Bound
	}
	m.held, m.last, m.refused, m.state = m.next, m.next.Addr(), false, stateBound
	m.lose, m.retry = time.Time{}, time.Time{}
	if kind == Bound || !m.told.Start.Equal(m.held.Start) || m.told.Doubtful != m.held.Doubtful { // else it was only repaired
		m.told = m.held
		m.do(tell{Event{Kind: kind, Lease: m.held, At: now}})
		m.do(store{m.held})
	}
	if fresh {
		m.probesTo, m.probeAt = arp.Probes-1+arp.Announcements, now.Add(arp.FastProbeGap)
		if m.fullCheck {
			m.probesTo, m.probeAt = arp.Announcements-1, now.Add(arp.AnnounceGap)
		}
		m.do(sendAnnounce{m.held.Addr()})
	} else if m.probesTo == 0 {
		m.conflicts = 0
	}
	if m.unconfirmed {
		m.resume(now)
	}
}

// probe ends the wait for an answer to the first probe, or sends what follows:
// two more probes, and then the announcements of RFC 5227 §2.3.
func (m *machine) probe(now time.Time) {
	m.probeAt = time.Time{}
	switch {
	case m.state == stateChecking && m.fullCheck && m.probesTo > 0:
		m.do(sendProbe{m.next.Addr()})
		if m.probeAt = now.Add(arp.AnnounceWait); m.probesTo > 1 {
			m.probeAt = now.Add(arp.ProbeGap + time.Duration(m.rand.Int64N(int64(arp.ProbeGap))))
		}
		m.probesTo--
		return
	case m.state == stateChecking && m.suspicion.pending():
		m.probeAt = m.suspicion.until
		return
	case m.state == stateChecking:
		m.take(m.next)
		return
	case !m.held.Prefix.IsValid() || m.probesTo == 0:
		return
	case m.probesTo > arp.Announcements:
		m.do(sendProbe{m.held.Addr()})
		m.probeAt = now.Add(arp.FastProbeGap)
	default:
		m.do(sendAnnounce{m.held.Addr()})
		m.probeAt = now.Add(arp.AnnounceGap)
	}
	if m.probesTo--; m.probesTo == 0 {
		m.probeAt = time.Time{}
	}
}

// tampered puts back what somebody removed.
func (m *machine) tampered(now time.Time) {
	if m.using() {
		if next := m.repaired.Add(repairGap); now.Before(next) {
			m.repairAt = next
			return
		}
		m.repair(now)
	}
}

func (m *machine) repair(now time.Time) {
	m.repairAt = time.Time{}
	if m.using() {
		m.repaired = now
		m.note(slog.LevelWarn, "address or route was removed, installing it again", "address", m.held.Prefix)
		m.take(m.held)
	}
}
