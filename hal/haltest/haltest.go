// Package haltest holds the tests that every implementation of a hal interface
// must pass, simulated or real.
//
// A test gets a rig: the part, and what a person could do to it. The rig knows
// how (a method of the simulated part, a line of a fake chip, a pull in the
// kernel's gpio-sim); the suites know only what must come of it. Nothing in
// them depends on how fast a part is: Patience bounds how long it may take.
package haltest

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"flexphone/hal"
)

// Patience is how long a suite waits for what must come, before it says that it
// does not: generous, since an emulated machine is slow.
const Patience = 20 * time.Second

// A KeypadRig is a keypad under test, all its keys up.
type KeypadRig struct {
	Keypad hal.Keypad
	// Move moves a key, and returns when the part cannot miss it any more.
	Move  func(hal.Key, hal.Motion)
	Close func() error
}

// Keypad tests the keypads that open opens.
func Keypad(t *testing.T, open func(*testing.T) KeypadRig) {
	const all = "1234567890*#"
	press := func(r KeypadRig, s string) {
		for _, k := range s {
			r.Move(hal.Key(k), hal.Down)
			r.Move(hal.Key(k), hal.Up)
		}
	}
	opened := func(t *testing.T) KeypadRig {
		t.Helper()
		r := open(t)
		closesClean(t, r.Close)
		return r
	}

	t.Run("each key goes down and up in order", func(t *testing.T) {
		r := opened(t)
		for _, k := range all {
			press(r, string(k))
			wantKey(t, r.Keypad, hal.Key(k), hal.Down)
			wantKey(t, r.Keypad, hal.Key(k), hal.Up)
		}
	})
	t.Run("keys pressed before they are read wait", func(t *testing.T) {
		r := opened(t)
		press(r, "1*0#")
		var last time.Time
		for _, k := range "1*0#" {
			for _, m := range []hal.Motion{hal.Down, hal.Up} {
				e := wantKey(t, r.Keypad, hal.Key(k), m)
				if e.At.Before(last) {
					t.Errorf("key %q moved at %v, before the event read before it, at %v", k, e.At, last)
				}
				if e.At.IsZero() || e.At.After(time.Now().Add(time.Second)) {
					t.Errorf("key %q moved at %v, want some time before now", k, e.At)
				}
				last = e.At
			}
		}
	})
	t.Run("two keys at once", func(t *testing.T) {
		r := opened(t)
		for _, e := range []hal.KeyEvent{
			{Key: '1', Motion: hal.Down}, {Key: '5', Motion: hal.Down},
			{Key: '1', Motion: hal.Up}, {Key: '5', Motion: hal.Up},
		} {
			r.Move(e.Key, e.Motion)
			wantKey(t, r.Keypad, e.Key, e.Motion)
		}
	})
	t.Run("a key held through another's press", func(t *testing.T) {
		r := opened(t)
		for _, e := range []hal.KeyEvent{
			{Key: '*', Motion: hal.Down}, {Key: '2', Motion: hal.Down},
			{Key: '2', Motion: hal.Up}, {Key: '*', Motion: hal.Up},
		} {
			r.Move(e.Key, e.Motion)
			wantKey(t, r.Keypad, e.Key, e.Motion)
		}
	})
	t.Run("a cancelled read loses nothing", func(t *testing.T) {
		r := opened(t)
		read := func(ctx context.Context) error { _, err := r.Keypad.ReadKey(ctx); return err }
		cancelled(t, read)
		press(r, "7")
		wantKey(t, r.Keypad, '7', hal.Down)
		refused(t, read)
		wantKey(t, r.Keypad, '7', hal.Up)
	})
	t.Run("closed", func(t *testing.T) {
		r := opened(t)
		closed(t, r.Close, func(ctx context.Context) error { _, err := r.Keypad.ReadKey(ctx); return err })
	})
}

