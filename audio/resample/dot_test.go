package resample

import (
	"math"
	"math/rand/v2"
	"testing"
)

// What the processor's own instructions make of each length is what Go makes of it, and
// nothing behind it counts.
func TestDot(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; n <= 160; n += 4 {
		a, b := make([]float32, n+8), make([]float32, n+8)
		for i := range a {
			a[i], b[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
		}
		for i := n; i < len(a); i++ {
			a[i], b[i] = float32(math.NaN()), float32(math.Inf(1))
		}
		var want float64
		for i := range n {
			want += float64(a[i]) * float64(b[i])
		}
		for what, got := range map[string]float32{"dot": dot(a[:n], b[:n]), "plainDot": plainDot(a[:n], b[:n])} {
			if math.Abs(float64(got)-want) > 1e-4 {
				t.Errorf("%s of %d: %v, want %v", what, n, got, want)
			}
		}
	}
}
