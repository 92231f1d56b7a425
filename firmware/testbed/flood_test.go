package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// floodGrowth is by how much a phone's memory may grow in a flood: what it holds
// of calls and connections is bounded, and the rest is the collector's.
const floodGrowth = 32 << 10 // kB

// A phone at standby gets more calls of strangers than anybody makes, by UDP from
// many addresses, and all the connections to its TLS port that strangers can open
// and say nothing on. Another phone of ours calls it nevertheless, and its memory
// stays what it was.
func TestFlood(t *testing.T) {
	if board() != hostBoard {
		t.Skip("an emulated machine is flooded by much less")
	}
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	victim := addressOf(ctx, t, b)
	strangers, err := bed.AddCrowd(40)
	must(t, err)
	before := footprintOf(t, b)

	flooding, stop := context.WithCancel(ctx)
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	sent := make([]int, 8)
	for i := range sent {
		conn, err := strangers.Listen(netip.AddrPortFrom(strangers.Addrs[i], 0))
		must(t, err)
		defer conn.Close()
		flood.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for flooding.Err() == nil {
				for range 6 { // 9,600 INVITEs a second of all, on a machine that can
					sent[i]++
					text := inviteFrom(conn.LocalAddr().String(), "102", victim.String(), fmt.Sprintf("flood-%d-%d", i, sent[i]))
					_, _ = conn.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(victim, 5060)) // lost like any packet may be
				}
				select {
				case <-pace.C:
				case <-flooding.Done():
				}
			}
		})
	}
	flood.Go(func() { // whoever is turned out comes back
		for flooding.Err() == nil {
			for _, from := range strangers.Addrs {
				for _, port := range []uint16{5061, 5060} {
					if c, err := strangers.Dial(flooding, from, netip.AddrPortFrom(victim, port)); err == nil {
						defer c.Close()
					}
				}
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-flooding.Done():
			}
		}
	})

	for range 4 {
		a.Mark()
		must(t, a.OffHook(ctx))
		must(t, a.Press(ctx, "102#"))
		await(ctx, t, a, "dialed")
		for {
			e := await(ctx, t, a, "")
			if e.Name == "ended" {
				t.Errorf("our own phone is told: %v", e)
				break
			}
			if e.Name == "ringing" {
				break
			}
		}
		must(t, a.OnHook(ctx))
		await(ctx, t, a, "state", "state", "standby")
	}
	stop()
	flood.Wait()
	all := 0
	for _, n := range sent {
		all += n
	}
	after := footprintOf(t, b)
	t.Logf("%d INVITEs; memory %d MB before, %d MB after; %d and %d files", all, before.resident>>10, after.resident>>10, before.files, after.files)
	if after.resident > before.resident+floodGrowth {
		t.Errorf("memory grew from %d to %d MB", before.resident>>10, after.resident>>10)
	}
	b.Mark()
	callWithSound(ctx, t, a, b, "102", victim)
}

// inviteFrom is an INVITE to user at a phone, from an address.
func inviteFrom(me, user, phone, id string) string {
	body := "v=0\r\no=- 1 1 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
	return fmt.Sprintf("INVITE sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:stranger@%s>;tag=%s\r\nTo: <sip:%s@%s>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: <sip:stranger@%s>\r\n"+
		"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", user, phone, me, id, me, id, user, phone, id, me, len(body), body)
}