func wantKey(t *testing.T, k hal.Keypad, key hal.Key, m hal.Motion) hal.KeyEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	e, err := k.ReadKey(ctx)
	if err != nil {
		t.Fatalf("ReadKey() = %v; want %q %s", err, key, motion(m))
	}
	if e.Key != key || e.Motion != m {
		t.Fatalf("ReadKey() = %q %s; want %q %s", e.Key, motion(e.Motion), key, motion(m))
	}
	return e
}

func motion(m hal.Motion) string {
	if m == hal.Down {
		return "down"
	}
	return "up"
}

// A HookRig is a hook switch under test, the handset on it.
type HookRig struct {
	Hook hal.Hook
	// Set moves the handset, and returns when the part cannot miss it any more.
	Set   func(hal.HookState)
	Close func() error
}

// Hook tests the hook switches that open opens.
func Hook(t *testing.T, open func(*testing.T) HookRig) {
	opened := func(t *testing.T) HookRig {
		t.Helper()
		r := open(t)
		closesClean(t, r.Close)
		return r
	}
	read := func(r HookRig) func(context.Context) error {
		return func(ctx context.Context) error { _, err := r.Hook.ReadHook(ctx); return err }
	}
	want := func(t *testing.T, r HookRig, s hal.HookState) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		defer cancel()
		if got, err := r.Hook.ReadHook(ctx); err != nil || got != s {
			t.Fatalf("ReadHook() = %v, %v; want %v", got, err, s)
		}
	}

	t.Run("the first read tells the present state", func(t *testing.T) {
		want(t, opened(t), hal.OnHook)
	})
	t.Run("lifted before the first read", func(t *testing.T) {
		r := opened(t)
		r.Set(hal.OffHook)
		want(t, r, hal.OffHook)
		r.Set(hal.OnHook)
		want(t, r, hal.OnHook)
	})
	t.Run("each change once", func(t *testing.T) {
		r := opened(t)
		want(t, r, hal.OnHook)
		for range 3 {
			r.Set(hal.OffHook)
			want(t, r, hal.OffHook)
			r.Set(hal.OffHook) // moved, but not changed
			r.Set(hal.OnHook)
			want(t, r, hal.OnHook)
		}
	})
	t.Run("a cancelled read loses nothing", func(t *testing.T) {
		r := opened(t)
		want(t, r, hal.OnHook)
		cancelled(t, read(r))
		r.Set(hal.OffHook)
		want(t, r, hal.OffHook)
	})
	t.Run("closed", func(t *testing.T) {
		r := opened(t)
		want(t, r, hal.OnHook)
		closed(t, r.Close, read(r))
	})
}

// A LampRig is a lamp under test.
type LampRig struct {
	Lamp hal.Lamp
	// Shows reports, within Patience, whether an onlooker sees the lamp show s.
	Shows func(s hal.LampState) bool
	Close func() error
}

