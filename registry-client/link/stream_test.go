package link

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A world is two ends of a link and the way between them, in simulated time.
type world struct {
	t      *testing.T
	now    time.Time
	ends   [2]*stream
	random *rand.Rand
	loss   float64
	flying []flight
	sent   int
	cut    bool
}

type flight struct {
	at time.Time
	to int
	m  wire.LinkMessage
}

func newWorld(t *testing.T, seed uint64, loss float64) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), random: rand.New(rand.NewPCG(seed, 1)), loss: loss}
	for i := range w.ends {
		w.ends[i] = newStream(wire.MAC{2, byte(1 - i)}, wire.LinkID{1}, i == 0)
	}
	return w
}

// step sends what is due, and goes on to when something happens next. It reports
// false when nothing does any more.
func (w *world) step() bool {
	next := time.Time{}
	earlier := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for i, s := range w.ends {
		for {
			m, ok, at := s.say(w.now)
			if !ok {
				earlier(at)
				break
			}
			if _, err := wire.EncodeLink(m); err != nil {
				w.t.Fatal(err)
			}
			w.sent++
			if w.cut || w.random.Float64() < w.loss {
				continue
			}
			m.Data = bytes.Clone(m.Data)
			for n := 1 + w.random.IntN(20)/19; n > 0; n-- { // one of twenty is doubled, and all overtake each other
				w.flying = append(w.flying, flight{w.now.Add(30*time.Millisecond + time.Duration(w.random.IntN(20))*time.Millisecond), 1 - i, m})
			}
		}
	}
	for _, f := range w.flying {
		earlier(f.at)
	}
	if next.IsZero() {
		return false
	}
	if soon := w.now.Add(5 * time.Millisecond); next.After(soon) { // somebody may read before that
		w.now = soon
		return true
	}
	if next.After(w.now) {
		w.now = next
	}
	rest := w.flying
	w.flying = nil
	for _, f := range rest {
		if f.at.After(w.now) {
			w.flying = append(w.flying, f)
		} else {
			w.ends[f.to].take(w.now, f.m)
		}
	}
	return true
}

// Whatever the way does, bytes come as they were written, both ways, and both ends
// learn that there are no more.
func TestStream(t *testing.T) {
	for seed := range uint64(32) {
		loss := []float64{0, .01, .1, .2}[seed%4]
		w := newWorld(t, seed, loss)
		var written, got [2][]byte
		for i := range written {
			written[i] = make([]byte, 100+w.random.IntN(25000))
			for j := range written[i] {
				written[i][j] = byte(w.random.Uint32())
			}
		}
		done, steps, lazy := [2]int{}, 0, w.random.IntN(4)
		buf := make([]byte, 700)
		for ended := false; !ended; steps++ {
			if steps > 100000 {
				t.Fatalf("seed %d: no end; %d of %d and %d of %d have come", seed, len(got[0]), len(written[1]), len(got[1]), len(written[0]))
			}
			for i, s := range w.ends {
				done[i] += s.write(written[i][done[i]:])
				if w.random.IntN(lazy+1) == 0 {
					got[i] = append(got[i], buf[:s.read(buf)]...)
				}
			}
			if len(got[0]) == len(written[1]) && len(got[1]) == len(written[0]) {
				w.ends[0].end()
			}
			if !w.step() && !w.ends[0].over {
				w.now = w.now.Add(time.Millisecond) // somebody reads later
			}
			ended = w.ends[0].over && w.ends[1].over && len(w.flying) == 0
			if w.ends[0].lost || w.ends[1].lost {
				break
			}
		}
		lostLast := w.ends[0].lost && w.ends[1].over // the answer to the last close is said once
		if !bytes.Equal(got[0], written[1]) || !bytes.Equal(got[1], written[0]) || w.ends[1].lost || !w.ends[1].finished || w.ends[0].lost && !lostLast {
			t.Fatalf("seed %d: %d of %d and %d of %d bytes; lost %v %v", seed, len(got[0]), len(written[1]), len(got[1]), len(written[0]), w.ends[0].lost, w.ends[1].lost)
		}
		if loss == 0 && w.now.Sub(time.Unix(1e9, 0)) > 10*time.Second {
			t.Errorf("seed %d: it took %v without a loss", seed, w.now.Sub(time.Unix(1e9, 0)))
		}
	}
}

