package quality

import (
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

func mac(n int) wire.MAC { return wire.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)} }

func told(phone int, sequence uint64, opinions ...uint16) wire.Registration {
	r := wire.Registration{MAC: mac(phone), Sequence: sequence}
	for _, o := range opinions {
		r.Heard = append(r.Heard, wire.Heard{Opinion: o, Way: wire.Way(o % 4)})
	}
	return r
}

// Each call is counted once, the last ones are kept, the newest first.
func TestBook(t *testing.T) {
	counted := map[uint16]int{}
	b := NewBook(10, func(h wire.Heard) { counted[h.Opinion]++ })
	at := time.Unix(1000, 0)
	b.Tell(told(1, 5), at)
	if got, _ := b.Of(mac(1)); got != nil {
		t.Errorf("%v of a phone that has told nothing", got)
	}
	b.Tell(told(1, 6, 101, 102), at)
	b.Tell(told(1, 6, 101, 102), at.Add(time.Second)) // answered again
	b.Tell(told(1, 5, 100), at.Add(time.Second))      // overtaken
	b.Tell(told(1, 7, 103, 104, 105, 106, 107, 108, 109), at.Add(time.Minute))
	got, ways := b.Of(mac(1))
	if ways != (Ways{wire.WayUnknown: 2, wire.WayDirect: 3, wire.WayPunched: 2, wire.WayRelayed: 2}) {
		t.Errorf("ways %v", ways)
	}
	if len(got) != wire.MaxHeard || got[0].Opinion != 109 || !got[0].Told.Equal(at.Add(time.Minute)) || got[7].Opinion != 102 || !got[7].Told.Equal(at) {
		t.Errorf("%v", got)
	}
	for o := uint16(100); o < 110; o++ {
		if want := min(1, int(o-100)); counted[o] != want {
			t.Errorf("%d was counted %d times; want %d", o, counted[o], want)
		}
	}
	got[0].Opinion = 500
	if again, _ := b.Of(mac(1)); again[0].Opinion != 109 {
		t.Error("a reader has changed the book")
	}
	for n := range 1000 {
		b.Tell(told(n, 9, 200), at)
		if of, _ := b.Of(mac(n)); len(b.calls) > 10 || len(of) == 0 {
			t.Fatalf("%d phones are kept, of the last one %v", len(b.calls), of)
		}
	}
	if counted[200] != 1000 {
		t.Errorf("%d counted", counted[200])
	}
}
