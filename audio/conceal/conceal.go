// Package conceal fills gaps in speech whose codec cannot do that itself, in the
// manner of ITU-T G.711, Appendix I: the last period of the voice is repeated,
// and fades away.
//
// It knows samples at a rate, those that were heard last and how many are missing.
// It knows neither codecs nor packets.
//
// # What differs from the appendix
//
// The appendix delays all sound by 3.75 ms, so that it can change what was heard
// just before a gap. Here nothing is delayed: the step between what was heard and
// what is made up is spread over a quarter of a period instead. What is heard
// again is faded into within a quarter of a period too, however long the gap was:
// the longer fades of the appendix cost intelligibility (.952 instead of .961 of
// speech with a tenth of its packets lost).
package conceal

import (
	"math"
	"time"
)

const (
	// shortest and longest are the periods that are looked for: of voices from 67
	// to 200 Hz. Of a higher one several periods are repeated.
	shortest = 5 * time.Millisecond
	longest  = 15 * time.Millisecond
	// window is how much of what was heard last is compared with what came before.
	window = 20 * time.Millisecond
	// frame is how long one period is repeated: as many more times, more are, so
	// that it does not sound like a tone.
	frame = 10 * time.Millisecond
	most  = 3 // periods
	// fading: nothing in the first frame, then a fifth in each, so that there is
	// silence after 60 ms.
	fading = 0.2
	// coarse is the rate at which periods are looked for first.
	coarse = 4000
)

// A Concealer is told of what is heard, and makes up what is missing. It belongs
// to one goroutine and does not allocate.
type Concealer struct {
	frame, window     int // in samples
	shortest, longest int
	step              int // of the coarse search

	past []float32 // what was heard or made up, the newest last
	kept []float32 // past when the gap began

	missing int // samples in this gap; 0: there is none
	period  int
	jump    float32 // between what was heard and what is made up
	now     loop
	before  loop // that of the frame before, from which now is faded into
	faded   int  // samples since that began
}

// A loop is a number of periods that are played round and round.
type loop struct {
	pcm     []float32
	periods int
	length  int
	at      int
}

// New returns a concealer of sound at rate samples a second, a multiple of 4000.
func New(rate int) *Concealer {
	samples := func(d time.Duration) int { return int(d * time.Duration(rate) / time.Second) }
	c := &Concealer{
		frame: samples(frame), window: samples(window),
		shortest: samples(shortest), longest: samples(longest), step: rate / coarse,
	}
	c.past = make([]float32, most*c.longest+c.longest/4)
	c.kept = make([]float32, len(c.past))
	c.now.pcm, c.before.pcm = make([]float32, most*c.longest), make([]float32, most*c.longest)
	return c
}

// Heard takes sound as it came. Behind a gap its beginning is faded into, in place.
func (c *Concealer) Heard(pcm []int16) {
	if c.missing > 0 {
		over := min(c.period/4, len(pcm))
		for i := range over {
			w := float32(i+1) / float32(over+1)
			pcm[i] = round(c.next()*(1-w) + float32(pcm[i])*w)
		}
		c.missing = 0
	}
	c.remember(pcm)
}

// Fill makes up what pcm should have been.
func (c *Concealer) Fill(pcm []int16) {
	all := pcm
	for len(pcm) > 0 {
		switch {
		case c.missing == 0:
			c.begin()
		case c.missing%c.frame == 0 && c.now.periods < most:
			c.lengthen()
		}
		n := min(len(pcm), c.frame-c.missing%c.frame)
		for i := range n {
			pcm[i] = round(c.next())
		}
		pcm = pcm[n:]
	}
	c.remember(all)
}

func (c *Concealer) remember(pcm []int16) {
	n := min(len(pcm), len(c.past))
	copy(c.past, c.past[n:])
	to := c.past[len(c.past)-n:]
	for i, v := range pcm[len(pcm)-n:] {
		to[i] = float32(v)
	}
}

// begin finds the period of what was heard, and repeats its last one.
func (c *Concealer) begin() {
	copy(c.kept, c.past)
	c.period = c.search()
	n := len(c.kept)
	c.jump = c.kept[n-1] - c.kept[n-1-c.period]
	c.now.take(c.kept, c.period, 1, 0)
	c.faded = c.period / 4
}

// lengthen repeats one period more.
func (c *Concealer) lengthen() {
	c.before, c.now = c.now, c.before
	c.now.take(c.kept, c.period, c.before.periods+1, c.before.at%c.period)
	c.faded = 0
}

// take makes l a loop of the last periods of past. Its end is faded into what
// precedes its beginning, so that it closes without a step.
func (l *loop) take(past []float32, period, periods, at int) {
	l.periods, l.length, l.at = periods, period*periods, at
	begin := len(past) - l.length
	copy(l.pcm, past[begin:])
	quarter := period / 4
	for i := range quarter {
		w := float32(i+1) / float32(quarter+1)
		end := &l.pcm[l.length-quarter+i]
		*end = *end*(1-w) + past[begin-quarter+i]*w
	}
}

func (l *loop) next() float32 {
	v := l.pcm[l.at]
	if l.at++; l.at == l.length {
		l.at = 0
	}
	return v
}

// next returns the next sample of what is made up.
func (c *Concealer) next() float32 {
	v := c.now.next()
	if quarter := c.period / 4; c.faded < quarter {
		w := float32(c.faded+1) / float32(quarter+1)
		v = v*w + c.before.next()*(1-w)
		c.faded++
	} else if c.missing < quarter {
		v += c.jump * float32(quarter-c.missing) / float32(quarter+1)
	}
	gain := min(1, 1-fading*float32(c.missing-c.frame)/float32(c.frame))
	c.missing++
	return v * max(gain, 0)
}

// search returns the period at which the end of past resembles most what came
// before it.
func (c *Concealer) search() int {
	best, peak := c.longest, float32(0)
	try := func(from, to, step int) {
		for period := from; period <= to; period += step {
			if r := c.likeness(period, step); r > peak {
				best, peak = period, r
			}
		}
	}
	try(c.shortest, c.longest, c.step)
	if c.step > 1 {
		rough := best
		peak = 0
		try(max(rough-c.step+1, c.shortest), min(rough+c.step-1, c.longest), 1)
	}
	return best
}

// likeness is the correlation of the end of past with what was there a period
// earlier, of every step-th sample.
func (c *Concealer) likeness(period, step int) float32 {
	end := c.past[len(c.past)-c.window:]
	earlier := c.past[len(c.past)-c.window-period:]
	var xy, yy float32
	for i := 0; i < len(end); i += step {
		xy += end[i] * earlier[i]
		yy += earlier[i] * earlier[i]
	}
	if yy <= 0 {
		return 0
	}
	return xy / float32(math.Sqrt(float64(yy)))
}

func round(v float32) int16 {
	return int16(math.Round(float64(min(max(v, math.MinInt16), math.MaxInt16))))
}
