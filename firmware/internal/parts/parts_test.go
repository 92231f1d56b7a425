package parts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// diary is a Teller that writes down what it is told, and when.
type diary struct {
	start time.Time
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, time.Since(d.start).String()+" "+line)
}

func (d *diary) PartFailed(_ context.Context, part string, err error) {
	d.add(part + " failed: " + err.Error())
}
func (d *diary) PartWorks(_ context.Context, part string) { d.add(part + " works") }

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// life keeps a part for a time; its runs end as the script says, the last for ever.
func life(t *testing.T, lasts time.Duration, script ...func(works func()) error) (told []string, tries []time.Duration, panics []Panic) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		k := New(d, func(p Panic) { panics = append(panics, p) })
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		go k.Tell(ctx)
		k.Keep(ctx, "sound", func(ctx context.Context, works func()) error {
			tries = append(tries, time.Since(d.start))
			f := script[min(len(tries), len(script))-1]
			if err := f(works); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		told = d.read()
		if ctx.Err() == nil {
			t.Error("Keep() returned before its context was done")
		}
	})
	return told, tries, panics
}

var errCard = errors.New("no card")

func fails(func()) error      { return errCard }
func works(tell func()) error { tell(); return nil }

func TestAPartIsTriedAgain(t *testing.T) {
	told, tries, _ := life(t, time.Hour, fails, fails, fails, works)
	if want := []string{"0s sound failed: no card", "7s sound works"}; !slices.Equal(told, want) {
		t.Errorf("told %q; want %q: a failure is told once", told, want)
	}
	if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}; !slices.Equal(tries, want) {
		t.Errorf("tried at %v; want %v", tries, want)
	}
}

func TestThePauseIsBounded(t *testing.T) {
	_, tries, _ := life(t, 10*time.Minute, fails)
	for i := 1; i < len(tries); i++ {
		if gap := tries[i] - tries[i-1]; gap < pauseFirst || gap > pauseMost {
			t.Errorf("try %d after %v", i, gap)
		}
	}
	if len(tries) < 20 || len(tries) > 30 {
		t.Errorf("%d tries in ten minutes", len(tries))
	}
}

func TestAnotherReasonIsTold(t *testing.T) {
	other := func(func()) error { return errors.New("no memory") }
	told, _, _ := life(t, time.Hour, fails, fails, other, other, works)
	if want := []string{"0s sound failed: no card", "3s sound failed: no memory", "15s sound works"}; !slices.Equal(told, want) {
		t.Errorf("told %q; want %q", told, want)
	}
}

func TestAPanicIsContained(t *testing.T) {
	told, _, panics := life(t, time.Hour, func(func()) error {
		panic("no such card")
	}, works)
	if len(told) != 2 || !strings.Contains(told[0], "panic: no such card") || told[1] != "1s sound works" {
		t.Errorf("told %q", told)
	}
	if len(panics) != 1 || panics[0].What != "sound" || !strings.Contains(string(panics[0].Stack), "TestAPanicIsContained") {
		t.Fatalf("reported %+v; want the stack of the panic", panics)
	}
	if text := panics[0].Text(); !strings.HasPrefix(text, "panic: no such card") || !strings.Contains(text, "sound") {
		t.Errorf("report %q", text)
	}
}

// A part that works and fails at once, again and again, must not fill the log.
func TestAPartThatFlapsIsSlowedDown(t *testing.T) {
	flaps := func(tell func()) error { tell(); return errCard }
	_, tries, _ := life(t, 10*time.Minute, flaps)
	if len(tries) > 30 {
		t.Errorf("%d tries in ten minutes", len(tries))
	}
}

// After it has worked for long, a part that fails is tried again soon.
func TestThePauseBeginsAnew(t *testing.T) {
	worksLong := func(tell func()) error { tell(); time.Sleep(time.Hour); return errCard }
	_, tries, _ := life(t, 3*time.Hour, fails, fails, fails, fails, fails, fails, worksLong, works)
	last := len(tries) - 1
	if gap := tries[last] - tries[last-1] - time.Hour; gap != pauseFirst {
		t.Errorf("tried again %v after a good hour; want %v", gap, pauseFirst)
	}
}

func TestAPartIsMadeAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		k := New(d, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var s Slot[int]
		var seen []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.Keep(ctx, "line", func(ctx context.Context, works func()) error {
				v, changed, err := s.Get(ctx)
				if err != nil {
					return err
				}
				seen = append(seen, v)
				works()
				select {
				case <-changed:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
		synctest.Wait()
		if _, full := s.Now(); full || seen != nil {
			t.Error("an empty slot gave something")
		}
		for i := range 3 {
			s.Set(i)
			synctest.Wait()
		}
		s.Clear()
		synctest.Wait()
		cancel()
		<-done
		if !slices.Equal(seen, []int{0, 1, 2}) || time.Since(d.start) != 0 || len(d.read()) != 0 {
			t.Errorf("seen %v after %v, told %q; want each value at once", seen, time.Since(d.start), d.read())
		}
	})
}

// A run that ends well, but never worked, is a failure: it must not spin.
func TestAnEndWithoutWorkIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		k := New(d, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := 0
		k.Keep(ctx, "line", func(context.Context, func()) error { n++; return nil })
		if why, last := k.Broken(); n > 10 || len(why) != 1 || last != "line" {
			t.Errorf("%d runs in a minute, broken %v", n, why)
		}
	})
}

// The display has room for one: the last that failed, of those that still do.
func TestWhatFailedLastIsShown(t *testing.T) {
	d := &diary{start: time.Now()}
	k := New(d, nil)
	for _, part := range []string{"data", "sound", "line"} {
		k.Failed(t.Context(), part, errCard)
	}
	k.Failed(t.Context(), "data", errCard) // again for the same reason
	for _, want := range []string{"line", "sound", "data", ""} {
		if why, last := k.Broken(); last != want || (want != "") != (why[want] == "no card") {
			t.Errorf("%q failed last of %v; want %q", last, why, want)
		}
		k.Works(want)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if k.Failed(stopped, "line", errCard); len(k.untold) != 6 {
		t.Errorf("%d tellings; want nothing of parts that were told to end", len(k.untold))
	}
}

// stuck is a Teller that waits for a part.
type stuck struct {
	diary
	until chan struct{}
}

func (s *stuck) PartFailed(ctx context.Context, part string, err error) {
	<-s.until
	s.diary.PartFailed(ctx, part, err)
}

// No part waits for the Teller, which may need that part: call control shows what is
// broken.
func TestTheTellerMayWaitForAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{diary{start: time.Now()}, make(chan struct{})}
		k := New(s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go k.Tell(ctx)
		k.Failed(ctx, "interface", errCard)
		k.Failed(ctx, "sound", errCard)
		synctest.Wait()
		go k.Keep(ctx, "call control", func(ctx context.Context, works func()) error {
			works()
			close(s.until)
			<-ctx.Done()
			return ctx.Err()
		})
		synctest.Wait()
		if got := s.read(); len(got) != 2 {
			t.Errorf("told %q; want both failures", got)
		}
		cancel()
		synctest.Wait()
	})
}

// What was found before the parts were run stays told of, whatever becomes of a
// part of the same name.
func TestWhatWasFoundLasts(t *testing.T) {
	k := New(nil, func(Panic) {})
	k.Found("data", errors.New("full"))
	k.Works("data")
	k.Failed(t.Context(), "data", errors.New("no space"))
	k.Works("data")
	if why, last := k.Broken(); len(why) != 1 || why["data"] != "full" || last != "data" {
		t.Errorf("broken: %v, last %s; want data, which is full", why, last)
	}
	for _, told := range k.untold {
		if told.err == nil {
			t.Errorf("told that %s works", told.part)
		}
	}
}