// Nobody is believed to be there for ever, and who owes nothing may be silent.
func TestStreamStalls(t *testing.T) {
	w := newWorld(t, 1, 0)
	for w.step() {
	}
	if w.ends[0].opening || w.ends[0].over {
		t.Fatalf("the link is not open: %+v", w.ends[0])
	}
	quiet := w.now
	w.now = w.now.Add(time.Hour)
	w.cut = true
	w.ends[0].write([]byte("hello"))
	for w.step() {
	}
	if !w.ends[0].lost || w.ends[1].over || w.now.Sub(quiet.Add(time.Hour)) != linkStall {
		t.Errorf("after %v: lost %v, over %v; want that after %v", w.now.Sub(quiet.Add(time.Hour)), w.ends[0].lost, w.ends[1].over, linkStall)
	}
	if w.sent > 30 {
		t.Errorf("%d messages were sent to nobody", w.sent)
	}
}

// Who reads nothing is sent no more than it has room for.
func TestStreamBackPressure(t *testing.T) {
	w := newWorld(t, 2, .01)
	written := 0
	for range 10000 {
		written += w.ends[0].write(make([]byte, 1000))
		w.step()
	}
	if len(w.ends[1].in) != wire.LinkWindow || written != wire.LinkWindow+linkRoom || w.ends[0].lost {
		t.Errorf("%d bytes wait there, %d were taken here, lost %v; want %d and %d", len(w.ends[1].in), written, w.ends[0].lost, wire.LinkWindow, wire.LinkWindow+linkRoom)
	}
}

// Who asks finds out that nobody is there, in a bounded time; who is there says so, over a
// way that loses and for two messages each time, and a way that is gone for less than that
// does no harm. Nothing is said once nobody wants to know.
func TestStreamKeepAlive(t *testing.T) {
	const quiet, look = 5 * time.Second, 20 * time.Second
	opened := func(seed uint64, loss float64) *world {
		w := newWorld(t, seed, loss)
		for i, s := range w.ends {
			s.write(make([]byte, 100+i))
		}
		buf := make([]byte, 200)
		for n := 0; n < 201; {
			w.step()
			n += w.ends[0].read(buf) + w.ends[1].read(buf)
		}
		for w.step() {
		}
		w.sent = 0
		return w
	}
	// until steps until then, and reports whether an end is over.
	until := func(w *world, then time.Time) bool {
		for w.now.Before(then) && !w.ends[0].over && !w.ends[1].over {
			if !w.step() && !w.ends[0].over && !w.ends[1].over {
				w.now = then
			}
		}
		return w.ends[0].over || w.ends[1].over
	}
	for seed := range uint64(16) {
		w := opened(seed, []float64{0, .05, .1}[seed%3])
		asks := w.ends[seed%2]
		if until(w, w.now.Add(time.Hour)) || w.sent != 0 {
			t.Fatalf("seed %d: %d messages in an hour in which nobody asked", seed, w.sent)
		}
		asks.keepAlive(w.now, quiet, look)
		if until(w, w.now.Add(2*time.Minute)) {
			t.Fatalf("seed %d: over, though both are there", seed)
		}
		if each := 2 * time.Minute / quiet; w.loss == 0 && time.Duration(w.sent) > 2*each*11/10 { // some come doubled
			t.Errorf("seed %d: %d messages in two minutes; want two every %v", seed, w.sent, quiet)
		}
		w.cut = true
		until(w, w.now.Add(look/2))
		w.cut = false
		if until(w, w.now.Add(time.Minute)) {
			t.Fatalf("seed %d: over, though the way was back in time", seed)
		}
		w.cut = true
		until(w, w.now.Add(quiet+time.Second)) // it is being asked, in vain
		asks.keepAlive(w.now, 0, 0)
		w.sent = 0
		if until(w, w.now.Add(time.Hour)) || w.sent != 0 {
			t.Fatalf("seed %d: over, or %d messages, after nobody wanted to know any more", seed, w.sent)
		}
		asks.keepAlive(w.now, quiet, look)
		gone := w.now
		until(w, w.now.Add(time.Hour))
		if after := w.now.Sub(gone); !asks.lost || after < look || after > quiet+look {
			t.Errorf("seed %d: lost: %v, after %v; want it within %v", seed, asks.lost, after, quiet+look)
		}
	}
}
