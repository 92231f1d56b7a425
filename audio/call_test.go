package audio_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

const (
	hostA, hostB = "192.0.2.1", "192.0.2.2"
	speechA      = "goforward.raw"
	speechB      = "something.raw"
)

// quality is what a codec leaves of speech, and the delay that it may add to
// the playout buffer's and the packet's.
func quality(codec audio.Codec) (correlation float64, delay time.Duration) {
	switch codec.Name {
	case "opus":
		return 0.9, 110 * time.Millisecond
	case "G722", "L16": // whose delay at 48 kHz lies between two places that Compare tries
		return 0.94, 110 * time.Millisecond
	}
	return 0.98, 110 * time.Millisecond
}

// speech is recorded speech, behind a second in which nobody speaks yet: the playout
// delay becomes what it should be, which would be found as two delays in one piece.
func speech(t testing.TB, name string, rate int) []int16 {
	t.Helper()
	return append(make([]int16, rate), audiotest.Speech(t, name, rate)...)
}

// heard asserts that p heard what was spoken.
func heard(t *testing.T, p *phone, spoken []int16, correlation, arrived float64, delay time.Duration) {
	t.Helper()
	r := audiotest.Compare(spoken, p.card.ear, p.card.rate)
	t.Logf("%v heard %.3f of the speech after %v, correlation %.3f; %+v", p.addr, r.Arrived, r.Delay, r.Correlation, p.Stats())
	if r.Correlation < correlation || r.Arrived < arrived || r.Delay < 0 || r.Delay > delay {
		t.Errorf("want correlation %.2f, arrived %.2f, within %v", correlation, arrived, delay)
	}
}

func TestSpeechBothWaysByEachCodecAtEachRate(t *testing.T) {
	for _, f := range formats() {
		for _, rate := range []int{8000, 16000, 48000} {
			t.Run(fmt.Sprintf("%s/%d", f.Codec().Name, rate), func(t *testing.T) {
				t.Parallel()
				a, b := speech(t, speechA, rate), speech(t, speechB, rate)
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork()
					pa, pb := newPhone(n, hostA, newCard(rate, a)), newPhone(n, hostB, newCard(rate, b))
					pa.talkTo(t, pb.addr, f.Codec(), 0)
					pb.talkTo(t, pa.addr, f.Codec(), 0)
					run(t, length(b, rate)+time.Second, pa, pb)
					correlation, delay := quality(f.Codec())
					heard(t, pb, a, correlation, 0.97, delay)
					heard(t, pa, b, correlation, 0.97, delay)
					for _, p := range []*phone{pa, pb} {
						s := p.Stats()
						if s.PacketsLost != 0 || s.Late != 0 || s.Refused != 0 || s.Unsent != 0 || s.Codec != f.Codec().Name {
							t.Errorf("a perfect network: %+v", s)
						}
						if s.Delay > 40*time.Millisecond {
							t.Errorf("%v of sound is waiting", s.Delay)
						}
						if err := p.Close(); err != nil {
							t.Error(err)
						}
					}
				})
			})
		}
	}
}

func TestSpeechInPacketsOfEachDuration(t *testing.T) {
	const rate = 16000
	for _, f := range formats() {
		for _, ms := range []int{10, 20, 40, 60} {
			t.Run(fmt.Sprintf("%s/%d", f.Codec().Name, ms), func(t *testing.T) {
				t.Parallel()
				spoken := speech(t, speechA, rate)
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork()
					pa, pb := newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
					packet := time.Duration(ms) * time.Millisecond
					pa.talkTo(t, pb.addr, f.Codec(), packet)
					pb.talkTo(t, pa.addr, f.Codec(), packet)
					run(t, length(spoken, rate)+time.Second, pa, pb)
					correlation, delay := quality(f.Codec())
					heard(t, pb, spoken, correlation, 0.97, delay+packet)
					pa.Close()
					pb.Close()
				})
			})
		}
	}
}

// impaired runs speech from a to b over a network that is not perfect.
func impaired(t *testing.T, codec audio.Codec, way func(n int) []time.Duration, after func(t *testing.T, b *phone, spoken []int16)) {
	t.Helper()
	over(t, codec, "", speech(t, speechA, 16000), way, after)
}

