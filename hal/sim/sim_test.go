package sim_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"flexphone/hal"
	"flexphone/hal/haltest"
	"flexphone/hal/sim"
)

func TestKeypad(t *testing.T) {
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		k := sim.NewKeypad()
		return haltest.KeypadRig{Keypad: k, Close: k.Close, Move: func(key hal.Key, m hal.Motion) {
			if err := k.Move(hal.KeyEvent{Key: key, Motion: m}); err != nil {
				t.Error(err)
			}
		}}
	})
}

func TestHook(t *testing.T) {
	haltest.Hook(t, func(t *testing.T) haltest.HookRig {
		h := sim.NewHook()
		return haltest.HookRig{Hook: h, Close: h.Close, Set: func(s hal.HookState) {
			if err := h.Set(s); err != nil {
				t.Error(err)
			}
		}}
	})
}

func TestLamp(t *testing.T) {
	haltest.Lamp(t, func(*testing.T) haltest.LampRig {
		l := sim.NewLamp()
		return haltest.LampRig{Lamp: l, Close: l.Close, Shows: func(s hal.LampState) bool { return l.State() == s }}
	})
}

func TestDisplay(t *testing.T) {
	haltest.Display(t, func(*testing.T) haltest.DisplayRig {
		d := sim.NewDisplay()
		return haltest.DisplayRig{Display: d, Lines: d.Lines, Close: d.Close}
	})
}

func TestPressRefuses(t *testing.T) {
	k := sim.NewKeypad()
	if err := k.Press("+-M"); err != nil {
		t.Errorf("keys beside the keypad: %v", err)
	}
	if err := k.Press("12a3"); err == nil || !strings.Contains(err.Error(), `'a'`) {
		t.Errorf(`Press("12a3") = %v; want an error that names 'a'`, err)
	}
	if err := k.Move(hal.KeyEvent{Key: '1', Motion: hal.Up}); err == nil {
		t.Error("a key that is not down went up")
	}
	if err := k.Move(hal.KeyEvent{Key: '1', Motion: hal.Down}); err != nil {
		t.Fatal(err)
	}
	if err := k.Press("21"); err == nil {
		t.Error("a key that is held was pressed")
	}
	// Nobody reads: presses are turned away in the end, the release is not.
	var err error
	for range 1000 {
		if err = k.Press("2"); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("1000 presses that nobody reads were all kept")
	}
	if err := k.Move(hal.KeyEvent{Key: '1', Motion: hal.Up}); err != nil {
		t.Errorf("the release of a held key was lost: %v", err)
	}
	// What is read is whole: the held key, pairs of the other, the release.
	var events []hal.KeyEvent
	for len(events) == 0 || events[len(events)-1] != (hal.KeyEvent{Key: '1', Motion: hal.Up, At: events[len(events)-1].At}) {
		e, err := k.ReadKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if len(events)%2 != 0 {
		t.Errorf("%d events, want as many downs as ups", len(events))
	}
}

func TestHookTogglesUnread(t *testing.T) {
	h := sim.NewHook()
	if s, err := h.ReadHook(t.Context()); s != hal.OnHook || err != nil {
		t.Fatalf("ReadHook() = %v, %v", s, err)
	}
	for range 1001 {
		if err := h.Set(1 - h.State()); err != nil {
			t.Fatal(err)
		}
	}
	last := hal.OnHook
	for range 1001 {
		s, err := h.ReadHook(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s == last {
			t.Fatalf("ReadHook() = %v twice", s)
		}
		last = s
		if h.Pending() == 0 {
			break
		}
	}
	if last != h.State() {
		t.Errorf("the last state read is %v; want the present one, %v", last, h.State())
	}
}

func TestChanged(t *testing.T) {
	d, l := sim.NewDisplay(), sim.NewLamp()
	var wg sync.WaitGroup
	for range 3 { // any number of watchers
		display, lamp := d.Changed(), l.Changed()
		wg.Go(func() { <-display; <-lamp })
	}
	if err := errors.Join(d.Show("a", "b"), l.SetLamp(hal.LampOn)); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	same := d.Changed()
	if err := d.Show("a", "b"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-same:
		t.Error("told of a change that was none")
	default:
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	<-same
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close() = %v; want %v", err, os.ErrClosed)
	}
}
