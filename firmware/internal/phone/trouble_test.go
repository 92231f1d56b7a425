package phone

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/sip"
)

// A scene is a call in steps, at any of which a part may begin to misbehave.
type scene struct {
	name  string
	calls func() []*fakeCall // that are made here, in order
	steps []func(*table)
}

// last is the newest call, if there is one.
func (d *table) last() *fakeCall {
	d.world.mu.Lock()
	defer d.world.mu.Unlock()
	if len(d.calls) == 0 {
		return nil
	}
	return d.calls[len(d.calls)-1]
}

// says has the newest call's peer do something.
func says(events ...sip.Event) func(*table) {
	return func(d *table) {
		if c := d.last(); c != nil {
			for _, e := range events {
				c.events <- e
			}
		}
	}
}

func presses(keys string) func(*table) { return func(d *table) { d.keys.Press(keys) } }
func waits(t time.Duration) func(*table) {
	return func(*table) { time.Sleep(t) }
}

func lifts(d *table)   { d.hook.Lift() }
func lays(d *table)    { d.hook.Lay() }
func isHeard(d *table) { d.received.Add(100); time.Sleep(2 * time.Second) }

func isOffered(d *table) {
	c := newFakeCall().open(d.world)
	c.peer = sip.Peer{User: "103", Secure: true}
	select {
	case d.incoming <- c:
	case <-time.After(2 * partPauseMost): // the line is out of order
	}
}

func movesTo(addr string) func(*table) {
	return func(d *table) { d.NetworkUp(d.ctx, netip.MustParseAddr(addr)) }
}

func peerMoves(d *table) {
	select {
	case d.peerMoves <- netip.MustParseAddrPort("198.51.100.9:5061"):
	case <-time.After(time.Second): // nobody follows it
	}
}

// isToOurs has the number be one of a phone of ours.
func isToOurs(d *table) {
	there, _ := found("192.0.2.9:5061")()
	there.Target.Pin = [32]byte{1}
	d.resolve = []func() (Peer, error){func() (Peer, error) { return there, nil }}
}

func loses(d *table) { d.NetworkDown(d.ctx, "link down") }

var (
	rings     = says(sip.Event{Kind: sip.Progress})
	isEarly   = says(sip.Event{Kind: sip.Early, Media: talk.Media})
	agrees    = says(talk)
	holds     = says(changed(func(m *sip.Media) { m.Silent = true }))
	reshapes  = says(changed(func(m *sip.Media) { m.PacketTime = 15 * time.Millisecond; m.Codec = "PCMA" }))
	hangsUp   = says(bye)
	givesUp   = says(sip.Event{Kind: sip.Ended, Reason: sip.ReasonCancelled})
	isWrong   = says(sip.Event{Kind: sip.Ended, Reason: sip.ReasonWrongPhone})
	isTheUser = func(d *table) { d.Status() }
)

func calls(n int) func() []*fakeCall {
	return func() []*fakeCall {
		var cs []*fakeCall
		for range n {
			cs = append(cs, newFakeCall())
		}
		return cs
	}
}

// scenes are the lives that calls have, between the dial tone and standby.
var scenes = []scene{
	{"a call from here that we end", calls(1), []func(*table){lifts, presses("102#"), rings, isEarly, isHeard, agrees, isTheUser, presses("5*+M"),
		movesTo("192.0.2.7"), reshapes, peerMoves, lays}},
	{"a call from here that the peer ends", calls(1), []func(*table){lifts, presses("102#"), rings, agrees, isHeard, holds,
		waits(3 * lostAfter), hangsUp, lays}},
	{"a call from here to another phone", calls(2), []func(*table){lifts, presses("102#"), isWrong, rings, waits(noAnswerWait), lays}},
	{"a call from here that moves while it rings", calls(4), []func(*table){isToOurs, lifts, presses("102#"), rings, movesTo("192.0.2.7"), rings,
		peerMoves, rings, loses, movesTo("192.0.2.7"), agrees, isHeard, lays}},
	{"a call from here that loses its network", calls(1), []func(*table){lifts, presses("102#"), agrees, isHeard, loses, waits(lostAfter / 2),
		movesTo("192.0.2.7"), loses, waits(lostAfter), movesTo("192.0.2.8")}},
	{"a call from here whose peer is gone", calls(1), []func(*table){lifts, presses("102#"), agrees, isHeard, waits(2 * lostAfter)}},
	{"a call that came in and that we end", calls(0), []func(*table){isOffered, lifts, isHeard, isTheUser, presses("1"), reshapes, peerMoves, lays}},
	{"a call that came in and that the peer ends", calls(0), []func(*table){isOffered, lifts, movesTo("192.0.2.7"), isHeard, hangsUp, lays}},
	{"a call that nobody takes", calls(0), []func(*table){isOffered, isOffered, waits(ringWait)}},
	{"a call that is given up", calls(0), []func(*table){isOffered, isOffered, givesUp}},
}

