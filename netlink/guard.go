package netlink

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"flexphone/netlink/internal/arp"
)

// A guard says whether a fixed address may be used: address conflict detection
// (RFC 5227) for an address that nobody leases, without I/O and without a clock.
type guard struct {
	mac     MAC
	addr    netip.Addr
	network netip.Prefix // of addr
	rand    *rand.Rand   // for whom a claim is tried

	free     bool // may be used
	out      []any
	next     time.Time
	probes   int // still to send; the first is answered before the address is used
	said     int // announcements still to send
	defended time.Time
	// suspicion finds out who answers for every address.
	suspicion suspicion
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
			g.suspicion = suspicion{}
			break
		}
		if g.next.IsZero() && (!g.free || g.probes+g.said == 0) {
			g.begin(now)
		}
	case arp.Claim:
		g.arp(now, in)
	}
	if !g.next.IsZero() && !now.Before(g.next) {
		g.due(now)
	}
	return g.out
}

// begin probes, for the first time on this link or once more.
func (g *guard) begin(now time.Time) {
	g.probes, g.said = arp.Probes-1, arp.Announcements
	g.out = append(g.out, sendProbe{g.addr})
	g.next = now.Add(holdForProbe)
}

func (g *guard) due(now time.Time) {
	switch {
	case g.suspicion.pending() && now.Before(g.suspicion.until):
		g.next = g.suspicion.until
	case g.suspicion.pending():
		g.suspicion.concede(g.suspicion.claim)
		g.giveUp(now)
	case !g.free && g.probes < arp.Probes-1: // after a conflict
		g.begin(now)
	case !g.free:
		g.free = true
		g.next = now.Add(arp.FastProbeGap)
	case g.probes > 0:
		g.probes--
		g.out = append(g.out, sendProbe{g.addr})
		g.next = now.Add(arp.FastProbeGap)
	case g.said > 0:
		g.said--
		g.out = append(g.out, sendAnnounce{g.addr})
		g.next = now.Add(arp.AnnounceGap)
	default:
		g.next = time.Time{}
	}
}

// arp looks for another host with the address: while it is probed, whoever has
// or wants it and is no proxy. Afterwards it is defended, and kept (RFC 5227 §2.4
// c): the address is fixed because the phone must have it.
func (g *guard) arp(now time.Time, c arp.Claim) {
	if g.suspicion.hears(c) {
		g.next = now
		return
	}
	waits := !g.free && g.probes < arp.Probes-1 // after a conflict: it is known
	switch {
	case c.Addr != g.addr, c.From == g.mac, c.From == g.suspicion.proxy, g.free && c.Probe, g.suspicion.pending(), waits && !g.next.IsZero():
	case g.free && g.probes == 0:
		if g.defended.IsZero() || now.Sub(g.defended) > arp.DefendInterval {
			g.defended = now
			g.out = append(g.out, sendAnnounce{g.addr})
		}
	default:
		if ask := g.suspicion.accuse(now, g.rand, g.network, c); len(ask) > 0 {
			g.out = append(g.out, ask...)
			g.next = g.suspicion.until
			return
		}
		g.giveUp(now)
	}
}

// giveUp waits until the address is free.
func (g *guard) giveUp(now time.Time) {
	g.conflicts++
	g.free, g.probes, g.said, g.defended = false, 0, 0, time.Time{}
	g.next = now.Add(declineWait)
}
