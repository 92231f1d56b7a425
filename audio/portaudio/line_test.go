package portaudio

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func open(t *testing.T, rate int) *line {
	t.Helper()
	l, err := newLine(rate, usualAhead)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.free(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// What one side writes the other reads, in order, whatever the sizes of the
// card's periods are, and each tick wakes the engine.
func TestLinePassesAllSamplesInOrderBetweenTwoThreads(t *testing.T) {
	const ticks = 2000
	l := open(t, 16000)
	took := make(chan struct{}, 1)
	var taken atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { // the card
		rnd := rand.New(rand.NewPCG(1, 1))
		heard, said := 0, 0
		for said < ticks*l.tick {
			in := make([]int16, 1+rnd.IntN(min(2*l.tick, ticks*l.tick-said)))
			for i := range in {
				in[i] = int16(said + i)
			}
			said += len(in)
			out := make([]int16, len(in))
			l.call(in, out)
			for _, v := range out {
				if v == 0 {
					continue // silence: that of the beginning, or the engine was late
				}
				if int(v) < heard {
					t.Errorf("%d after %d", v, heard)
					return
				}
				heard = int(v)
			}
			for said-int(taken.Load())*l.tick > 8*l.tick {
				<-took
			}
		}
	})
	tick, next := make([]int16, l.tick), 0
	for n := range ticks {
		for !l.take(tick) {
			if err := l.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i, v := range tick {
			if v != int16(next+i) {
				t.Fatalf("sample %d is %d", next+i, v)
			}
		}
		next += len(tick)
		for i := range tick {
			tick[i] = int16(1 + n)
		}
		l.put(tick)
		taken.Add(1)
		select {
		case took <- struct{}{}:
		default:
		}
	}
	wg.Wait()
}

func TestWaitEnds(t *testing.T) {
	l := open(t, 8000)
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if err := l.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// With another context it waits again.
	in := make([]int16, l.tick)
	l.call(in, in)
	if err := l.wait(t.Context()); err != nil {
		t.Errorf("a tick was there: %v", err)
	}
	if !l.take(in) {
		t.Error("no tick was there")
	}
	go l.end()
	if err := l.wait(t.Context()); err == nil {
		t.Error("ended, and nothing said so")
	}
	if err := l.wait(context.WithoutCancel(t.Context())); err == nil {
		t.Error("ended for good, and nothing said so")
	}
}

func TestLineKeepsTheDelayBounded(t *testing.T) {
	l := open(t, 16000)
	half := make([]int16, l.tick/2)
	tick := make([]int16, l.tick)
	// The engine is late by five ticks: the card plays silence, and what was
	// captured waits.
	for range 5 * 2 {
		l.call(half, half)
	}
	if l.underruns() == 0 {
		t.Error("nobody noticed that the card had nothing to play")
	}
	// It catches up at once.
	ticks := 0
	for l.take(tick) {
		ticks++
		l.put(tick)
	}
	if ticks != 5 {
		t.Errorf("%d ticks were captured", ticks)
	}
	waits := 0
	for before := l.underruns(); l.underruns() == before; waits++ {
		l.call(make([]int16, 1), make([]int16, 1))
	}
	if most := (usualAhead + onTop) * l.tick; waits > most+1 {
		t.Errorf("%d samples waited for the card", waits)
	}
	// An engine that has stopped does not stop the card.
	for range 1000 {
		l.call(half, half)
	}
	if l.overruns() == 0 {
		t.Error("nobody noticed that captured sound was lost")
	}
	if l.take(tick); !slices.Equal(tick, make([]int16, l.tick)) {
		t.Error("captured silence is none")
	}
}

func TestCallbackDoesNotAllocate(t *testing.T) {
	l := open(t, 48000)
	in, out, tick := make([]int16, 240), make([]int16, 240), make([]int16, 480)
	if a := testing.AllocsPerRun(100, func() {
		l.call(in, out)
		l.call(in, out)
		if err := l.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.take(tick)
		l.put(tick)
	}); a != 0 {
		t.Errorf("%v allocations a tick", a)
	}
}
