package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"flexphone/testbed"
)

func TestMain(m *testing.M) {
	code, done, err := testbed.Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// A short life: one of each that takes no long.
func TestShortLife(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	l, err := begin(ctx, 1, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.bed.Close(); err != nil {
			t.Error(err)
		}
	}()
	both := []int{0, 1}
	for _, s := range []scene{
		{caller: 0, with: ours, end: givenUp},
		{caller: 1, with: ours, end: declined},
		{caller: 0, with: ours, end: engaged},
		{caller: 1, with: ours, end: nobody},
		{caller: 0, with: ours, befall: []mishap{{what: serverStops}, {what: moves, who: both}}, end: calledHangsUp},
		{caller: 1, with: fixed, befall: []mishap{{what: held}}, end: callerHangsUp},
		{caller: 0, with: calls, end: callerHangsUp},
	} {
		if err := l.play(ctx, s); err != nil {
			l.lastWords()
			t.Fatal(err)
		}
		if err := l.watch.look(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range l.phones {
		for _, seen := range l.watch.seen[i] {
			for _, v := range seen {
				for k, kind := range kinds {
					if v[k] <= 0 {
						t.Errorf("%s: %s %v", p.Name, kind.name, v[k])
					}
				}
			}
		}
	}
	if err := l.watch.judge(t.Logf); err != nil {
		t.Error(err)
	}
}

// The oracle knows every end that a life may have, in each of which whatever may happen
// does within a few hundred scenes.
func TestDraw(t *testing.T) {
	ends, befalls := map[ending]int{}, map[mishapKind]int{}
	r := rand.New(rand.NewPCG(1, 0))
	for n := range 1000 {
		s := draw(r, n)
		ends[s.end]++
		for _, m := range s.befall {
			befalls[m.what]++
			if !s.end.answered() || s.with != ours && len(m.who) > 1 || m.what == held && s.with == ours || m.out > 5*time.Second {
				t.Errorf("scene %d: %v", n, s)
			}
		}
	}
	for e := range reasons {
		if ends[e] == 0 {
			t.Errorf("there is never: %s", e)
		}
	}
	if len(ends) != len(reasons) || len(befalls) != 5 {
		t.Errorf("%v, %v", ends, befalls)
	}
	if a, b := draw(rand.New(rand.NewPCG(7, 0)), 5), draw(rand.New(rand.NewPCG(7, 0)), 5); a.String() != b.String() {
		t.Errorf("one seed has %v and %v", a, b)
	}
}

// What grows is found, whatever noise there is; what varies or was large at first is not.
func TestTrend(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, tt := range []struct {
		name  string
		value func(i int) float64
		want  bool
	}{
		{"it stays", func(int) float64 { return 20 }, false},
		{"it varies", func(int) float64 { return 20 + 10*r.Float64() }, false},
		{"it grows at first", func(i int) float64 { return float64(min(i, 20)) }, false},
		{"it was large once", func(i int) float64 { return float64(20 + 100*(i%50/49)) }, false},
		{"one each tenth time", func(i int) float64 { return float64(20 + i/10) }, true},
		{"one each tenth time, with noise", func(i int) float64 { return float64(20+i/10) + 5*r.Float64() }, true},
	} {
		var values []float64
		for i := range 100 {
			values = append(values, tt.value(i))
		}
		if _, growth := trend(values); (growth > 4) != tt.want {
			t.Errorf("%s: grown by %.1f", tt.name, growth)
		}
	}
}

func TestJudge(t *testing.T) {
	w := newWatch([]*testbed.Phone{{Name: "phone"}})
	for i := range 40 {
		w.seen[0][1] = append(w.seen[0][1], []float64{20, 40, 2, 10})
		w.seen[0][2] = append(w.seen[0][2], []float64{20, float64(40 + i), 2, 10})
	}
	var said strings.Builder
	err := w.judge(func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) })
	if err == nil || strings.Count(said.String(), "it grows") != 1 {
		t.Errorf("judge() = %v:\n%s", err, &said)
	}
}

func TestRead(t *testing.T) {
	var said strings.Builder
	if o, err := read([]string{"-for", "3s", "-seed", "9"}, &said); err != nil || o != (options{3 * time.Second, 9}) {
		t.Errorf("read() = %+v, %v", o, err)
	}
	for _, args := range []string{"-for 0s", "-for x", "-seed -1", "more"} {
		if _, err := read(strings.Fields(args), &said); err == nil {
			t.Errorf("read takes %q", args)
		}
	}
}

// message makes one of protocol buffers.
func message(field int, value ...byte) []byte {
	return append([]byte{byte(field<<3 | byLength), byte(len(value))}, value...)
}

func TestSumOf(t *testing.T) {
	sample := func(values ...byte) []byte {
		return message(profileSample, append(message(1, 5, 6), message(sampleValue, values...)...)...)
	}
	var whole []byte
	for _, part := range [][]byte{message(1, 8, 1), sample(1, 2, 0x80, 1), sample(3, 4, 5), message(profileSample, sampleValue<<3, 10), {9 << 3, 77}, {4<<3 | fixed64, 1, 2, 3, 4, 5, 6, 7, 8}} {
		whole = append(whole, part...)
	}
	for n, want := range []int64{14, 6, 133, 0} {
		if got, err := sumOf(whole, n); err != nil || got != want {
			t.Errorf("value %d: %d, %v; want %d", n, got, err, want)
		}
	}
	for i := range whole {
		_, _ = sumOf(whole[:i], 0) // it does not panic
	}
	if _, err := sumOf(whole[:len(whole)-1], 0); err == nil {
		t.Error("half a profile is read")
	}
}
