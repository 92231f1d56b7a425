package phone

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/events"
)

// What the peer presses is told of, key for key and in order, in a call that is talked
// in; however much of it comes at once, it leaves room for other things.
func TestDigitsOfThePeer(t *testing.T) {
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		w.clicked = "" // what was dialled
		const pressed = "15#*0D"
		began := time.Now()
		for _, k := range pressed {
			w.streams[0].digits <- k
		}
		told := func() (all []events.Event) {
			synctest.Wait()
			d.world.mu.Lock()
			defer d.world.mu.Unlock()
			return slices.DeleteFunc(slices.Clone(d.full), func(e events.Event) bool { _, is := e.(events.Digit); return !is })
		}
		if first := told(); len(first) != 1 {
			t.Errorf("of %d keys at once %d are told of at once", len(pressed), len(first))
		}
		time.Sleep(time.Duration(len(pressed)) * digitLeast)
		var want []events.Event
		for _, k := range pressed {
			want = append(want, events.Digit{Key: string(k), Peer: "102"})
		}
		if all := told(); !slices.Equal(all, want) {
			t.Errorf("told %v after %v; want %v", all, time.Since(began), want)
		}
		if w.clicked != pressed {
			t.Errorf("the tones of %q were heard; want %q", w.clicked, pressed)
		}
		d.hook.Lay()
		synctest.Wait()
		w.streams[0].digits <- '9'
		if all := told(); len(all) != len(want) {
			t.Errorf("a key after the end is told of: %v", all[len(want):])
		}
	})
}
