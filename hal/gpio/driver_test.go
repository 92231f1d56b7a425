package gpio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/hal"
	"flexphone/hal/haltest"
)

func phoneLayout(t *testing.T) [][]hal.Key {
	t.Helper()
	keys, err := MatrixConfig{Rows: make([]Line, 4), Cols: make([]Line, 3), Keys: []string{"123", "456", "789", "*0#"}}.layout()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeys(t *testing.T) {
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		f := newFakeLines()
		k, err := newKeys(f, []hal.Key(phoneKeys))
		if err != nil {
			t.Fatal(err)
		}
		return haltest.KeypadRig{Keypad: k, Close: k.Close, Move: func(key hal.Key, m hal.Motion) {
			bit := contacts(string(key))
			if m == hal.Down {
				f.drive(f.level | bit)
			} else {
				f.drive(f.level &^ bit)
			}
		}}
	})
}

func TestMatrix(t *testing.T) {
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		f := newFakeMatrix()
		m := newMatrix(t.Context(), f, f.cols, phoneLayout(t), time.Millisecond, pause(settle))
		f.driver.Store(m)
		held := uint64(0)
		return haltest.KeypadRig{Keypad: m, Close: m.Close, Move: func(key hal.Key, motion hal.Motion) {
			if motion == hal.Down {
				held |= contacts(string(key))
			} else {
				held &^= contacts(string(key))
			}
			f.hold(held)
			f.await(held)
		}}
	})
}

func TestHook(t *testing.T) {
	haltest.Hook(t, func(t *testing.T) haltest.HookRig {
		f := newFakeLines()
		h := newHook(f)
		return haltest.HookRig{Hook: h, Close: h.Close, Set: func(s hal.HookState) {
			f.drive(uint64(s)) // OffHook is 1, and active
		}}
	})
}

func TestLamp(t *testing.T) {
	haltest.Lamp(t, func(t *testing.T) haltest.LampRig {
		f := newFakeLines()
		l := newLamp(f)
		return haltest.LampRig{Lamp: l, Close: l.Close, Shows: func(s hal.LampState) bool { return f.shows(s) }}
	})
}

// shows waits for what an onlooker would see: a lamp that blinks goes off and
// on again, another one stays as it is, which no wait can prove.
func (f *fakeLines) shows(s hal.LampState) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s != hal.LampBlink {
		return f.level == uint64(s)
	}
	end := time.After(haltest.Patience)
	for from := len(f.sets); len(f.sets) < from+2; {
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-end:
		}
		f.mu.Lock()
	}
	n := len(f.sets)
	return f.sets[n-1] != f.sets[n-2]
}

func TestLampBlinksOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeLines()
		l := newLamp(f)
		if err := l.SetLamp(hal.LampBlink); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2250 * time.Millisecond)
		synctest.Wait()
		f.mu.Lock()
		if got, want := f.sets, []uint64{1, 0, 1, 0, 1}; !slices.Equal(got, want) {
			t.Errorf("in 2.25 s the lamp was %v; want %v", got, want)
		}
		f.fail = os.ErrPermission
		f.mu.Unlock()
		time.Sleep(time.Second)
		if err := l.SetLamp(hal.LampOn); !errors.Is(err, os.ErrPermission) {
			t.Errorf("SetLamp() after a blink failed = %v; want %v", err, os.ErrPermission)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if last := f.sets[len(f.sets)-1]; last != 0 {
			t.Error("a closed lamp shines")
		}
	})
}

