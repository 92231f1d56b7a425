package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// floodInvites is how many INVITEs are a flood. Half of them fills all that a phone
// keeps of what others send, unless a busy machine opens few connections meanwhile:
// then there are more, floodMore times at the most.
const (
	floodInvites = 40_000
	floodCalls   = 4 // that another phone of ours makes meanwhile
	floodMore    = 3
)

// A phone at standby gets more calls of strangers than anybody makes, by UDP from
// many addresses, and all the connections to its TLS port that strangers can open
// and say nothing on. Another phone of ours calls it nevertheless, each time; and once
// the phone keeps all that it keeps of strangers, its memory grows no more.
func TestFlood(t *testing.T) {
	if board() != hostBoard {
		t.Skip("an emulated machine is flooded by much less")
	}
	ctx, bed, phones := townAlone(t, Config{}, 2)
	a, b := phones[0], phones[1]
	victim := addressOf(ctx, t, b)
	strangers, err := bed.AddCrowd(40)
	must(t, err)
	before := footprintOf(t, b)

	flooding, stop := context.WithCancel(ctx)
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	var sent atomic.Int64
	floodWithCalls(flooding, t, &flood, strangers, victim, &sent)
	flood.Go(func() { // whoever is turned out comes back
		var before []net.Conn
		for flooding.Err() == nil {
			var now []net.Conn
			for _, from := range strangers.Addrs {
				for _, port := range []uint16{5061, 5060, 5061, 5060, 5061, 5060, 5061, 5060} {
					if c, err := strangers.Dial(flooding, from, netip.AddrPortFrom(victim, port)); err == nil {
						now = append(now, c)
					}
				}
			}
			for _, c := range before {
				c.Close()
			}
			before = now
			select {
			case <-time.After(100 * time.Millisecond):
			case <-flooding.Done():
			}
		}
		for _, c := range before {
			c.Close()
		}
	})

	began, settled := time.Now(), footprint{}
	reach := func(n int64) {
		for soon := time.NewTicker(10 * time.Millisecond); sent.Load() < n; <-soon.C {
			must(t, ctx.Err())
		}
	}
	for i := range floodCalls {
		reach(int64(i) * floodInvites / floodCalls)
		if i == floodCalls/2 {
			settled = footprintOf(t, b)
		}
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
	reach(floodInvites)
	all, took := sent.Load(), time.Since(began)
	after := footprintOf(t, b)
	for range floodMore {
		if !after.grown(settled) {
			break
		}
		t.Logf("memory grew from %d to %d MB, with %d and %d files; flooding goes on", settled.resident>>10, after.resident>>10, settled.files, after.files)
		reach(sent.Load() + floodInvites/2)
		settled, after = after, footprintOf(t, b)
	}
	stop()
	flood.Wait()
	t.Logf("%d INVITEs, %.0f a second, beside %d calls of ours; %d MB before, %d after half of them, %d at the end; %d, %d and %d files",
		all, float64(all)/took.Seconds(), floodCalls, before.resident>>10, settled.resident>>10, after.resident>>10, before.files, settled.files, after.files)
	if after.grown(settled) {
		t.Errorf("memory grew from %d to %d MB", settled.resident>>10, after.resident>>10)
	}
	b.Mark()
	callWithSound(ctx, t, a, b, "102", victim)
}

// floodWithCalls has eight of the strangers call the victim by UDP, 11,200 times a second
// on a machine that can, until flooding is done, and counts in sent.
func floodWithCalls(flooding context.Context, t *testing.T, flood *sync.WaitGroup, strangers *Crowd, victim netip.Addr, sent *atomic.Int64) {
	for i := range 8 {
		conn, err := strangers.Listen(netip.AddrPortFrom(strangers.Addrs[i], 0))
		must(t, err)
		flood.Go(func() {
			defer conn.Close()
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for n := 0; flooding.Err() == nil; {
				for range 7 {
					n++
					text := inviteFrom(conn.LocalAddr().String(), "102", victim.String(), fmt.Sprintf("flood-%d-%d", i, n))
					if _, err := conn.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(victim, 5060)); err == nil {
						sent.Add(1)
					}
				}
				select {
				case <-pace.C:
				case <-flooding.Done():
				}
			}
		})
	}
}

// inviteFrom is an INVITE to user at a phone, from an address.
func inviteFrom(me, user, phone, id string) string {
	body := "v=0\r\no=- 1 1 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
	return fmt.Sprintf("INVITE sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:stranger@%s>;tag=%s\r\nTo: <sip:%s@%s>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: <sip:stranger@%s>\r\n"+
		"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", user, phone, me, id, me, id, user, phone, id, me, len(body), body)
}
