package echo

import (
	"math"
	"math/rand/v2"
	"testing"

	"flexphone/audio/audiotest"
)

// A room is what a loudspeaker's sound becomes until a microphone hears it: at some moments
// later, by some gains.
type room struct {
	later []int
	gains []float64
	past  []float64 // all that was played
}

// newRoom returns one whose reverberation falls by 60 dB in t60 seconds, behind a way
// through the device of delay seconds; gain is that of the direct sound.
func newRoom(delay, t60, gain float64, seed uint64) *room {
	rng := rand.New(rand.NewPCG(seed, 0))
	direct := int(delay * rate)
	r := &room{later: []int{direct}, gains: []float64{gain}}
	for at := direct + 1; at < direct+int(t60*rate/2); at += 1 + rng.IntN(24) {
		r.later = append(r.later, at)
		r.gains = append(r.gains, gain*0.17*rng.NormFloat64()*math.Pow(10, -3*float64(at-direct)/rate/t60))
	}
	return r
}

// echo returns what the microphone hears of played. It is arithmetic, which the race
// detector would make take ten times as long.
//
//go:norace
func (r *room) echo(played []int16) []float64 {
	out := make([]float64, len(played))
	for i, v := range played {
		r.past = append(r.past, float64(v))
		for k, at := range r.later {
			if at < len(r.past) {
				out[i] += r.gains[k] * r.past[len(r.past)-1-at]
			}
		}
	}
	return out
}

const rate = 16000

// loop returns seconds of speech, said over and over.
func loop(pcm []int16, seconds int) []int16 {
	out := make([]int16, 0, seconds*rate)
	for len(out) < seconds*rate {
		out = append(out, pcm...)
	}
	return out[:seconds*rate]
}

// talk has a room's loudspeaker say far, and somebody there say near, and returns what the
// microphone heard and what of it is sent.
func talk(d *Desk, r *room, far, near []int16) (heard, sent []int16) {
	p := d.Processor(rate)
	const n = rate / ticksPerSecond
	rng := rand.New(rand.NewPCG(1, 2))
	captured, coming := make([]int16, n), make([]float64, n)
	for at := 0; at+n <= len(far); at += n {
		for i := range captured {
			captured[i] = clip(float32(coming[i] + float64(near[at+i]) + 5*rng.NormFloat64())) // a quiet room, not a dead one
		}
		heard = append(heard, captured...)
		play := append([]int16(nil), far[at:at+n]...)
		p.Play(play, captured)
		p.Capture(captured, play)
		sent = append(sent, captured...)
		coming = r.echo(play)
	}
	return heard, sent
}

func power(pcm []int16) (sum float64) {
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(pcm))
}

func decibels(ratio float64) float64 { return 10 * math.Log10(ratio) }

// hear returns by how much of far's echo is taken down in the last four of alone seconds
// before near talks too, in dB, and how well near is then understood.
func hear(t *testing.T, d *Desk, r *room, alone int) (erle, with float64) {
	t.Helper()
	const both = 6
	far := loop(audiotest.Speech(t, "numbers.raw", rate), alone+both)
	near := loop(audiotest.Speech(t, "something.raw", rate), alone+both)
	clear(near[:alone*rate])
	heard, sent := talk(d, r, far, near)
	from, to := (alone-4)*rate, alone*rate
	erle = decibels(power(heard[from:to]) / power(sent[from:to]))
	with = audiotest.Intelligibility(near[to:], sent[to:], rate)
	without := audiotest.Intelligibility(near[to:], heard[to:], rate)
	t.Logf("echo taken down by %.1f dB; intelligibility while both talk %.3f, as the microphone hears it %.3f", erle, with, without)
	return erle, with
}

// In a room that answers for 165 ms, little of the far end comes back to it, and who talks
// meanwhile is understood.
func TestHandsFree(t *testing.T) {
	t.Parallel()
	erle, with := hear(t, NewDesk(HandsFree, false), newRoom(0.015, 0.3, 0.4, 7), 30)
	if erle < 50 || with < 0.86 {
		t.Errorf("want 50 dB, and 0.86")
	}
}

// At the ear the short filter takes out what comes through the device, and the voice is
// what it was.
func TestHandset(t *testing.T) {
	t.Parallel()
	erle, with := hear(t, NewDesk(Handset, false), newRoom(0.012, 0.03, 0.05, 9), 13)
	if erle < 20 || with < 0.97 {
		t.Errorf("want 20 dB, and 0.97")
	}
}

// Off is off: what is said is sent to the sample, and played likewise.
func TestOff(t *testing.T) {
	p := NewDesk(Off, true).Processor(rate)
	play, captured := make([]int16, rate/ticksPerSecond), make([]int16, rate/ticksPerSecond)
	for i := range play {
		play[i], captured[i] = int16(i*50), int16(-i*70)
	}
	p.Play(play, captured)
	p.Capture(captured, play)
	for i := range play {
		if play[i] != int16(i*50) || captured[i] != int16(-i*70) {
			t.Fatalf("sample %d: %d and %d", i, play[i], captured[i])
		}
	}
}

