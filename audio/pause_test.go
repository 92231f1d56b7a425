package audio_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

// inARoom is speech with long pauses, in a room that hums at a level in dBov, and
// where in it there are three seconds of the room alone.
func inARoom(t *testing.T, dBov float64) (sound []int16, pause int) {
	const rate = 16000
	words := audiotest.Speech(t, speechA, rate)
	quiet := make([]int16, 3*rate)
	pause = len(quiet) + len(words)
	sound = slices.Concat(quiet, words, quiet, audiotest.Speech(t, speechB, rate), quiet)
	r, y := rand.New(rand.NewPCG(5, 6)), 0.0
	pole := math.Exp(-2 * math.Pi * 500 / rate)
	gain := 32768 * math.Pow(10, dBov/20) * math.Sqrt(1-pole*pole)
	for i := range sound {
		y = pole*y + gain*r.NormFloat64()
		sound[i] += int16(y)
	}
	return sound, pause
}

// Whoever asks to be told of silence instead of being sent it hears the same words in
// the same room, by half as many packets, of which one comes each second.
func TestSilenceIsToldInsteadOfSent(t *testing.T) {
	const rate, dBov = 16000, -56
	sound, pause := inARoom(t, dBov)
	type figures struct {
		sent          uint64
		room, clarity float64
		longest       time.Duration // between two packets
		stats         audio.Stats
	}
	for _, c := range []struct {
		codec  string
		params string
		noise  uint8
	}{{"PCMU", "", 13}, {"PCMA", "", 97}, {"G722", "", 13}, {"opus", "usedtx=1", 0}} {
		t.Run(c.codec, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(formats(), func(f audio.Format) bool { return f.Codec().Name == c.codec })
			codec := formats()[i].Codec()
			call := func(params string, noise uint8) (f figures) {
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork()
					pa, pb := newPhone(n, hostA, newCard(rate, sound)), newPhone(n, hostB, newCard(rate, nil))
					var last time.Time
					n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
						if to == pb.addr {
							if now := time.Now(); last.IsZero() {
								last = now
							} else {
								f.longest, last = max(f.longest, now.Sub(last)), now
							}
						}
						return []time.Duration{0}
					}
					pa.agree(t, pb.addr, audio.Session{Codec: codec, Params: params, Noise: noise, Send: true, Recv: true})
					receive := []audio.Codec{codec, {Name: "CN", PayloadType: max(noise, 13), ClockRate: 8000}}
					pb.agree(t, pa.addr, audio.Session{Codec: codec, Receive: receive, Send: true, Recv: true})
					run(t, length(sound, rate), pa, pb)
					f.sent, f.stats = pa.Stats().PacketsSent, pb.Stats()
					f.clarity = min( // each by itself, since a pause may change the delay
						understood(sound[3*rate:pause], pb.card.ear[3*rate:pause+rate], rate),
						understood(sound[pause+3*rate:len(sound)-3*rate], pb.card.ear[pause+3*rate:len(sound)-2*rate], rate))
					// In the midst of the pause, behind the delay.
					f.room = power(pb.card.ear[pause+rate : pause+3*rate])
					pa.Close()
					pb.Close()
				})
				return f
			}
			whole, told := call("", 0), call(c.params, c.noise)
			t.Logf("%+v\n%+v", whole, told)
			if told.sent > whole.sent*7/10 || told.longest > 1100*time.Millisecond {
				t.Errorf("%d packets instead of %d, %v between two", told.sent, whole.sent, told.longest)
			}
			if told.clarity < whole.clarity-0.01 || math.Abs(told.room-whole.room) > 4 {
				t.Errorf("understood %.3f, was %.3f; the room is at %.1f dBov, was at %.1f", told.clarity, whole.clarity, told.room, whole.room)
			}
			if s := told.stats; s.PacketsLost != 0 || s.Refused != 0 || s.Late != 0 || s.Concealed > 400*time.Millisecond { // the call ends in a pause
				t.Errorf("silence counts as loss: %+v", s)
			}
		})
	}
}

// understood is the intelligibility of what stands between the pauses of a recording:
// the noise of a room is to be like another one, not the same.
func understood(sound, heard []int16, rate int) float64 {
	from, to := 0, len(sound)
	for from < to && power(sound[from:min(from+rate/50, to)]) < -40 {
		from += rate / 50
	}
	for to > from && power(sound[max(to-rate/50, from):to]) < -40 {
		to -= rate / 50
	}
	return audiotest.Intelligibility(sound[from:to], heard, rate)
}

// power is in dBov.
func power(pcm []int16) float64 {
	sum := 1e-6
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return 10 * math.Log10(sum/float64(len(pcm))/32768/32768)
}