func TestLED(t *testing.T) {
	haltest.Lamp(t, func(t *testing.T) haltest.LampRig {
		class := t.TempDir()
		led := filepath.Join(class, "mwi")
		if err := os.Mkdir(led, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"max_brightness": "255\n", "brightness": "0  ", "trigger": "    "} {
			if err := os.WriteFile(filepath.Join(led, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := openLED(class, "mwi")
		if err != nil {
			t.Fatal(err)
		}
		read := func(file string) string {
			b, err := os.ReadFile(filepath.Join(led, file))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := read("trigger"); got != "none" {
			t.Errorf("the trigger is %q; want none", got)
		}
		return haltest.LampRig{Lamp: l, Close: l.Close, Shows: func(s hal.LampState) bool {
			// sysfs takes each write as a whole; this file keeps what is longer.
			lit := strings.HasPrefix(read("brightness"), "255")
			return lit == (s != hal.LampOff) // a blink begins with light
		}}
	})
	if _, err := openLED(t.TempDir(), "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("openLED() of none = %v; want %v", err, os.ErrNotExist)
	}
}

// A matrix that rests must leave the processor alone, and one whose key is held
// must not tell of it twice.
func TestMatrixRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeMatrix()
		m := newMatrix(t.Context(), f, f.cols, phoneLayout(t), 5*time.Millisecond, pause(settle))
		f.driver.Store(m)
		time.Sleep(time.Second)
		before, _ := f.seen()
		time.Sleep(time.Hour)
		after, driven := f.seen()
		if after != before {
			t.Errorf("the rows were driven %d times in an hour without a key", after-before)
		}
		if driven != 0b1111 {
			t.Errorf("rows %04b are driven at rest; want all", driven)
		}

		moved := time.Now()
		f.hold(contacts("8"))
		time.Sleep(time.Minute) // a long press
		f.hold(0)
		time.Sleep(time.Second)
		for _, want := range []hal.KeyEvent{
			{Key: '8', Motion: hal.Down, At: moved},
			{Key: '8', Motion: hal.Up, At: moved.Add(time.Minute)},
		} {
			e, err := m.ReadKey(t.Context())
			if err != nil || e.Key != want.Key || e.Motion != want.Motion || e.At.Sub(want.At) > 15*time.Millisecond || e.At.Before(want.At) {
				t.Errorf("ReadKey() = %v, %v; want %v, at most 15 ms later", e, err, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if e, err := m.ReadKey(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadKey() = %v, %v; want nothing more", e, err)
		}
		before, _ = f.seen()
		time.Sleep(time.Hour)
		if after, _ := f.seen(); after != before {
			t.Error("the rows are driven after the key was released")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMatrixGhosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeMatrix()
		m := newMatrix(t.Context(), f, f.cols, phoneLayout(t), 5*time.Millisecond, pause(settle))
		f.driver.Store(m)
		for _, keys := range []string{"1", "13", "137", "13", "1", ""} {
			f.hold(contacts(keys))
			time.Sleep(100 * time.Millisecond)
		}
		var got strings.Builder
		for ctx, cancel := context.WithTimeout(t.Context(), time.Second); ; {
			defer cancel()
			e, err := m.ReadKey(ctx)
			if err != nil {
				break
			}
			got.WriteByte("+-"[e.Motion])
			got.WriteRune(rune(e.Key))
		}
		if want := "+1+3-3-1"; got.String() != want {
			t.Errorf("reported %s; want %s, without the third corner 7 and the ghost 9", got.String(), want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A matrix that nobody reads keeps each Down with its Up.
func TestMatrixUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeMatrix()
		m := newMatrix(t.Context(), f, f.cols, phoneLayout(t), 5*time.Millisecond, pause(settle))
		f.driver.Store(m)
		for range 100 {
			f.hold(contacts("4"))
			time.Sleep(50 * time.Millisecond)
			f.hold(0)
			time.Sleep(50 * time.Millisecond)
		}
		for n, want := 0, hal.Down; ; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			e, err := m.ReadKey(ctx)
			cancel()
			if err != nil {
				if n < unread || n%2 != 0 {
					t.Errorf("%d events; want at least %d, and an even number", n, unread)
				}
				break
			}
			if e.Motion != want {
				t.Fatalf("event %d is %v; want %v", n, e.Motion, want)
			}
			want = 1 - want
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMatrixEndsWithItsLines(t *testing.T) {
	f := newFakeMatrix()
	f.cols.Close() // the chip was unplugged
	m := newMatrix(t.Context(), f, f.cols, phoneLayout(t), time.Millisecond, pause(settle))
	if _, err := m.ReadKey(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("ReadKey() = %v; want %v", err, os.ErrClosed)
	}
	m.Close()
}

func TestKeysAfterLostEdges(t *testing.T) {
	f := newFakeLines()
	k, err := newKeys(f, []hal.Key(phoneKeys))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // more than the kernel keeps
		f.drive(contacts("9"))
		f.drive(0)
	}
	f.drive(contacts("35"))
	for _, want := range "35" {
		if e, err := k.ReadKey(t.Context()); err != nil || e.Key != hal.Key(want) || e.Motion != hal.Down {
			t.Fatalf("ReadKey() = %v, %v; want %q down", e, err, want)
		}
	}
	f.drive(0)
	for _, want := range "35" {
		if e, err := k.ReadKey(t.Context()); err != nil || e.Key != hal.Key(want) || e.Motion != hal.Up {
			t.Fatalf("ReadKey() = %v, %v; want %q up", e, err, want)
		}
	}
}

func TestKeyHeldFromTheStart(t *testing.T) {
	f := newFakeLines()
	f.drive(contacts("5"))
	f.drain()
	k, err := newKeys(f, []hal.Key(phoneKeys))
	if err != nil {
		t.Fatal(err)
	}
	f.drive(0)
	for _, want := range []hal.Motion{hal.Down, hal.Up} {
		if e, err := k.ReadKey(t.Context()); err != nil || e.Key != '5' || e.Motion != want {
			t.Fatalf("ReadKey() = %v, %v; want 5, %v", e, err, want)
		}
	}
}

func TestHookAfterLostEdges(t *testing.T) {
	f := newFakeLines()
	h := newHook(f)
	if s, err := h.ReadHook(t.Context()); s != hal.OnHook || err != nil {
		t.Fatalf("ReadHook() = %v, %v", s, err)
	}
	for range 101 {
		f.drive(1 - f.level)
	}
	if s, err := h.ReadHook(t.Context()); s != hal.OffHook || err != nil {
		t.Fatalf("ReadHook() = %v, %v; want the present state", s, err)
	}
}

func TestLayout(t *testing.T) {
	ok := MatrixConfig{Rows: make([]Line, 2), Cols: make([]Line, 3), Keys: []string{"12 ", "*0#"}}
	if keys, err := ok.layout(); err != nil || keys[0][2] != 0 || keys[1][2] != '#' {
		t.Errorf("layout() = %v, %v", keys, err)
	}
	for _, c := range []MatrixConfig{
		{Rows: make([]Line, 2), Cols: make([]Line, 3), Keys: []string{"123"}},
		{Rows: make([]Line, 2), Cols: make([]Line, 3), Keys: []string{"123", "45"}},
		{Rows: make([]Line, 9), Cols: make([]Line, 9), Keys: make([]string, 9)},
	} {
		if keys, err := c.layout(); err == nil {
			t.Errorf("layout() of %d rows, %d columns, %q = %v; want an error", len(c.Rows), len(c.Cols), c.Keys, keys)
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, open := range []func(Line) error{
		func(l Line) error { _, err := OpenHook(HookConfig{Line: l}); return err },
		func(l Line) error { _, err := OpenLamp(LampConfig{Line: l}); return err },
		func(l Line) error {
			_, err := OpenKeys(KeysConfig{Keys: []hal.Key("1"), Lines: []Line{l}})
			return err
		},
		func(l Line) error {
			_, err := OpenMatrix(t.Context(), MatrixConfig{Rows: []Line{l}, Cols: []Line{l}, Keys: []string{"1"}})
			return err
		},
	} {
		err := open(Line{Chip: "no-such-chip", Name: "HOOK"})
		if err == nil || !strings.Contains(err.Error(), `line "HOOK" of no-such-chip`) {
			t.Errorf("opening a line that is not there: %v; want an error that names it", err)
		}
	}
}
