package echo

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"testing"
	"time"

	"flexphone/audio/audiotest"
)

// C is called without the runtime's knowledge. What the runtime does by signals
// meanwhile, to stop goroutines and to see where they are, changes nothing that is heard.
func TestCanceledAlikeWhileTheRuntimeInterrupts(t *testing.T) {
	cancel := func(ticks int) (heard []int16) {
		c, err := newCanceller(16000, handsetTail, true)
		if err != nil {
			t.Fatal(err)
		}
		captured, played := make([]int16, 160), make([]int16, 160)
		for k := range ticks {
			for i := range captured {
				played[i] = int16((k*160 + i) * 7919 % 4001)
				captured[i] = played[(i+159)%160]/2 + int16(i%7)
			}
			c.cancel(captured, played)
			heard = append(heard, captured...)
		}
		return heard
	}
	const ticks = 300
	alone := cancel(ticks)
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	over, collecting := make(chan struct{}), sync.WaitGroup{}
	collecting.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				runtime.GC()
			}
		}
	})
	var ends sync.WaitGroup
	for range 4 {
		ends.Go(func() {
			if !slices.Equal(cancel(ticks), alone) {
				t.Error("it is heard that the runtime interrupts")
			}
		})
	}
	ends.Wait()
	close(over)
	collecting.Wait()
}

// Who speaks into a handset is heard 0.2 ms later, where the device has a higher rate than
// what is worked on, and at once where it has not; hands-free 12 ms later.
func TestHandsetAddsNoDelay(t *testing.T) {
	t.Run("handset", func(t *testing.T) { addsDelay(t, false, 0, 250*time.Microsecond, 0.85) }) // the lowest tones are gone
	t.Run("hands-free", func(t *testing.T) { addsDelay(t, true, 12*time.Millisecond, 2500*time.Microsecond, 0.6) })
}

// addsDelay checks by how much a canceller delays a voice, and how alike that stays.
func addsDelay(t *testing.T, clean bool, want, by time.Duration, alike float64) {
	for _, rate := range []int{8000, 16000, 48000} {
		c, err := newCanceller(rate, handsetTail, clean)
		if err != nil {
			t.Fatal(err)
		}
		spoken := audiotest.Speech(t, "goforward.raw", rate)
		heard := slices.Clone(spoken)
		played, n := make([]int16, rate/ticksPerSecond), rate/ticksPerSecond
		for at := 0; at+n <= len(heard); at += n {
			c.cancel(heard[at:at+n], played)
		}
		r := audiotest.Compare(spoken, heard, rate)
		if (r.Delay-want).Abs() > by || r.Correlation < alike {
			t.Errorf("%d Hz: %+v", rate, r)
		}
	}
}
