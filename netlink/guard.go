package netlink

import (
	"net/netip"
	"time"
)

// A guard says whether a fixed address may be used: address conflict detection
// (RFC 5227) for an address that nobody leases, without I/O and without a clock.
type guard struct {
	mac  MAC
	addr netip.Addr

	free     bool // may be used
	out      []any
	next     time.Time
	probes   int // still to send; the first is answered before the address is used
	said     int // announcements still to send
	defended time.Time
	// conflicts counts how often the address was given up, or not taken.
	conflicts int
}

// step takes an arpSeen, a tick or a linkChanged.
func (g *guard) step(now time.Time, in any) []any {
	g.out = nil
	switch in := in.(type) {
	case linkChanged:
		g.mac = in.mac
		if !in.up {
			g.next = time.Time{} // what is used stays for now: the cable may come back
			break
		}
		if g.next.IsZero() && (!g.free || g.probes+g.said == 0) {
			g.begin(now)
		}
	case arpSeen:
		g.arp(now, in)
	}
	if !g.next.IsZero() && !now.Before(g.next) {
		g.due(now)
	}
	return g.out
}

// begin probes, for the first time on this link or once more.
func (g *guard) begin(now time.Time) {
	g.probes, g.said = probes-1, announcements
	g.out = append(g.out, sendProbe{g.addr})
	g.next = now.Add(holdForProbe)
}

func (g *guard) due(now time.Time) {
	switch {
	case !g.free && g.probes < probes-1: // after a conflict
		g.begin(now)
	case !g.free:
		g.free = true
		g.next = now.Add(probeGap)
	case g.probes > 0:
		g.probes--
		g.out = append(g.out, sendProbe{g.addr})
		g.next = now.Add(probeGap)
	case g.said > 0:
		g.said--
		g.out = append(g.out, sendAnnounce{g.addr})
		g.next = now.Add(announceGap)
	default:
		g.next = time.Time{}
	}
}

// arp looks for another host with the address: while it is probed, whoever has
// or wants it; afterwards, whoever claims it twice.
func (g *guard) arp(now time.Time, c arpSeen) {
	if c.addr != g.addr || c.from == g.mac || g.free && c.probe {
		return
	}
	if g.free && g.probes == 0 && (g.defended.IsZero() || now.Sub(g.defended) > defendInterval) {
		g.defended = now
		g.out = append(g.out, sendAnnounce{g.addr})
		return
	}
	if g.next.IsZero() || g.free || g.probes == probes-1 { // else it is known
		g.conflicts++
	}
	g.free, g.probes, g.said, g.defended = false, 0, 0, time.Time{}
	g.next = now.Add(declineWait)
}