// sine is a tick of a tone that goes on from tick to tick, at an amplitude that leaves no
// step above its own.
func sine(tick, n int, amplitude float64) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(amplitude * math.Sin(2*math.Pi*300*float64(tick*n+i)/rate))
	}
	return out
}

// steepest is the largest step from one sample to the next that the tone of sine has.
func steepest(amplitude float64) float64 { return amplitude * 2 * math.Pi * 300 / rate }

// Mode, volume and mute change in mid-sentence, and no step is heard.
func TestChangesAreNotHeard(t *testing.T) {
	const n, amplitude = rate / ticksPerSecond, 8000
	d := NewDesk(Handset, true)
	p := d.Processor(rate)
	var said, played []int16
	for tick := range 300 {
		switch tick {
		case 50:
			d.SetMode(HandsFree)
		case 100:
			d.SetVolume(Earpiece, UsualVolume-4)
			d.SetVolume(Loudspeaker, UsualVolume-4)
		case 150:
			d.Mute(true)
		case 200:
			d.Mute(false)
			d.SetVolume(Earpiece, UsualVolume)
			d.SetVolume(Loudspeaker, UsualVolume)
		case 240:
			d.SetMode(Handset)
		}
		play, captured := sine(tick, n, amplitude), make([]int16, n)
		if tick >= 120 { // the far end only before; then the near one too
			captured = sine(tick, n, amplitude/2)
		}
		p.Play(play, captured)
		p.Capture(captured, play)
		said, played = append(said, captured...), append(played, play...)
	}
	for what, pcm := range map[string][]int16{"said": said, "played": played} {
		for i := 1; i < len(pcm); i++ {
			if i/n == 120 && what == "said" { // the tone itself begins there
				continue
			}
			if step := math.Abs(float64(pcm[i]) - float64(pcm[i-1])); step > 1.6*steepest(amplitude) {
				t.Errorf("%s: a step of %.0f at %.3f s; the tone has %.0f", what, step, float64(i)/rate, steepest(amplitude))
				break
			}
		}
	}
	for i, v := range said[152*n : 200*n] {
		if v != 0 {
			t.Fatalf("muted, %d is said at sample %d", v, i)
		}
	}
	if got, want := decibels(power(played[140*n:149*n])/power(played[:40*n])), -12.0; math.Abs(got-want) > 1 {
		t.Errorf("four steps down are %.1f dB; want %.1f", got, want)
	}
}

// Handset, loudspeaker and ringer have a volume each, and a ringer can be silent. What is
// heard is changed from one to the other without a step.
func TestEachOutputHasItsVolume(t *testing.T) {
	const n, amplitude = rate / ticksPerSecond, 3000
	d := NewDesk(Handset, false)
	d.SetVolume(Earpiece, 5)
	d.SetVolume(Loudspeaker, 9)
	d.SetVolume(Ringer, -1)
	p := d.Processor(rate)
	tick, last := 0, int16(0)
	level := func() float64 {
		var played []int16
		for range 10 {
			play, captured := sine(tick, n, amplitude), make([]int16, n)
			p.Play(play, captured)
			p.Capture(captured, play)
			for _, v := range play {
				if step := math.Abs(float64(v) - float64(last)); step > 1.6*steepest(3*amplitude) {
					t.Errorf("a step of %.0f", step)
				}
				last = v
			}
			played = append(played, play...)
			tick++
		}
		return decibels((power(played[2*n:]) + 1e-3) / power(sine(0, n, amplitude)))
	}
	for _, tt := range []struct {
		what string
		do   func()
		want float64 // dB
	}{
		{"handset", func() {}, -3},
		{"ringer at 0", func() { d.Ring(true) }, -96},
		{"ringer", func() { d.SetVolume(Ringer, 8) }, 6},
		{"loudspeaker", func() { d.SetMode(HandsFree); d.Ring(false) }, 9},
		{"above the loudest", func() { d.SetVolume(Loudspeaker, 99) }, 12},
		{"handset again", func() { d.SetMode(Handset) }, -3},
	} {
		tt.do()
		level() // until it has changed
		if got := level(); math.Abs(got-tt.want) > 0.5 && got > -90 {
			t.Errorf("%s: %.1f dB; want %.0f", tt.what, got, tt.want)
		}
	}
}