// Every method of every part says no, is late, or panics, from each moment of a
// call on and for as long as it goes on. The peer of each call is told of its end,
// every stream is closed, the phone is back in standby, and the next call rings.
func TestEveryPartMaySayNoAtAnyTime(t *testing.T) {
	met := map[string]bool{}
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			asked := make([]map[string]bool, len(s.steps)) // at a step: from one that asks nothing on is from the next on
			s.run(t, func(step int, d *table) {
				d.world.mu.Lock()
				defer d.world.mu.Unlock()
				d.asked = map[string]bool{}
				asked[step] = d.asked
			}, func(t *testing.T, d *table) {})
			for _, method := range methods {
				for _, m := range moods {
					for from := range s.steps {
						if !asked[from][method] {
							continue
						}
						met[method] = true
						name := fmt.Sprintf("%s %s from step %d on", method, m, from)
						t.Run(name, func(t *testing.T) { s.play(t, method, m, from) })
					}
				}
			}
		})
	}
	for _, method := range methods {
		if !met[method] {
			t.Errorf("no scene asks %s", method)
		}
	}
}

// run plays the scene, with before each step and after all of them.
func (s scene) run(t *testing.T, before func(step int, d *table), after func(*testing.T, *table)) {
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: s.calls(), vouched: true}
	try(t, w, func(t *testing.T, d *table) {
		for i, step := range s.steps {
			before(i, d)
			step(d)
			synctest.Wait()
			if n := w.heard(); n > 1 {
				t.Errorf("after step %d %d streams sound; want 1 at most", i, n)
			}
		}
		after(t, d)
	})
}

// play plays the scene with a method that misbehaves from a step on.
func (s scene) play(t *testing.T, method string, m mood, from int) {
	s.run(t, func(step int, d *table) {
		if step == from {
			d.trouble(method, m)
		}
	}, func(t *testing.T, d *table) {
		w := d.world
		if d.hook.State() != 0 {
			d.hook.Lay()
		}
		time.Sleep(ringWait + noAnswerWait) // whatever goes on has come to its end
		synctest.Wait()
		w.expectReleased(t, true)
		w.mu.Lock()
		met := w.times
		caught := slices.Contains(w.caught, method)
		w.method = ""
		w.mu.Unlock()
		if (m == panics && met > 0) != caught {
			t.Errorf("%d calls that panic; reported: %v", met, caught)
		}

		time.Sleep(2 * partPauseMost) // a part that works again is found
		d.NetworkUp(d.ctx, netip.MustParseAddr("192.0.2.1"))
		d.Registered(d.ctx, "101")
		d.expectState(t, Standby)
		if got := d.Status(); got.Call != nil || got.Tone != Silence {
			t.Errorf("in standby: %+v", got)
		}
		w.expectReleased(t, m == no || m == lateNo || m == panics)
		isOffered(d)
		d.expectState(t, Ringing)
		d.hook.Lift()
		d.expectState(t, Talking)
		d.hook.Lay()
		d.expectState(t, Standby)
		w.mu.Lock() // what could only be tried has been seen
		for _, c := range w.calls {
			c.told = c.told || c.asked
		}
		w.mu.Unlock()
	})
}
