package echo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"flexphone/audio/audiotest"
)

// Before the filter knows its room, one end at a time is heard: little of the first
// second's echo comes back, and who talks while the other end is silent is heard at once.
func TestBeforeTheRoomIsKnown(t *testing.T) {
	t.Parallel()
	for _, r := range []struct{ delay, t60, gain float64 }{{0.015, 0.3, 0.4}, {0.08, 0.3, 0.4}, {0.015, 0.3, 1.5}, {0.005, 0.15, 0.3}} {
		far := loop(audiotest.Speech(t, "numbers.raw", rate), 2)
		heard, sent := talk(NewDesk(HandsFree, false), newRoom(r.delay, r.t60, r.gain, 7), far, make([]int16, len(far)))
		erle := decibels(power(heard[:rate]) / power(sent[:rate]))
		if t.Logf("%+v: %.1f dB", r, erle); erle < 30 {
			t.Errorf("%+v: the first second's echo is taken down by %.1f dB", r, erle)
		}
	}
	near := loop(audiotest.Speech(t, "something.raw", rate), 6)
	_, sent := talk(NewDesk(HandsFree, false), newRoom(0.015, 0.3, 0.4, 7), make([]int16, len(near)), near)
	if stoi := audiotest.Intelligibility(near, sent, rate); stoi < 0.93 {
		t.Errorf("alone, %.3f of who talks here is understood", stoi)
	}
}

// drifting is far as a card plays it whose clock is slower than that of the microphone's
// card, by ppm: between its samples by a windowed sinc, whose errors are below those of 16
// bits.
//
//go:norace
func drifting(far []int16, ppm float64) []int16 {
	const wing = 24
	out := make([]int16, len(far))
	for i := range out {
		at := float64(i) * (1 - ppm*1e-6)
		sum := 0.0
		for k := int(at) - wing + 1; k <= int(at)+wing; k++ {
			if k < 0 || k >= len(far) {
				continue
			}
			switch x := math.Pi * (at - float64(k)); x {
			case 0:
				sum += float64(far[k])
			default:
				sum += float64(far[k]) * math.Sin(x) / x * (0.5 + 0.5*math.Cos(x/(wing+0.5)))
			}
		}
		out[i] = clip(float32(math.Round(sum)))
	}
	return out
}

// Two cards whose clocks differ are followed, by what two quartzes may differ by and more; also
// when the drift has grown so far that it has to begin anew, which takes a second.
func TestClocksOfTwoCards(t *testing.T) {
	t.Parallel()
	const n = rate / ticksPerSecond
	for ppm, least := range map[float64]float64{0: 50, 20: 45, 100: 40} {
		seconds := 24
		if ppm == 100 { // it is farther away than is followed after 25 s
			seconds = 55
		}
		far := loop(audiotest.Speech(t, "numbers.raw", rate), seconds)
		p, r := NewDesk(HandsFree, false).Processor(rate), newRoom(0.015, 0.3, 0.4, 7)
		echo := r.echo(drifting(far, ppm))
		var heard, sent []int16
		captured := make([]int16, n)
		for at := 0; at+n <= len(far); at += n {
			clear(captured)
			for i := range captured {
				if k := at + i - n; k >= 0 {
					captured[i] = clip(float32(echo[k]))
				}
			}
			heard = append(heard, captured...)
			play := append([]int16(nil), far[at:at+n]...)
			p.Play(play, captured)
			p.Capture(captured, play)
			sent = append(sent, captured...)
		}
		erle := decibels(power(heard[20*rate:24*rate]) / (power(sent[20*rate:24*rate]) + 1e-3))
		if t.Logf("%v ppm: %.1f dB", ppm, erle); erle < least {
			t.Errorf("%v ppm: %.1f dB, want %v", ppm, erle, least)
		}
		for at := 2 * rate; at+rate <= len(sent); at += rate {
			if erle := decibels(power(heard[at:at+rate]) / (power(sent[at:at+rate]) + 1)); erle < 10 {
				t.Errorf("%v ppm: %.1f dB after %d s", ppm, erle, at/rate)
			}
		}
	}
}

// Whoever moves the phone or a door has made another room of it: for some tenths of a second
// what was right for the old one makes it louder, and then the echo is gone again.
func TestRoomThatChanges(t *testing.T) {
	t.Parallel()
	const before, after = 15, 12
	far := loop(audiotest.Speech(t, "numbers.raw", rate), before+after)
	d := NewDesk(HandsFree, false)
	p := d.Processor(rate)
	r := newRoom(0.015, 0.3, 0.4, 7)
	const n = rate / ticksPerSecond
	rng := rand.New(rand.NewPCG(1, 2))
	var heard, sent []int16
	captured, coming := make([]int16, n), make([]float64, n)
	for at := 0; at+n <= len(far); at += n {
		if at == before*rate {
			other := newRoom(0.02, 0.4, 0.5, 8)
			other.past = r.past
			r = other
		}
		for i := range captured {
			captured[i] = clip(float32(coming[i] + 5*rng.NormFloat64()))
		}
		heard = append(heard, captured...)
		play := append([]int16(nil), far[at:at+n]...)
		p.Play(play, captured)
		p.Capture(captured, play)
		sent = append(sent, captured...)
		coming = r.echo(play)
	}
	erle := func(from, to float64) float64 {
		a, b := int((before+from)*rate), int((before+to)*rate)
		return decibels(power(heard[a:b]) / (power(sent[a:b]) + 1e-3))
	}
	for _, tt := range []struct{ from, to, least float64 }{{-4, 0, 45}, {0, 1, -8}, {1, 2, 20}, {2, 4, 30}, {8, 12, 30}} {
		got := erle(tt.from, tt.to)
		if t.Logf("%v to %v s after: %.1f dB", tt.from, tt.to, got); got < tt.least {
			t.Errorf("%v to %v s after the change: %.1f dB, want %v", tt.from, tt.to, got, tt.least)
		}
	}
}

