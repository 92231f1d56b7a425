// Package linklocal gives a phone an IPv4 address of its own (RFC 3927) while nobody
// else does, at which phones on the same link can be called. It stands above a Source
// that asks for an address, and refuses to know how that is done.
//
//	linklocal.go        the address, without I/O and without a clock: (now, input) → actions
//	linklocal_linux.go  runs that, and puts the other Source before it
package linklocal

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"flexphone/internal/mac"
	"flexphone/netlink"
	"flexphone/netlink/internal/arp"
)

// localWait is how long there must be a carrier and no lease before a phone
// gives itself an address: three DISCOVERs are unanswered by then.
const localWait = 8 * time.Second

const (
	// maxLocalConflicts and localRate are MAX_CONFLICTS and RATE_LIMIT_INTERVAL
	// of RFC 3927 §9.
	maxLocalConflicts = 10
	localRate         = time.Minute
	localBits         = 16
)

// What can happen to a local, beside arp.Claim.
type (
	// installed answers install.
	installed struct{ err error }
	tick      struct{} // deadline may have passed
	stopped   struct{}
)

// What it wants done, in order.
type (
	sendProbe    struct{ addr netip.Addr }
	sendAnnounce struct{ addr netip.Addr }
	install      struct{ lease netlink.Lease } // answered with installed
	remove       struct{ lease netlink.Lease }
	tell         struct{ event netlink.Event }
	note         struct { // for the log
		level slog.Level
		text  string
		args  []any
	}
)

// alone says to a local whether an address of its own is of use: there is a
// carrier, and nobody gives one.
type alone struct {
	yes bool
	mac mac.Address
}

// A local gives itself an IPv4 link-local address (RFC 3927), without I/O and
// without a clock.
type local struct {
	ifname string
	wait   time.Duration // localWait
	mac    mac.Address
	rand   *rand.Rand // seeded by the MAC, so that a phone tends to the same address (§2.1)

	want      bool
	out       []any
	addr      netip.Addr // tried or held
	held      bool
	next      time.Time // probe, use, or announcement
	probes    int       // still to send
	announces int
	conflicts int
	defended  time.Time
}

func (m *local) step(now time.Time, in any) []any {
	m.out = nil
	switch in := in.(type) {
	case alone:
		m.wanted(now, in)
	case arp.Claim:
		m.arp(now, in)
	case installed:
		if in.err != nil {
			m.note(slog.LevelError, "cannot install the address", "address", m.addr, "error", in.err)
			m.held, m.next = false, now.Add(localRate)
			m.probes, m.announces = arp.Probes, arp.Announcements
		} else if m.held {
			m.do(tell{netlink.Event{Kind: netlink.Bound, Lease: m.lease(now), At: now}})
		}
	case stopped:
		m.wanted(now, alone{})
		return m.out
	}
	if !m.next.IsZero() && !now.Before(m.next) {
		m.due(now)
	}
	return m.out
}

func (m *local) deadline() time.Time { return m.next }

// watched returns the address whose conflicts matter.
func (m *local) watched() netip.Addr { return m.addr }

func (m *local) do(a any) { m.out = append(m.out, a) }

func (m *local) note(l slog.Level, text string, args ...any) { m.do(note{l, text, args}) }

func (m *local) lease(now time.Time) netlink.Lease {
	return netlink.Lease{MAC: m.mac, Interface: m.ifname, Prefix: netip.PrefixFrom(m.addr, localBits), Start: now}
}

func (m *local) wanted(now time.Time, in alone) {
	if in.yes == m.want {
		return
	}
	m.want = in.yes
	if !m.want {
		m.drop(now, "released")
		m.next, m.addr, m.conflicts = time.Time{}, netip.Addr{}, 0
		return
	}
	if m.mac != in.mac || m.rand == nil {
		m.mac = in.mac
		var seed uint64
		for _, b := range in.mac {
			seed = seed<<8 | uint64(b)
		}
		m.rand = rand.New(rand.NewPCG(seed, 0))
	}
	m.try(now.Add(m.wait))
}

// try takes another address, to be probed from then on.
func (m *local) try(from time.Time) {
	n := 256 + m.rand.IntN(65536-2*256) // the first and last 256 are reserved (§2.1)
	m.addr = netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)})
	m.probes, m.announces = arp.Probes, arp.Announcements
	m.next = from.Add(time.Duration(m.rand.Int64N(int64(arp.ProbeWait))))
}

func (m *local) due(now time.Time) {
	switch {
	case m.probes > 0:
		m.do(sendProbe{m.addr})
		if m.probes--; m.probes > 0 {
			m.next = now.Add(arp.ProbeGap + time.Duration(m.rand.Int64N(int64(arp.ProbeGap))))
		} else {
			m.next = now.Add(arp.AnnounceWait)
		}
	case m.announces > 0:
		if !m.held {
			m.held = true
			m.note(slog.LevelWarn, "no server answers, using an address of our own", "address", m.addr)
			m.do(install{m.lease(now)})
		}
		m.do(sendAnnounce{m.addr})
		m.announces--
		m.next = now.Add(arp.AnnounceGap)
	default:
		m.next = time.Time{}
	}
}

func (m *local) arp(now time.Time, c arp.Claim) {
	if c.Addr != m.addr || !m.addr.IsValid() || c.From == m.mac {
		return
	}
	if m.held {
		if c.Probe {
			return // the kernel answers it
		}
		if m.defended.IsZero() || now.Sub(m.defended) > arp.DefendInterval {
			m.defended = now
			m.do(sendAnnounce{m.addr})
			return
		}
		m.drop(now, "conflict")
	}
	from := now
	if m.conflicts++; m.conflicts > maxLocalConflicts {
		from = now.Add(localRate)
	}
	m.try(from)
}

func (m *local) drop(now time.Time, reason string) {
	if !m.held {
		return
	}
	l := m.lease(now)
	m.held, m.defended = false, time.Time{}
	m.do(remove{l})
	m.do(tell{netlink.Event{Kind: netlink.Lost, Lease: l, Reason: reason, At: now}})
}
