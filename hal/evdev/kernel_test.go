package evdev

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flexphone/hal"
	"flexphone/hal/haltest"
)

// These tests need a kernel whose gpio-keys makes the input device "phone-keys"
// of the gpio-sim bank "phone-evdev": the guest of the qemu-virt board.

// simLines is where the lines of the bank are pulled.
func simLines(t *testing.T) string {
	t.Helper()
	var found string
	filepath.WalkDir("/sys/devices/platform", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "sim_gpio0" {
			return nil // what cannot be read is not what is looked for
		}
		label, err := os.ReadFile(filepath.Join(filepath.Dir(path), "of_node/gpio-sim,label"))
		if err == nil && string(label) == "phone-evdev\x00" {
			found = filepath.Dir(path)
			return fs.SkipAll
		}
		return nil
	})
	if found == "" {
		t.Skip(`this kernel has no gpio-sim bank "phone-evdev": run in the guest of qemu-virt`)
	}
	return found
}

func pull(t *testing.T, lines string, line int, pressed bool) {
	t.Helper()
	p := "pull-up"
	if pressed { // the contacts close to ground
		p = "pull-down"
	}
	if err := os.WriteFile(filepath.Join(lines, fmt.Sprintf("sim_gpio%d/pull", line)), []byte(p), 0); err != nil {
		t.Error(err)
	}
}

func TestKernelKeypad(t *testing.T) {
	lines := simLines(t)
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		d, err := Open(t.Context(), "phone-keys")
		if err != nil {
			t.Fatal(err)
		}
		return haltest.KeypadRig{Keypad: d, Close: d.Close, Move: func(key hal.Key, m hal.Motion) {
			read := d.unread()
			pull(t, lines, strings.IndexRune("123456789*0#", rune(key)), m == hal.Down)
			d.awaitMore(read)
		}}
	})
}

// The kernel's debounce makes one move of many.
func TestKernelDebounces(t *testing.T) {
	lines := simLines(t)
	d, err := Open(t.Context(), "phone-keys")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const (
		line     = 4                    // the 5
		after    = 5                    // the 6: what else there was to say of the 5 is said before it moves
		debounce = 5 * time.Millisecond // of the device tree
		attempts = 50
	)
	for range attempts {
		quick, told := true, ""
		read := func() hal.KeyEvent {
			e, err := d.ReadKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Key == '5' {
				told += []string{hal.Down: "down ", hal.Up: "up "}[e.Motion]
			}
			return e
		}
		for _, pressed := range []bool{true, false} {
			from := time.Now()
			for range 5 {
				pull(t, lines, line, pressed)
				pull(t, lines, line, !pressed)
			}
			pull(t, lines, line, pressed)
			quick = quick && time.Since(from) < debounce
			read()
			for _, pressed := range []bool{true, false} {
				pull(t, lines, after, pressed)
				for read().Key != '6' {
				}
			}
		}
		switch {
		case told == "down up ":
			return
		case quick:
			t.Fatalf("of 22 moves of a key the device tells %s", told)
		}
		// This machine stood still meanwhile: those were no bounces.
	}
	t.Errorf("in %d attempts no contact bounced faster than in %v", attempts, debounce)
}

// unread returns how many moves of keys wait to be read.
func (d *Device) unread() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys)
}

// awaitMore blocks until more than n moves wait: the kernel's debounce has let
// the next one through.
func (d *Device) awaitMore(n int) {
	for {
		d.mu.Lock()
		there, changed := len(d.keys) > n, d.changed
		d.mu.Unlock()
		if there {
			return
		}
		<-changed
	}
}

func TestKernelHook(t *testing.T) {
	const line = 12
	lines := simLines(t)
	haltest.Hook(t, func(t *testing.T) haltest.HookRig {
		d, err := Open(t.Context(), "phone-keys")
		if err != nil {
			t.Fatal(err)
		}
		pull(t, lines, line, false)
		d.await(hal.OnHook) // whatever the test before left
		return haltest.HookRig{Hook: d, Close: d.Close, Set: func(s hal.HookState) {
			pull(t, lines, line, s == hal.OffHook)
			d.await(s)
		}}
	})
}

func TestKernelGrab(t *testing.T) {
	simLines(t)
	d, err := Open(t.Context(), "phone-keys")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if second, err := Open(t.Context(), "phone-keys"); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("the second Open() = %v, %v; want an error that says that another has it", second, err)
	}
}