// Across a table steady noise is taken down and a quiet voice brought up; at the ear
// neither is touched.
func TestNoiseAndLevel(t *testing.T) {
	t.Parallel()
	const n = rate / ticksPerSecond
	through := func(m Mode, pcm []int16) []int16 {
		p, out := NewDesk(m, false).Processor(rate), append([]int16(nil), pcm...)
		for at := 0; at+n <= len(out); at += n {
			play := make([]int16, n)
			p.Play(play, out[at:at+n])
			p.Capture(out[at:at+n], play)
		}
		return out
	}
	words := loop(audiotest.Speech(t, "something.raw", rate), 12)
	rms := math.Sqrt(power(words))
	level := func(to float64) []int16 {
		out := make([]int16, len(words))
		for i, v := range words {
			out[i] = clip(float32(float64(v) * to / rms))
		}
		return out
	}
	rng := rand.New(rand.NewPCG(3, 4))
	room := make([]int16, 8*rate)
	for i := range room {
		room[i] = int16(100 * rng.NormFloat64())
	}
	noisy := level(1200)
	for i := range noisy {
		noisy[i] = clip(float32(noisy[i]) + float32(100*rng.NormFloat64()))
	}
	type figures struct{ noise, quiet, loud, clear float64 }
	got := map[Mode]figures{}
	for _, m := range []Mode{Handset, HandsFree} {
		change := func(pcm []int16) float64 {
			return decibels(power(through(m, pcm)[len(pcm)/2:]) / power(pcm[len(pcm)/2:]))
		}
		got[m] = figures{change(room), change(level(400)), change(level(4000)), audiotest.Intelligibility(level(1200), through(m, noisy), rate)}
		t.Logf("%v: %+v", m, got[m])
	}
	if f := got[Handset]; math.Abs(f.noise) > 1 || math.Abs(f.quiet) > 1 || math.Abs(f.loud) > 1 {
		t.Errorf("at the ear: %+v", f)
	}
	if f := got[HandsFree]; f.noise > -10 || f.quiet < 2 || f.quiet > mostGain+1 || f.loud > 0 || f.loud < -9 || f.clear < got[Handset].clear-0.03 {
		t.Errorf("across a table: %+v", f)
	}
}

// Whoever talks while the mode changes is heard on, without a gap or a click: no tick is
// much quieter than in both modes, and no step is steeper than the voice has.
func TestVoiceWhileTheModeChanges(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{16000, 48000} {
		words := audiotest.Speech(t, "something.raw", rate)
		for _, way := range [][2]Mode{{Handset, HandsFree}, {HandsFree, Handset}, {Off, HandsFree}, {HandsFree, Off}, {Handset, Off}, {Off, Handset}} {
			unchanged := map[Mode][]int16{}
			for _, at := range []float64{0.95, 1.7, 2.2} { // s
				t.Run(fmt.Sprintf("%d/%v to %v at %v", rate, way[0], way[1], at), func(t *testing.T) {
					n := rate / ticksPerSecond
					through := func(from, to Mode) []int16 {
						d := NewDesk(from, true)
						p, out := d.Processor(rate), append([]int16(nil), words...)
						for k := 0; k+n <= len(out); k += n {
							if k/n == int(at*ticksPerSecond) {
								d.SetMode(to)
							}
							play := make([]int16, n)
							p.Play(play, out[k:k+n])
							p.Capture(out[k:k+n], play)
						}
						return out
					}
					for _, m := range way {
						if unchanged[m] == nil {
							unchanged[m] = through(m, m)
						}
					}
					changed, before, after := through(way[0], way[1]), unchanged[way[0]], unchanged[way[1]]
					steepest := func(pcm []int16) (most float64) {
						for i := 1; i < len(pcm); i++ {
							most = max(most, math.Abs(float64(pcm[i])-float64(pcm[i-1])))
						}
						return most
					}
					begin := int(at*ticksPerSecond) * n
					for k := begin; k < begin+40*n; k += n {
						// A tick beside it on each side: the modes are 10 ms apart.
						around := func(pcm []int16) (least, steep float64) {
							least = math.Inf(1)
							for j := k - n; j <= k+n; j += n / 2 {
								least = min(least, power(pcm[j:j+n]))
							}
							return least, steepest(pcm[k-2*n : k+3*n])
						}
						quietA, steepA := around(before)
						quietB, steepB := around(after)
						if got, want := power(changed[k:k+n]), min(quietA, quietB); want > 1e4 && got < want/4 {
							t.Errorf("tick %d behind the change: %.0f, the modes have %.0f and %.0f", (k-begin)/n, math.Sqrt(got), math.Sqrt(quietA), math.Sqrt(quietB))
						}
						if got := steepest(changed[k-1 : k+n]); got > 1.3*max(steepA, steepB)+100 {
							t.Errorf("tick %d behind the change: a step of %.0f, the modes have %.0f and %.0f", (k-begin)/n, got, steepA, steepB)
						}
					}
				})
			}
		}
	}
}
