package noise

import (
	"math"

	"flexphone/audio/resample"
)

const (
	// The least power of so many ticks, several times, is the room's.
	perLeast, leasts = 20, 10
	// smooth is how much of a tick counts in the power whose least is sought, which
	// is that much below the mean of a noise.
	smooth, below = 0.2, 1.3
	// louder is by how much a voice is, and hang how many ticks after it count as
	// voice.
	louder, hang = 4, 20
	// heard is the mean square of what is no silence, however even: 45 dB below full
	// scale. inaudible is below a bit and a half, whatever is in it.
	heard, inaudible = full / 31623, 8
	// slowly is how much of a tick counts in what is told of the noise.
	slowly = 0.1
)

// A Meter tells voice from silence, and measures silence. It belongs to one
// goroutine and does not allocate.
type Meter struct {
	down   *resample.Down
	factor int
	low    [rate / 100]int16

	power float64 // smoothed
	least [leasts]float64
	count int // ticks in least[0]
	known int // of least
	left  int // ticks that count as voice

	noise   bool               // the correlations are of some
	related [order + 1]float64 // correlations of a noise, of samples that far apart
}

// NewMeter returns a meter of sound at deviceRate, a multiple of 8000.
func NewMeter(deviceRate int) *Meter {
	factor := deviceRate / rate
	return &Meter{down: resample.NewDown(factor), factor: factor, left: hang}
}

// Voice takes a whole number of ticks, and reports whether there is anything in
// them that should be heard.
func (m *Meter) Voice(pcm []int16) bool {
	voice := false
	for n := len(m.low) * m.factor; len(pcm) >= n; pcm = pcm[n:] {
		m.down.Process(m.low[:], pcm[:n])
		voice = m.tick() || voice
	}
	return voice
}

func (m *Meter) tick() bool {
	sum := 0.0
	for _, v := range m.low {
		sum += float64(v) * float64(v)
	}
	power := sum / float64(len(m.low))
	m.power += (power - m.power) * smooth
	if m.count == 0 {
		copy(m.least[1:], m.least[:leasts-1])
		m.least[0] = m.power
	}
	m.least[0] = min(m.least[0], m.power)
	if m.count++; m.count == perLeast {
		m.count = 0
		m.known = min(m.known+1, leasts)
	}
	switch {
	case power < inaudible:
		m.left--
	case m.known < leasts, power > heard, power > louder*below*m.room():
		m.left = hang
	default:
		m.left--
	}
	if m.left = max(m.left, 0); m.left > 0 {
		return true
	}
	m.measure()
	return false
}

func (m *Meter) room() float64 {
	least := m.least[0]
	for _, l := range m.least[1:] {
		least = min(least, l)
	}
	return least
}

func (m *Meter) measure() {
	weight := slowly
	if !m.noise {
		m.noise, weight = true, 1
	}
	for lag := range m.related {
		sum := 0.0
		for i := lag; i < len(m.low); i++ {
			sum += float64(m.low[i]) * float64(m.low[i-lag])
		}
		m.related[lag] += (sum/float64(len(m.low)) - m.related[lag]) * weight
	}
}

// Level returns the level of the noise, in -dBov.
func (m *Meter) Level() byte {
	if m.related[0] < 1 {
		return Silent
	}
	return byte(min(max(math.Round(-10*math.Log10(m.related[0]/full)), 0), Silent))
}

// Describe writes the payload that describes the noise to b, and returns its length.
func (m *Meter) Describe(b []byte) int {
	b[0] = m.Level()
	if b[0] == Silent {
		return 1
	}
	// Levinson and Durbin; a little white noise keeps it stable.
	var a, before [order + 1]float64
	left := m.related[0] * 1.001
	for k := 1; k <= order; k++ {
		r := m.related[k]
		for i := 1; i < k; i++ {
			r += a[i] * m.related[k-i]
		}
		reflection := min(max(-r/left, -steepest), steepest)
		before = a
		for i := 1; i < k; i++ {
			a[i] += reflection * before[k-i]
		}
		a[k] = reflection
		left *= 1 - reflection*reflection
		b[k] = byte(math.Round(reflection*32768/258) + 127)
	}
	return Size
}
