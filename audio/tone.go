package audio

import (
	"math"
	"time"
)

// A Segment is a stretch of a tone: up to four frequencies at once, or silence.
type Segment struct {
	Hz    []float64
	Level float64       // of each frequency, in dBm0: -10 is a usual dial tone
	For   time.Duration // 0: for ever
}

// A Tone is what a phone makes heard by itself. The zero Tone is silence.
type Tone struct {
	Name     string
	Segments []Segment
	Repeat   bool // from the first segment on, else it ends
}

// A ToneSet is the tones of one country (ITU-T E.180 and its supplement 2).
type ToneSet struct {
	Country    string // ISO 3166
	Dial       Tone
	Ringback   Tone // the other phone rings
	Busy       Tone
	Congestion Tone // no way through: network down, phone offline
	Unknown    Tone // special information tone: no such number
	Ringing    Tone // this phone rings
}

// Germany returns the tones of Germany, as listed in supplement 2 to E.180;
// the sound of the ringer is ours.
func Germany() ToneSet {
	const ms = time.Millisecond
	a := func(on time.Duration) Segment { return Segment{[]float64{425}, -10, on} }
	off := func(d time.Duration) Segment { return Segment{For: d} }
	sit := func(hz float64) Segment { return Segment{[]float64{hz}, -10, 330 * ms} }
	return ToneSet{
		Country:    "DE",
		Dial:       Tone{"dial", []Segment{a(0)}, false},
		Ringback:   Tone{"ringback", []Segment{a(1000 * ms), off(4000 * ms)}, true},
		Busy:       Tone{"busy", []Segment{a(480 * ms), off(480 * ms)}, true},
		Congestion: Tone{"congestion", []Segment{a(240 * ms), off(240 * ms)}, true},
		Unknown:    Tone{"unknown", []Segment{sit(950), sit(1400), sit(1800), off(1000 * ms)}, true},
		Ringing:    ringing(),
	}
}

// ringing is a warble of two tones a fourth apart for a second, then a pause.
func ringing() Tone {
	t := Tone{Name: "ringing", Repeat: true}
	for range 13 {
		t.Segments = append(t.Segments,
			Segment{[]float64{660}, -6, 40 * time.Millisecond},
			Segment{[]float64{880}, -6, 40 * time.Millisecond})
	}
	t.Segments = append(t.Segments, Segment{For: 3 * time.Second})
	return t
}

// DTMF returns the dual tone of a key (ITU-T Q.23): 0-9, *, #, A-D, for the
// given time; false for any other key.
func DTMF(key rune, d time.Duration) (Tone, bool) {
	low, high := [4]float64{697, 770, 852, 941}, [4]float64{1209, 1336, 1477, 1633}
	for row, keys := range [4]string{"123A", "456B", "789C", "*0#D"} {
		for column, k := range keys {
			if k == key {
				return Tone{"key " + string(key), []Segment{{[]float64{low[row], high[column]}, -12, d}}, false}, true
			}
		}
	}
	return Tone{}, false
}

const (
	// fullScale is the level of the loudest sine wave of 16 bits, in dBm0
	// (ITU-T G.711, tables 1 and 2: about 3.14 for A-law).
	fullScale = 3.14
	// ramp is how long a segment swells and fades, so that it does not click.
	ramp = 4 * time.Millisecond
)

// An oscillator makes a sine wave by the recurrence y = 2 cos(w) y' - y”.
type oscillator struct{ k, y1, y2 float64 }

func (o *oscillator) start(hz float64, amplitude float64, rate int) {
	w := 2 * math.Pi * hz / float64(rate)
	o.k, o.y1, o.y2 = 2*math.Cos(w), 0, -amplitude*math.Sin(w)
}

func (o *oscillator) next() float64 {
	y := o.k*o.y1 - o.y2
	o.y1, o.y2 = y, o.y1
	return y
}

// A player plays one tone. It belongs to the engine's goroutine, and does not
// allocate once made.
type player struct {
	tone    Tone
	rate    int
	ramp    int
	segment int
	at      int // samples into it
	length  int // of it; 0: for ever
	sines   [4]oscillator
	voices  int
	over    bool
}

func newPlayer(t Tone, rate int) *player {
	p := &player{tone: t, rate: rate, ramp: int(ramp * time.Duration(rate) / time.Second)}
	p.begin(0)
	return p
}

func (p *player) begin(segment int) {
	if segment == len(p.tone.Segments) {
		segment = 0
		// A tone that takes no time would repeat for ever within one tick.
		p.over = !p.tone.Repeat || p.silentLength()
	}
	if p.over || len(p.tone.Segments) == 0 {
		p.over = true
		return
	}
	s := &p.tone.Segments[segment]
	p.segment, p.at = segment, 0
	p.length = int(s.For * time.Duration(p.rate) / time.Second)
	p.voices = min(len(s.Hz), len(p.sines))
	for i := range p.voices {
		p.sines[i].start(s.Hz[i], math.MaxInt16*math.Pow(10, (s.Level-fullScale)/20), p.rate)
	}
}

// silentLength reports whether no segment of the tone takes a whole sample.
func (p *player) silentLength() bool {
	for _, s := range p.tone.Segments {
		if s.For*time.Duration(p.rate) >= time.Second || s.For == 0 {
			return false
		}
	}
	return true
}

// mix adds the tone's next samples to pcm, and reports whether it goes on.
func (p *player) mix(pcm []int16) bool {
	for i := range pcm {
		for !p.over && p.length == 0 && p.tone.Segments[p.segment].For != 0 {
			p.begin(p.segment + 1)
		}
		if p.over {
			return false
		}
		if p.voices > 0 {
			var v float64
			for k := range p.voices {
				v += p.sines[k].next()
			}
			pcm[i] = add(pcm[i], v*p.swell())
		}
		p.at++
		if p.length > 0 && p.at == p.length {
			p.begin(p.segment + 1)
		}
	}
	return !p.over
}

// fits reports whether pcm is a tick at the player's rate.
func (p *player) fits(pcm []int16) bool { return p.rate == len(pcm)*ticksPerSecond }

// fade adds the end of a tone that is cut off here.
func (p *player) fade(pcm []int16) {
	var end [mostSamples]int16
	n := min(p.ramp, len(pcm))
	p.mix(end[:n])
	for i, v := range end[:n] {
		pcm[i] = add(pcm[i], float64(v)*float64(n-i)/float64(n+1))
	}
}

// swell is the segment's loudness now, 0 to 1.
func (p *player) swell() float64 {
	n := p.at
	if p.length > 0 {
		n = min(n, p.length-p.at)
	}
	if n >= p.ramp {
		return 1
	}
	return float64(n) / float64(p.ramp)
}

// add adds two sounds and clips.
func add(a int16, b float64) int16 {
	return int16(min(max(float64(a)+b, math.MinInt16), math.MaxInt16))
}