// over is impaired for any speech of 16 kHz, and for a peer that asks for params.
func over(t *testing.T, codec audio.Codec, params string, spoken []int16, way func(n int) []time.Duration, after func(t *testing.T, b *phone, spoken []int16)) {
	t.Helper()
	const rate = 16000
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
		count := 0
		n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
			if to != pb.addr {
				return []time.Duration{0}
			}
			count++
			return way(count)
		}
		pa.agree(t, pb.addr, audio.Session{Codec: codec, Params: params, DTMF: 101, Send: true, Recv: true})
		pb.talkTo(t, pa.addr, codec, 0)
		run(t, length(spoken, rate)+time.Second, pa, pb)
		after(t, pb, spoken)
		pa.Close()
		pb.Close()
		synctest.Wait()
		time.Sleep(time.Second) // simulated: let the last datagrams land
	})
}

func TestDisorderAndDuplicatesAreNotHeard(t *testing.T) {
	const ms = time.Millisecond
	for _, f := range formats() {
		t.Run(f.Codec().Name, func(t *testing.T) {
			impaired(t, f.Codec(), func(n int) []time.Duration {
				switch {
				case n%3 == 0:
					return []time.Duration{25 * ms} // overtaken by the next
				case n%5 == 0:
					return []time.Duration{0, 15 * ms, 100 * ms} // thrice
				}
				return []time.Duration{0}
			}, func(t *testing.T, b *phone, spoken []int16) {
				correlation, delay := quality(f.Codec())
				heard(t, b, spoken, correlation, 0.97, delay)
				if s := b.Stats(); s.PacketsLost != 0 || s.Late != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestLossIsCountedAndTheRestIsHeard(t *testing.T) {
	for _, f := range formats() {
		t.Run(f.Codec().Name, func(t *testing.T) {
			r, lost := rand.New(rand.NewPCG(3, 4)), uint64(0)
			impaired(t, f.Codec(), func(n int) []time.Duration {
				if n > 51 && n < 190 && r.IntN(100) < 10 {
					lost++
					return nil
				}
				return []time.Duration{20 * time.Millisecond}
			}, func(t *testing.T, b *phone, spoken []int16) {
				heard(t, b, spoken, 0.8, 0.7, 150*time.Millisecond)
				if s := b.Stats(); s.PacketsLost != lost || lost == 0 {
					t.Errorf("%d were lost: %+v", lost, s)
				}
			})
		})
	}
}

func TestJitterBeyondTheBufferMakesItGrow(t *testing.T) {
	impaired(t, formats()[2].Codec(), func(n int) []time.Duration {
		if n >= 20 && n < 26 {
			// A stop of the network: all that was sent in it arrives at once.
			return []time.Duration{time.Duration(26-n) * 20 * time.Millisecond}
		}
		return []time.Duration{0}
	}, func(t *testing.T, b *phone, spoken []int16) {
		heard(t, b, spoken, 0.8, 0.8, 250*time.Millisecond)
		if s := b.Stats(); s.PacketsLost != 0 || s.Late == 0 || s.Late > 7 {
			t.Errorf("%+v", s)
		}
	})
}

func TestClocksThatDifferDoNotMakeTheDelayGrow(t *testing.T) {
	const rate = 8000
	spoken := speech(t, speechA, rate)
	for _, ppm := range []int{-2000, 2000} {
		t.Run(fmt.Sprint(ppm), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				var said []int16
				for range 20 { // a minute
					said = append(said, spoken...)
				}
				pa, pb := newPhone(n, hostA, newCard(rate, said)), newPhone(n, hostB, newCard(rate, nil))
				pa.card.tick += pa.card.tick * time.Duration(ppm) / 1_000_000
				codec := formats()[1].Codec()
				pa.talkTo(t, pb.addr, codec, 0)
				pb.talkTo(t, pa.addr, codec, 0)
				run(t, length(said, rate), pa, pb)
				if s := pb.Stats(); s.Delay > 120*time.Millisecond {
					t.Errorf("%d ppm: %+v", ppm, s)
				}
				pb.card.ear = pb.card.ear[len(pb.card.ear)-2*len(spoken):]
				r := audiotest.Compare(spoken, pb.card.ear, rate)
				t.Logf("%d ppm: %+v, %+v", ppm, r, pb.Stats())
				if r.Arrived < 0.85 {
					t.Errorf("%d ppm: at the end %+v", ppm, r)
				}
				pa.Close()
				pb.Close()
			})
		})
	}
}