// A speaker hears himself in the handset, faintly, and not when he is muted or across a table.
func TestSideTone(t *testing.T) {
	const n = rate / ticksPerSecond
	level := func(d *Desk) float64 {
		p := d.Processor(rate)
		var played []int16
		for tick := range 20 {
			play, captured := make([]int16, n), sine(tick, n, 10000)
			p.Play(play, captured)
			p.Capture(captured, play)
			played = append(played, play...)
		}
		return decibels((power(played[10*n:]) + 1e-3) / power(sine(0, n, 10000)))
	}
	muted := NewDesk(Handset, true)
	muted.Mute(true)
	for name, tt := range map[string]struct {
		desk     *Desk
		from, to float64
	}{
		"handset":    {NewDesk(Handset, true), -21, -19},
		"none":       {NewDesk(Handset, false), -200, -90},
		"muted":      {muted, -200, -90},
		"hands-free": {NewDesk(HandsFree, true), -200, -90},
	} {
		if got := level(tt.desk); got < tt.from || got > tt.to {
			t.Errorf("%s: a speaker hears himself at %.1f dB; want %.0f to %.0f", name, got, tt.from, tt.to)
		}
	}
}

// What a speaker hears of himself is no echo: his voice is sent as it is without it.
func TestSideToneTakesNothingFromTheVoice(t *testing.T) {
	voice := loop(audiotest.Speech(t, "numbers.raw", rate), 8)
	send := func(sideTone bool) []int16 {
		p := NewDesk(Handset, sideTone).Processor(rate)
		sent := append([]int16(nil), voice...)
		for at := 0; at < len(sent); at += rate / ticksPerSecond {
			play, captured := make([]int16, rate/ticksPerSecond), sent[at:at+rate/ticksPerSecond]
			p.Play(play, captured)
			p.Capture(captured, play)
		}
		return sent[4*rate:]
	}
	with, without := send(true), send(false)
	for i := range with {
		if with[i] != without[i] {
			t.Fatalf("sample %d is %d, without side tone %d; the voice lost %.2f dB", i, with[i], without[i], decibels(power(without)/power(with)))
		}
	}
}

// Whatever is played and captured, no sample is left of full scale, and nothing is lost for good.
func FuzzProcessor(f *testing.F) {
	f.Add([]byte{0, 0x80, 0xff, 0x7f, 1, 2}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, mode uint8) {
		d := NewDesk(Mode(mode%3), true)
		p := d.Processor(rate)
		play, captured := make([]int16, rate/ticksPerSecond), make([]int16, rate/ticksPerSecond)
		for at := 0; at < len(b) && at < 1<<12; at += 64 {
			d.SetMode(Mode((int(mode) + int(b[at])/86) % 3))
			for i := range play {
				play[i] = int16(uint16(b[(at+i)%len(b)])<<8 | uint16(b[(at+2*i)%len(b)]))
				captured[i] = int16(uint16(b[(at+3*i)%len(b)])<<8 | uint16(b[(at+i+1)%len(b)]))
			}
			p.Play(play, captured)
			p.Capture(captured, play)
		}
		for range 200 {
			clear(play)
			clear(captured)
			p.Play(play, captured)
			p.Capture(captured, play)
		}
		if power(captured) > 100 {
			t.Errorf("two seconds later %.0f is said where all is silent", power(captured))
		}
	})
}

// BenchmarkTick is of a far end that talks, whose echo is 20 dB below it or not there, and of
// one that has talked and is silent, as the room is then.
func BenchmarkTick(b *testing.B) {
	const ticks = 1000 // that are heard over and over
	noise := func(rate int, rms float64) []int16 {
		rng, pcm := rand.New(rand.NewPCG(1, 1)), make([]int16, rate/ticksPerSecond*ticks)
		for i := range pcm {
			pcm[i] = int16(rms * rng.NormFloat64())
		}
		return pcm
	}
	for _, bm := range []struct {
		name   string
		mode   Mode
		rate   int
		echo   float64
		silent bool
	}{
		{"off-16000", Off, 16000, 0.1, false}, {"handset-16000", Handset, 16000, 0.1, false}, {"hands-free-16000", HandsFree, 16000, 0.1, false},
		{"handset-48000", Handset, 48000, 0.1, false}, {"hands-free-48000", HandsFree, 48000, 0.1, false},
		{"handset-without-echo-48000", Handset, 48000, 0, false},
		{"handset-16000-silent", Handset, 16000, 0.1, true}, {"hands-free-16000-silent", HandsFree, 16000, 0.1, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			p := NewDesk(bm.mode, true).Processor(bm.rate)
			n := bm.rate / ticksPerSecond
			far := noise(bm.rate, 2000)
			play, captured := make([]int16, n), make([]int16, n)
			turn := func(k int) {
				for i := range captured {
					captured[i] = int16(bm.echo * float64(play[i]))
				}
				copy(play, far[k%ticks*n:])
				p.Play(play, captured)
				p.Capture(captured, play)
			}
			for k := range ticks {
				turn(k)
			}
			if bm.silent {
				clear(far)
			}
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				turn(k)
				k++
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)*ticksPerSecond*60/1e6, "s/call-minute")
		})
	}
}
