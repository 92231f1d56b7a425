package testbed

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/testbed/wire"
)

const (
	floodInACall = 100_000 // INVITEs: ten seconds of 10,000
	// connectors is how many handshakes of TLS are begun at a time, and how many
	// connections say nothing, and little. Who is turned out comes back after comeBack.
	connectors = 500
	comeBack   = 5 * time.Second
	// noGap is how much longer the longest silence between two packets may be than
	// without a flood: what a playout buffer holds.
	noGap = 60 * time.Millisecond
)

// A phone that talks gets 10,000 calls of strangers a second, 500 handshakes that are
// never finished, as many connections that say nothing, and as many that say a byte at a
// time. Its call has no gap, another phone of ours that calls it is told each time that
// it is busy, and its memory grows no more once it keeps all that it keeps of strangers.
func TestFloodInACall(t *testing.T) {
	if board() != hostBoard {
		t.Skip("an emulated machine is flooded by much less")
	}
	ctx, bed, phones := town(t, Config{}, 3)
	a, b, c := phones[0], phones[1], phones[2]
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	gaps := &gapMeter{last: map[netip.AddrPort]time.Time{}}
	deaf, err := bed.Overhear(gaps.hear, a, b)
	must(t, err)
	hearEachOther(ctx, t, a, b)
	quiet := gaps.longest()

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

	began, calls, settled := time.Now(), 0, footprint{}
	for sent.Load() < floodInACall {
		hearEachOther(ctx, t, a, b)
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
	all, took, after, gap := sent.Load(), time.Since(began), footprintOf(t, b), gaps.longest()
	got, err := pace.stop()
	must(t, err)
	must(t, deaf())
	stop()
	flood.Wait()
	t.Logf("%d INVITEs, %.0f a second, and %d connections, beside %d calls of ours; longest gap %v, without a flood %v; %d MB after half, %d at the end; %d files",
		all, float64(all)/took.Seconds(), opened.Load(), calls, gap, quiet, settled.resident>>10, after.resident>>10, after.files)
	if settled.resident > 0 && after.resident > settled.resident*4/3 {
		t.Errorf("memory grew from %d to %d MB", settled.resident>>10, after.resident>>10)
	}
	switch {
	case gap <= quiet+noGap:
	case got.Fair():
		t.Errorf("a gap of %v in a call that is flooded, and of %v before", gap, quiet)
	default:
		t.Logf("this machine is too slow to say whose the gap is: %v", got)
	}
	hearEachOther(ctx, t, a, b)
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

// A gapMeter measures the longest time between two packets of sound of one source.
type gapMeter struct {
	mu   sync.Mutex
	last map[netip.AddrPort]time.Time
	most time.Duration
}

func (m *gapMeter) hear(at time.Time, packet []byte) {
	from, _, ok := wire.Voice(packet)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, heard := m.last[from]; heard {
		m.most = max(m.most, at.Sub(last))
	}
	m.last[from] = at
}

// longest returns the longest gap since it was last asked for.
func (m *gapMeter) longest() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.most
	m.most = 0
	return most
}
