package testbed

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	floodInACall = 100_000 // INVITEs: ten seconds of 10,000
	// connectors is how many handshakes of TLS are begun at a time, and how many
	// connections say nothing, and little. Who is turned out comes back after comeBack.
	connectors = 500
	comeBack   = 5 * time.Second
	// lostInAFlood is the share of the packets of sound that may be lost, and made up the
	// share of the sound that may be, where the machine keeps pace.
	lostInAFlood, madeUpInAFlood = 0.01, 0.02
)

// A phone that talks gets 10,000 calls of strangers a second, 500 handshakes that are
// never finished, as many connections that say nothing, and as many that say a byte at a
// time. Its call has no gap, another phone of ours that calls it is told each time that
// it is busy, and its memory grows no more once it keeps all that it keeps of strangers.
func TestFloodInACall(t *testing.T) {
	if board() != hostBoard {
		t.Skip("an emulated machine is flooded by much less")
	}
	ctx, bed, phones := townAlone(t, Config{}, 3)
	a, b, c := phones[0], phones[1], phones[2]
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	victim := addressOf(ctx, t, b)
	strangers, err := bed.AddCrowd(60)
	must(t, err)
	pace, err := startPace()
	must(t, err)
	flooding, stop := context.WithCancel(ctx)
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	var sent, opened atomic.Int64
	floodWithCalls(flooding, t, &flood, strangers, victim, &sent)
	for _, kind := range []struct {
		ports [2]uint16
		says  func(context.Context, net.Conn)
	}{{[2]uint16{5061, 5061}, beginsTLS}, {[2]uint16{5060, 5061}, saysNothing}, {[2]uint16{5060, 5060}, saysLittle}} {
		for i := range connectors {
			flood.Go(func() {
				for flooding.Err() == nil {
					conn, err := strangers.Dial(flooding, strangers.Addrs[i%len(strangers.Addrs)], netip.AddrPortFrom(victim, kind.ports[i%2]))
					if err == nil {
						opened.Add(1)
						over := context.AfterFunc(flooding, func() { conn.Close() })
						kind.says(flooding, conn)
						over()
						conn.Close()
					}
					wait(flooding, comeBack)
				}
			})
		}
	}

	before := map[*Phone]soundOf{a: soundAt(ctx, t, a), b: soundAt(ctx, t, b)}
	began, calls, settled := time.Now(), 0, footprint{}
	for sent.Load() < floodInACall {
		heardOf(ctx, t, a, b)
		c.Mark()
		must(t, c.Do(ctx, "dial", "102"))
		if e := await(ctx, t, c, "ended"); e.Field("reason") != "busy" {
			t.Errorf("our own phone is told: %v; want busy", e)
		}
		await(ctx, t, c, "state", "state", "standby")
		if calls++; settled.resident == 0 && sent.Load() > floodInACall/2 {
			settled = footprintOf(t, b)
		}
	}
	all, took := sent.Load(), time.Since(began)
	got, err := pace.stop()
	must(t, err)
	heardInAFlood(ctx, t, before, took, got)
	after := footprintOf(t, b)
	for n := 0; n < floodMore && after.grown(settled); n++ { // fewer connections were opened until then than there will be
		t.Logf("memory grew from %d to %d MB; flooding goes on", settled.resident>>10, after.resident>>10)
		for more := sent.Load() + floodInACall/2; sent.Load() < more; wait(ctx, 10*time.Millisecond) {
			must(t, ctx.Err())
		}
		settled, after = after, footprintOf(t, b)
	}
	stop()
	flood.Wait()
	t.Logf("%d INVITEs, %.0f a second, and %d connections, beside %d calls of ours; %d MB after half, %d at the end; %d files; %v",
		all, float64(all)/took.Seconds(), opened.Load(), calls, settled.resident>>10, after.resident>>10, after.files, got)
	if after.grown(settled) {
		t.Errorf("memory grew from %d to %d MB", settled.resident>>10, after.resident>>10)
	}
	hearEachOtherAgain(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))
	b.Mark()
	callWithSound(ctx, t, c, b, "102", victim)
}

// beginsTLS says hello, and never more.
func beginsTLS(ctx context.Context, conn net.Conn) {
	_ = tls.Client(mute{conn}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).HandshakeContext(ctx)
}

// A mute hears nothing until its connection is over.
type mute struct{ net.Conn }

func (c mute) Read([]byte) (int, error) {
	for b := make([]byte, 4096); ; {
		if _, err := c.Conn.Read(b); err != nil {
			return 0, err
		}
	}
}

func saysNothing(_ context.Context, conn net.Conn) { _, _ = mute{conn}.Read(nil) }

// saysLittle begins a request, a byte at a time.
func saysLittle(ctx context.Context, conn net.Conn) {
	text := inviteFrom(conn.LocalAddr().String(), "102", conn.RemoteAddr().String(), "slow")
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := conn.Write([]byte{text[i%100]}); err != nil { // which never ends
			return
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// wait waits for d, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// heardOf tells how much both ends of a call hear of each other in a flood. It is judged by
// what they lose and make up: a flood that makes packets late has the playout buffers grow,
// and words that are played later than they are looked for are heard all the same.
func heardOf(ctx context.Context, t *testing.T, a, b *Phone) {
	t.Helper()
	atA, atB, err := HearEachOther(ctx, a, b)
	must(t, err)
	t.Logf("%s hears: %s; %s hears: %s", a.Name, atA, b.Name, atB)
}

// soundOf is what a phone says of what it hears in a call.
type soundOf struct {
	Received    int     `json:"packets_received"`
	Lost        int     `json:"packets_lost"`
	ConcealedMS float64 `json:"concealed_ms"`
}

// heardInAFlood checks that phones have lost and made up no more than may be since before,
// in a flood that took so long, if that was the machine's pace.
func heardInAFlood(ctx context.Context, t *testing.T, before map[*Phone]soundOf, took time.Duration, got Pace) {
	t.Helper()
	for p, before := range before {
		now := soundAt(ctx, t, p)
		lost, madeUp := now.Lost-before.Lost, time.Duration((now.ConcealedMS-before.ConcealedMS)*float64(time.Millisecond))
		t.Logf("%s has lost %d of %d packets, and made up %v of %v", p.Name, lost, now.Received-before.Received, madeUp, took)
		if !got.Fair() {
			continue // a machine that is too slow fills the queues that packets wait in
		}
		if float64(lost) > lostInAFlood*float64(now.Received-before.Received) {
			t.Errorf("%s has lost %d of %d packets", p.Name, lost, now.Received-before.Received)
		}
		if float64(madeUp) > madeUpInAFlood*float64(took) {
			t.Errorf("%s has made up %v of %v", p.Name, madeUp, took)
		}
	}
}

func soundAt(ctx context.Context, t *testing.T, p *Phone) soundOf {
	t.Helper()
	s, err := p.Status(ctx)
	must(t, err)
	var call struct {
		Statistics soundOf `json:"statistics"`
	}
	must(t, json.Unmarshal(s.Call, &call))
	return call.Statistics
}
