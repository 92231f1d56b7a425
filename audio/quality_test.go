package audio_test

import (
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

// What is lost and what is late count alike, and so does what the way takes.
func TestRating(t *testing.T) {
	if r := (audio.Stats{}).Rating(); r != 93.2 {
		t.Errorf("a call without a flaw is rated %v", r)
	}
	lost := audio.Stats{PacketsReceived: 90, PacketsLost: 10}.Rating()
	late := audio.Stats{PacketsReceived: 100, Late: 10}.Rating()
	if lost != late || lost > 70 || lost < 60 {
		t.Errorf("a tenth that is lost is rated %v, one that is late %v", lost, late)
	}
	if far := (audio.Stats{RoundTrip: 600 * time.Millisecond, Delay: 100 * time.Millisecond}).Rating(); far > 80 || far < 50 {
		t.Errorf("a delay of 400 ms is rated %v", far)
	}
}

// Who asks for it is told how it is heard, and nobody else.
func TestEachEndIsToldHowItIsHeard(t *testing.T) {
	const rate = 16000
	spoken := audiotest.Speech(t, speechA, rate)
	var said []int16
	for range 10 {
		said = append(said, spoken...)
	}
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, said)), newPhone(n, hostB, newCard(rate, said))
		count := 0
		n.way = func(_, to netip.AddrPort, b []byte) []time.Duration {
			late := 30 * time.Millisecond
			if to != pb.addr {
				return []time.Duration{late}
			}
			if count++; count%100 >= 50 && count%100 < 60 && count%2 == 0 { // five of ten, twice in four seconds
				return nil
			}
			return []time.Duration{late}
		}
		codec := formats()[2].Codec()
		pa.agree(t, pb.addr, audio.Session{Codec: codec, Send: true, Recv: true})
		pb.agree(t, pa.addr, audio.Session{Codec: codec, Send: true, Recv: true, Metrics: true})
		run(t, length(said, rate), pa, pb)
		if s := pb.Stats(); s.Told {
			t.Errorf("told though the other end was not asked: %+v", s.Peer)
		}
		s := pa.Stats()
		m := s.Peer
		if !s.Told {
			t.Fatal("the end that lost packets has not said so")
		}
		near := func(what string, got, want, by float64) {
			t.Helper()
			if math.IsNaN(got) || math.Abs(got-want) > by {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		near("lost", m.Lost, .05, .01)
		near("burst density", m.BurstDensity, 5.0/9, .01)
		near("gap density", m.GapDensity, 0, 0)
		near("burst in ms", float64(m.Burst.Milliseconds()), 180, 20) // one may be under way
		near("gap in ms", float64(m.Gap.Milliseconds()), 1700, 200)
		near("round trip in ms", float64(m.RoundTrip.Milliseconds()), 60, 1)
		near("end system in ms", float64(m.EndSystem.Milliseconds()), 45, 25)
		near("R", m.R, pb.Stats().Rating(), 3)
		if m.Conversing > m.Listening || m.Listening < 3 || m.Buffer > m.BufferMost {
			t.Errorf("%+v", m)
		}
		pa.Close()
		pb.Close()
		synctest.Wait()
		time.Sleep(time.Second) // simulated: let the last datagrams land
	})
}
