package resample

// transition is half of the filter's transition band, as a part of the rate that
// comes in: what a Kaiser window of this beta and taps samples has.
const transition = 0.075

// A Ratio changes the rate by a ratio of two whole numbers. What one tick of a
// device holds comes out as one tick. It belongs to one goroutine.
type Ratio struct {
	up, down int             // of the least terms
	phases   [][taps]float32 // as in Up
	past     [2 * taps]float32
	at       int
	due      int // of the next sample, in parts of up of one that comes in
}

// NewRatio returns a Ratio between two rates in Hz.
func NewRatio(from, to int) *Ratio {
	a, b := from, to
	for b != 0 {
		a, b = b, a%b
	}
	r := &Ratio{up: to / a, down: from / a}
	r.due = r.up
	r.phases = make([][taps]float32, r.up)
	k := kernel(r.up, min(1, float64(to)/float64(from))/2-transition)
	for p := range r.phases {
		for t := range taps {
			r.phases[p][taps-1-t] = k[t*r.up+p] * float32(r.up)
		}
	}
	return r
}

// Process fills dst from src. Both are equally long in time, and so long that both are
// whole numbers of samples, such as 10 ms. It does not allocate.
func (r *Ratio) Process(dst, src []int16) {
	for i := range dst {
		for ; r.due >= r.up; r.due -= r.up {
			r.past[r.at], r.past[r.at+taps] = float32(src[0]), float32(src[0])
			r.at = (r.at + 1) % taps
			src = src[1:]
		}
		window := r.past[r.at : r.at+taps]
		dst[i] = round(dot(r.phases[r.due][:], window))
		r.due += r.down
	}
}
