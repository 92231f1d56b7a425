package ears

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	here, there, away = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.9")
	moment            = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// train makes packets that come each 20 ms from a moment on, in milliseconds.
func train(from, n int, direct bool) (list []Arrival) {
	for i := range n {
		list = append(list, Arrival{moment.Add(time.Duration(from+20*i) * time.Millisecond), direct})
	}
	return list
}

func TestGapOf(t *testing.T) {
	const move = 105 // milliseconds, after six packets
	before := train(0, 6, true)
	join := func(lists ...[]Arrival) (all []Arrival) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for _, tt := range []struct {
		name string
		came []Arrival
		want time.Duration // 0: it is not over
	}{
		{"nothing came at all", nil, 0},
		{"nothing came before", train(200, 100, true), 0},
		{"nothing comes again", before, 0},
		{"it comes again", join(before, train(340, 26, true)), 240 * time.Millisecond},
		{"it has not come for long", join(before, train(340, 25, true)), 0},
		{"what was on the way comes first", join(before, train(120, 5, false), train(400, 26, true)), 200 * time.Millisecond},
		{"it comes from the old address alone", join(before, train(120, 100, false)), 0},
		{"it stutters", join(before, train(140, 3, true), train(500, 26, true)), 320 * time.Millisecond},
		{"later silence is another's", join(before, train(140, 26, true), train(5000, 26, true)), 40 * time.Millisecond},
	} {
		got, over := gapOf(tt.came, moment.Add(move*time.Millisecond))
		if got != tt.want || over != (tt.want > 0) {
			t.Errorf("%s: gapOf() = %v, %v; want %v", tt.name, got, over, tt.want)
		}
	}
}

// sound makes a packet of RTP.
func sound(from, to netip.Addr) []byte {
	b := make([]byte, 40)
	b[0], b[9], b[28] = 0x45, 17, 0x80
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[22:], 4000)
	return b
}

// What goes to an address that an end has left is not heard there, and what comes
// from one is not what is waited for.
func TestEars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New([2]netip.Addr{here, there})
		say := func(from, to netip.Addr, n int) {
			for range n {
				time.Sleep(20 * time.Millisecond)
				e.Hear(time.Now(), sound(from, to))
			}
		}
		begun := time.Now()
		say(there, here, 5)
		if d, err := e.First(t.Context(), 0, begun); err != nil || d != 20*time.Millisecond {
			t.Errorf("first() = %v, %v; want 20 ms", d, err)
		}
		move := time.Now().Add(time.Millisecond)
		e.Moved(0, away)
		go func() {
			say(there, here, 10) // nobody is there any more
			say(there, away, Steady+1)
		}()
		if d, err := e.Gap(t.Context(), 0, move); err != nil || d != 220*time.Millisecond {
			t.Errorf("gap() = %v, %v; want 220 ms", d, err)
		}
		e.Forget()
		if _, over := gapOf(e.came[0], move); over {
			t.Error("what was forgotten is still there")
		}
		synctest.Wait()
	})
}
