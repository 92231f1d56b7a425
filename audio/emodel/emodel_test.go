package emodel

import (
	"math"
	"testing"
)

// The values of G.107: its R by default, and annex B, table B.1 (R and MOS of each
// limit between its classes).
func TestReferenceValues(t *testing.T) {
	if r := R(Of("PCMU"), 0, 0); r != 93.2 {
		t.Errorf("R by default is %v; want 93.2", r)
	}
	for r, want := range map[float64]float64{93.2: 4.41, 90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58, 0: 1, -5: 1, 100: 4.5, 120: 4.5} {
		if got := MOS(r); math.Abs(got-want) > 0.01 {
			t.Errorf("MOS(%v) = %.3f; want %.2f", r, got, want)
		}
	}
	// Section 7.4: 25 ((1+1)^(1/6) - 3 (1+3^-6)^(1/6) + 2) at twice the delay that
	// nobody minds; and the loss that takes half.
	if got, want := delayed(200), 3.0444; math.Abs(got-want) > 0.001 {
		t.Errorf("a delay of 200 ms takes %.4f; want %.4f", got, want)
	}
	if got := R(Of("PCMU"), 0.251, 0); math.Abs(got-(93.2-47.5)) > 1e-9 {
		t.Errorf("R at a loss of Bpl is %v; want %v", got, 93.2-47.5)
	}
}

// More of what is bad is never better.
func TestWorseIsWorse(t *testing.T) {
	for loss := 0.0; loss < 1; loss += 0.01 {
		for delay := 0.0; delay < 1000; delay += 10 {
			r := R(Of("opus"), loss, delay)
			if more, later := R(Of("opus"), loss+0.01, delay), R(Of("opus"), loss, delay+10); more > r || later > r {
				t.Fatalf("R(%v, %v) = %v, %v with more loss, %v with more delay", loss, delay, r, more, later)
			}
		}
	}
	for r := 0.0; r < 100; r++ {
		if MOS(r+1) < MOS(r) {
			t.Fatalf("MOS(%v) = %v is more than MOS(%v) = %v", r, MOS(r), r+1, MOS(r+1))
		}
	}
}
