package portaudio

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestRingPassesAllSamplesInOrderBetweenTwoGoroutines(t *testing.T) {
	const total = 100_000
	r := newRing(160)
	var wg sync.WaitGroup
	room, data := make(chan struct{}, 1), make(chan struct{}, 1)
	tell := func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 1))
		for n := 0; n < total; {
			s := make([]int16, min(1+rnd.IntN(100), total-n))
			for i := range s {
				s[i] = int16(n + i)
			}
			for !r.write(s) {
				<-room
			}
			n += len(s)
			tell(data)
		}
	})
	rnd := rand.New(rand.NewPCG(2, 2))
	b := make([]int16, 100)
	for n := 0; n < total; {
		got := r.read(b[:1+rnd.IntN(100)])
		if got == 0 {
			<-data
		}
		for i, v := range b[:got] {
			if v != int16(n+i) {
				t.Fatalf("sample %d is %d", n+i, v)
			}
		}
		n += got
		tell(room)
	}
	wg.Wait()
}

func TestLineKeepsTheDelayBounded(t *testing.T) {
	l := newLine(16000, usualAhead)
	half := make([]int16, l.tick/2)
	tick := make([]int16, l.tick)
	// The engine is late by five ticks: the card plays silence, and what was
	// captured waits.
	for range 5 * 2 {
		l.callback(half, half)
	}
	if l.underruns.Load() == 0 {
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
	if w := l.play.len(); w > l.most {
		t.Errorf("%d samples wait for the card", w)
	}
	// An engine that has stopped does not stop the card.
	for range 1000 {
		l.callback(half, half)
	}
	if l.overruns.Load() == 0 {
		t.Error("nobody noticed that captured sound was lost")
	}
	if l.take(tick); !slices.Equal(tick, make([]int16, l.tick)) {
		t.Error("captured silence is none")
	}
}

func TestCallbackDoesNotAllocate(t *testing.T) {
	l := newLine(48000, usualAhead)
	in, out, tick := make([]int16, 240), make([]int16, 240), make([]int16, 480)
	if a := testing.AllocsPerRun(100, func() {
		l.callback(in, out)
		l.callback(in, out)
		l.take(tick)
		l.put(tick)
	}); a != 0 {
		t.Errorf("%v allocations a tick", a)
	}
}
