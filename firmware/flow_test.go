package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/seek"
	"flexphone/audio/srtp"
	"flexphone/firmware/internal/sip"
)

// However often the way is lost, where this phone is seen is asked each five seconds at most, and
// once more after the last time; ever more rarely where nobody answers, until somebody does.
func TestWhenLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lost := make(chan struct{}, 1)
		began, silent := time.Now(), 0
		var at []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			whenLost(ctx, lost, func() bool {
				at = append(at, time.Since(began))
				silent--
				return silent < 0
			})
		}()
		asks := func(when string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(at, want) {
				t.Errorf("%s: asked after %v, want %v", when, at, want)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			began, at = time.Now(), nil
		}
		note(lost)()
		synctest.Wait()
		asks("once", 0)
		for range 120 { // for a minute
			note(lost)()
			time.Sleep(time.Second / 2)
		}
		asks("often", 0, 5*time.Second, 10*time.Second, 15*time.Second, 20*time.Second, 25*time.Second, 30*time.Second, 35*time.Second,
			40*time.Second, 45*time.Second, 50*time.Second, 55*time.Second, time.Minute)
		silent = 6
		note(lost)()
		time.Sleep(time.Hour)
		asks("unanswered", 0, 5*time.Second, 15*time.Second, 35*time.Second, 75*time.Second, 155*time.Second, 235*time.Second)
		note(lost)()
		time.Sleep(time.Second)
		note(lost)()
		time.Sleep(time.Minute)
		asks("answered again", 0, 5*time.Second)
		cancel()
		<-done
	})
}

// Packets are as short as a near peer wishes until the call turns out to be relayed, its sound or
// its signalling, and afterwards again.
func TestPacketsOfADetour(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	engine := audio.NewEngine(audio.Config{Formats: formats(), Log: slog.New(slog.DiscardHandler)})
	var ends [2]*stream
	for i := range ends {
		opened, err := soundFor(t, engine, func(netip.Addr) netip.Addr { return here }).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		ends[i] = opened.(*stream)
	}
	packets := func(when string, want time.Duration) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			f := &ends[0].flow
			f.mu.Lock()
			got := f.packet
			f.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: packets of %v, want %v; sound is %q", when, got, want, ends[0].ways.private.Way())
			}
		}
	}
	session := audio.Session{Codec: carried(codecs("opus")[0]), PacketTime: nearPacket, Send: true, Recv: true}
	agree := func(kind seek.Kind) {
		t.Helper()
		for i, s := range ends {
			p := ends[1-i].ways.private
			f := p.Fingerprint()
			if err := s.ways.private.Start(srtp.Agreement{
				Remote: netip.AddrPortFrom(here, 9), Mux: true, Peer: p.Own(), Candidates: []seek.Candidate{{Addr: netip.AddrPortFrom(here, p.Port()), Kind: kind}},
				DTLS: &srtp.DTLS{Active: i == 0, Fingerprints: []srtp.Fingerprint{f}},
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := ends[0].speak(session); err != nil {
		t.Fatal(err)
	}
	packets("before anything is known", nearPacket)
	agree(seek.Relayed)
	packets("relayed", 0)
	if err := ends[0].speak(session); err != nil {
		t.Fatal(err)
	}
	packets("agreed again", 0)
	agree(seek.Host)
	packets("direct", nearPacket)
	ends[0].local(sip.Peer{Addr: netip.AddrPortFrom(nearHost, 5061), Relayed: true}, codecs("opus"))
	if err := ends[0].speak(session); err != nil {
		t.Fatal(err)
	}
	packets("signalling is relayed", 0)
	session.PacketTime = 40 * time.Millisecond
	if err := ends[0].speak(session); err != nil {
		t.Fatal(err)
	}
	packets("longer ones are wished for", 40*time.Millisecond)
}
