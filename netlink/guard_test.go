package netlink

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"flexphone/netlink/internal/arp"
)

func TestGuard(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	claim := arp.Claim{Addr: simAddr, From: otherMAC}
	up := linkChanged{up: true, mac: simMAC}
	a, b := sendProbe{simAddr}, sendAnnounce{simAddr}
	var sent []any
	g := guard{addr: simAddr, network: netip.PrefixFrom(simAddr, 24), rand: rand.New(rand.NewPCG(1, 2))}
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
	if sent = nil; len(g.suspicion.decoys) != decoys {
		t.Errorf("asks for %v", g.suspicion.decoys)
	}
	run(hearing)
	want("another host has it", false)
	give(claim)
	want("and says so again", false)
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
	give(arp.Claim{Addr: simAddr, From: otherMAC, Probe: true})
	want("another host asks", true)
	for range 20 {
		give(claim)
		run(time.Second)
	}
	want("claimed again and again", true, b)
	give(linkChanged{})
	give(up)
	want("the cable out and in", true, a)
	give(claim)
	sent = nil
	run(hearing)
	want("another host there", false)
	give(linkChanged{})
	give(up)
	give(claim)
	for _, decoy := range slices.Clone(g.suspicion.decoys) {
		give(arp.Claim{Addr: decoy, From: otherMAC})
	}
	run(holdForProbe)
	if sent = nil; !g.free || g.suspicion.proxy != otherMAC {
		t.Errorf("a proxy keeps it: free %v", g.free)
	}
	run(time.Minute)
	give(claim)
	sent = nil
	want("a proxy claims it", true)
}
