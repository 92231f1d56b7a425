package echo

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"testing"
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
