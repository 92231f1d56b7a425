package jitter

import (
	"math"
	"time"
)

const (
	// A period of a voice, and the shortest piece of it that is worth the seam.
	shortest     = 2500 * time.Microsecond
	longestPitch = 15 * time.Millisecond
	// seam is how long one place fades into another.
	seam = 2500 * time.Microsecond
	// alike is the correlation from which on two places may be joined in speech. In
	// voices the best place has far more; noise has less, and is joined anywhere.
	alike = 0.3
	// much is by how much the target is exceeded when speech is made shorter, by half
	// until that is over: the fewer words it touches the better they are understood.
	much = 20 * time.Millisecond
	// restFor is how many ticks are between two pieces that are played again.
	restFor = 3
	// quiet is the level below the voice, and hushed that below which there is none.
	quiet  = 1.0 / 300
	hushed = 30 * 30
	// pauseFor is how long nobody speaks before it is a pause and not a consonant.
	pauseFor = 25 // ticks
	// moment is how long it is quiet between two sounds of speech.
	moment = 3 // ticks
	// fade is how much of the voice's level is left after a tick.
	fade = 0.999
)

// adapt leaves out or repeats a piece of sound, if the delay is not what it should
// be, so that n samples are left at least.
func (b *Buffer) adapt(n int) {
	e := meanSquare(b.pcm[:b.have])
	b.loudness = max(e, b.loudness*fade)
	pause := e < hushed || e < b.loudness*quiet
	if b.pause++; !pause {
		b.pause = 0
	}
	b.rest--
	// Of the next packet, when its time comes.
	excess := b.delay(b.at) + time.Duration(b.have/n)*tick - b.network.wanted()
	switch {
	case excess < -short:
		if b.rest <= 0 && b.repeat(pause) {
			b.rest = restFor
		}
	case excess > much:
		b.omit(n, longestPitch/2, pause)
	case excess > 0:
		quiet, anywhere := b.network.hurries()
		if b.pause >= pauseFor || anywhere || quiet && b.pause >= moment {
			b.omit(n, shortest, pause)
		}
	}
}

// omit leaves out a piece of at least a length, if that can be.
func (b *Buffer) omit(n int, least time.Duration, pause bool) {
	// The next packet is not needed before its time.
	ticks := int((b.network.wanted() - b.delay(b.at) + tick - 1) / tick)
	low, high := samples(least, b.rate), b.have-ticks*n
	if high < low {
		return
	}
	b.ahead(n + samples(longestPitch+seam, b.rate))
	fade := samples(seam, b.rate)
	if high = min(high, samples(longestPitch, b.rate), b.have-n, b.have-2*fade); high < low {
		return
	}
	if p, likeness := b.period(low, high); pause || likeness >= alike {
		blend(b.pcm[p:p+fade], b.pcm[:fade], b.pcm[p:p+fade])
		b.drop(p)
	}
}

// repeat plays a piece twice, if that can be.
func (b *Buffer) repeat(pause bool) bool {
	fade := samples(seam, b.rate)
	high := min(samples(longestPitch, b.rate), b.have-2*fade, len(b.pcm)-b.have)
	low := samples(shortest, b.rate)
	if high < low {
		return false
	}
	p, likeness := b.period(low, high)
	if !pause && likeness < alike {
		return false
	}
	copy(b.pcm[2*p:b.have+p], b.pcm[p:b.have])
	blend(b.pcm[p:p+fade], b.pcm[2*p:2*p+fade], b.pcm[:fade])
	copy(b.pcm[p+fade:2*p], b.pcm[fade:p])
	b.have += p
	return true
}

// ahead decodes what follows without a gap, until n samples are there.
func (b *Buffer) ahead(n int) {
	for b.have < n && len(b.pcm)-b.have >= samples(longest, b.rate) {
		s := b.earliest()
		if s == nil || s.coding == nil || b.hole(s) > 0 {
			return
		}
		b.more()
	}
}

// period returns by how many samples, of low to high, pcm is shifted to be most like
// its own beginning, and how like it is then, up to 1.
func (b *Buffer) period(low, high int) (best int, likeness float64) {
	n := min(b.have-high, samples(tick, b.rate))
	x := b.pcm[:n]
	coarse := max(b.rate/8000, 1)
	best, likeness = low, -1
	for p := low; p <= high; p += coarse {
		if l := like(x, b.pcm[p:p+n], coarse); l > likeness {
			best, likeness = p, l
		}
	}
	middle := best
	for p := max(middle-coarse+1, low); p < min(middle+coarse, high+1); p++ {
		if l := like(x, b.pcm[p:p+n], coarse); l > likeness {
			best, likeness = p, l
		}
	}
	return best, likeness
}

// like is the coefficient of correlation of each stride-th sample.
func like(x, y []int16, stride int) float64 {
	var xy, xx, yy int64
	for i := 0; i < len(x); i += stride {
		a, b := int64(x[i]), int64(y[i])
		xy += a * b
		xx += a * a
		yy += b * b
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return float64(xy) / math.Sqrt(float64(xx)*float64(yy))
}

func meanSquare(x []int16) float64 {
	var sum int64
	for _, v := range x {
		sum += int64(v) * int64(v)
	}
	return float64(sum) / float64(len(x))
}
