package portaudio

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"flexphone/audio"
)

func open(t *testing.T, rate int) *line {
	t.Helper()
	l, err := newLine(rate, 0)
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
	if most := (onTop) * l.tick; waits > most+1 {
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

// A card that stands still and then takes at once what it has missed, for as long as it
// does so, plays all that it is brought. Once it is in time no more waits than usually.
func TestLineFollowsBursts(t *testing.T) {
	for _, periods := range []int{3, 5, 12, 20} { // of half a tick, in each burst
		l := open(t, 16000)
		in, out, tick := make([]int16, l.tick/2), make([]int16, l.tick/2), make([]int16, l.tick)
		brings := func() {
			for l.take(tick) {
				for i := range tick {
					tick[i] = 1000
				}
				l.put(tick)
			}
		}
		heard := 0
		bursts := 400 / periods
		for n := range bursts {
			if l.c.last != 0 {
				l.c.last -= 5_000_000 * 19 // ns: it has stood still for as long as the longest of them
			}
			for range periods {
				l.call(in, out)
				if n > 8 && out[0] == 1000 && out[len(out)-1] == 1000 {
					heard++
				}
			}
			brings()
		}
		if want := (bursts - 9) * periods; heard != want {
			t.Errorf("bursts of %d periods: %d were heard whole; want %d", periods, heard, want)
		}
		for range 2 * burstFor {
			l.call(in, out)
			l.call(in, out)
			brings()
		}
		if waits := l.play.have(); waits > onTop*l.tick {
			t.Errorf("after bursts of %d periods %d samples wait; want %d at most", periods, waits, onTop*l.tick)
		}
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

// A line's engine that is late is so once: from then on sound waits for that long. When
// it has been prompt for a while less waits, but only in a pause, and where that was
// wrong it takes longer the next time.
func TestLineFindsOutHowMuchWaits(t *testing.T) {
	l := open(t, 16000)
	in, out := make([]int16, l.tick/2), make([]int16, l.tick/2)
	quiet, loud, tick := make([]int16, l.tick), make([]int16, l.tick), make([]int16, l.tick)
	for i := range loud {
		loud[i] = 1000
	}
	// run lets the engine bring ticks, which it does late periods of the card later.
	run := func(ticks, late int, play []int16) (waits int, gaps uint64) {
		before := l.underruns()
		for range ticks {
			l.put(play)
			for range 2 + late {
				l.call(in, out)
			}
			waits = l.play.have()
			for l.take(tick); l.captured.have() >= l.tick; l.take(tick) {
				l.put(play) // it catches up
			}
			if late%2 == 1 { // the next tick is whole half a tick sooner
				l.put(play)
				l.call(in, out)
				l.take(tick)
			}
		}
		return waits, l.underruns() - before
	}
	hold := int(spareAfter / audio.TickDuration)
	if waits, gaps := run(2*hold, 0, quiet); waits != 0 || gaps != 0 {
		t.Errorf("prompt: %d samples wait, %d gaps", waits, gaps)
	}
	for round := range 3 {
		if _, gaps := run(1, 1, quiet); gaps != 1 {
			t.Errorf("round %d: late for the first time: %d gaps", round, gaps)
		}
		if _, gaps := run(20, 1, quiet); gaps != 0 {
			t.Errorf("round %d: late again: %d gaps", round, gaps)
		}
		if waits, gaps := run(2*hold<<round, 0, loud); waits != len(in) || gaps != 0 {
			t.Errorf("round %d: prompt while somebody speaks: %d samples wait, %d gaps", round, waits, gaps)
		}
		if waits, gaps := run(2, 0, quiet); waits != 0 || gaps != 0 {
			t.Errorf("round %d: prompt in a pause: %d samples wait, %d gaps", round, waits, gaps)
		}
	}
}
