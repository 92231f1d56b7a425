package netlink

import (
	"slices"
	"testing"
	"time"
)

func TestGuard(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	claim := arpSeen{addr: simAddr, from: otherMAC}
	up := linkChanged{up: true, mac: simMAC}
	a, b := sendProbe{simAddr}, sendAnnounce{simAddr}
	var sent []any
	g := guard{addr: simAddr}
	give := func(in any) { sent = append(sent, g.step(now, in)...) }
	run := func(d time.Duration) {
		end := now.Add(d)
		for !g.next.IsZero() && !g.next.After(end) {
			now = g.next
			give(tick{})
		}
		now = end
	}
	want := func(what string, free bool, arp ...any) {
		t.Helper()
		if g.free != free || !slices.Equal(sent, arp) {
			t.Errorf("%s: free %v, ARP %v; want %v, %v", what, g.free, sent, free, arp)
		}
		sent = nil
	}
	give(up)
	want("at first", false, a)
	give(claim)
	want("another host has it", false)
	run(declineWait - 1)
	want("waiting", false)
	run(1 + holdForProbe)
	want("the other host has gone", true, a)
	give(up)
	want("a hint", true)
	run(time.Minute)
	want("bound", true, a, a, b, b)
	give(claim)
	want("defended", true, b)
	give(arpSeen{addr: simAddr, from: otherMAC, probe: true})
	want("another host asks", true)
	give(claim)
	want("claimed again", false)
	run(time.Minute)
	want("free again", true, a, a, a, b, b)
	give(linkChanged{})
	give(up)
	want("the cable out and in", true, a)
	give(claim)
	want("another host there", false)
}