// Lamp tests the lamps that open opens.
func Lamp(t *testing.T, open func(*testing.T) LampRig) {
	t.Run("shows what it is set to", func(t *testing.T) {
		r := open(t)
		closesClean(t, r.Close)
		for _, s := range []hal.LampState{
			hal.LampOn, hal.LampOff, hal.LampBlink, hal.LampBlink, hal.LampOn, hal.LampBlink, hal.LampOff, hal.LampOff,
		} {
			if err := r.Lamp.SetLamp(s); err != nil {
				t.Fatalf("SetLamp(%v) = %v", s, err)
			}
			if !r.Shows(s) {
				t.Errorf("after SetLamp(%v) the lamp does not show it", s)
			}
		}
	})
	t.Run("refuses what is no state", func(t *testing.T) {
		r := open(t)
		closesClean(t, r.Close)
		for _, s := range []hal.LampState{-1, hal.LampBlink + 1} {
			if err := r.Lamp.SetLamp(s); err == nil {
				t.Errorf("SetLamp(%d) = nil; want an error", s)
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		r := open(t)
		closesClean(t, r.Close)
		if err := r.Lamp.SetLamp(hal.LampBlink); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
		if err := r.Lamp.SetLamp(hal.LampOn); !errors.Is(err, os.ErrClosed) {
			t.Errorf("SetLamp() = %v; want %v", err, os.ErrClosed)
		}
	})
}

// A DisplayRig is a display under test.
type DisplayRig struct {
	Display hal.Display
	// Lines returns what an onlooker reads, without the blanks at the ends.
	Lines func() (line1, line2 string)
	Close func() error
}

// Display tests the displays that open opens.
func Display(t *testing.T, open func(*testing.T) DisplayRig) {
	t.Run("shows its lines", func(t *testing.T) {
		r := open(t)
		closesClean(t, r.Close)
		long := strings.Repeat("0123456789", 4)
		for _, c := range []struct{ name, line1, line2, want1, want2 string }{
			{"two lines", "101", "not private", "101", "not private"},
			{"replaced", "102", "", "102", ""},
			{"cut", long, "x" + long, long[:hal.DisplayColumns], ("x" + long)[:hal.DisplayColumns]},
			{"unprintable", "a\x1b[2Jb", "c\nd\xff", "a?[2Jb", "c?d?"},
			{"empty", "", "", "", ""},
		} {
			if err := r.Display.Show(c.line1, c.line2); err != nil {
				t.Fatalf("%s: Show() = %v", c.name, err)
			}
			if got1, got2 := r.Lines(); got1 != c.want1 || got2 != c.want2 {
				t.Errorf("%s: shows %q, %q; want %q, %q", c.name, got1, got2, c.want1, c.want2)
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		r := open(t)
		closesClean(t, r.Close)
		if err := r.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
		if err := r.Display.Show("a", "b"); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Show() = %v; want %v", err, os.ErrClosed)
		}
	})
}

// refused checks that read with a context that is done returns nothing that
// waits, but the context's error.
func refused(t *testing.T, read func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := read(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("read with a context that is done = %v; want %v", err, context.Canceled)
	}
}

// cancelled checks that a read that waits ends with the context's error when
// its context does.
func cancelled(t *testing.T, read func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- read(ctx) }()
	runtime.Gosched()
	cancel()
	wantEnd(t, end, context.Canceled)

	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	go func() { end <- read(ctx) }()
	wantEnd(t, end, context.DeadlineExceeded)
}

// closed checks that close ends a read that waits, and fails those after it.
func closed(t *testing.T, close func() error, read func(context.Context) error) {
	t.Helper()
	end := make(chan error, 1)
	go func() { end <- read(t.Context()) }()
	runtime.Gosched()
	if err := close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	wantEnd(t, end, os.ErrClosed)
	go func() { end <- read(t.Context()) }()
	wantEnd(t, end, os.ErrClosed)
}

func wantEnd(t *testing.T, end <-chan error, want error) {
	t.Helper()
	select {
	case err := <-end:
		if !errors.Is(err, want) {
			t.Fatalf("the read ended with %v; want %v", err, want)
		}
	case <-time.After(Patience):
		t.Fatalf("the read did not end; want %v", want)
	}
}

// closesClean closes the part when the test is over, if the test did not, and
// checks that no goroutine of a driver is left.
func closesClean(t *testing.T, close func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("Close() = %v", err)
		}
		var left string
		for end := time.Now().Add(time.Second); time.Now().Before(end); runtime.Gosched() {
			// A goroutine that has told of its end may not be quite gone yet.
			if left = driverGoroutine(); left == "" {
				return
			}
		}
		t.Errorf("a goroutine is left:\n%s", left)
	})
}

// driverGoroutine returns the stack of a goroutine that a driver started, or "".
func driverGoroutine() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		_, by, ok := strings.Cut(g, "created by flexphone/hal/")
		if ok && !strings.HasPrefix(by, "haltest.") && !strings.Contains(by, "_test.go") {
			return g
		}
	}
	return ""
}
