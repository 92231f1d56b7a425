package gpio

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/hal"
	"flexphone/hal/haltest"
)

// These tests need a kernel with the gpio-sim banks of the qemu-virt board, and
// run in its guest; elsewhere they are skipped.

// simLabel is the bank whose lines are ours; the kernel's gpio-keys has those of
// busyLabel.
const (
	simLabel  = "phone-gpio"
	busyLabel = "phone-evdev"
)

// The lines of our bank; the keys are the first twelve.
const (
	hookLine = 12
	rowLine  = 13 // the first of four
	colLine  = 17 // the first of three
	lampLine = 20
	ledLine  = 21 // the kernel's LED "mwi"
)

// A simChip is the outside of a bank of gpio-sim: what is wired to its lines.
type simChip struct {
	t   testing.TB
	dir string
}

// openSim finds our bank.
func openSim(t *testing.T) simChip {
	t.Helper()
	s := simChip{t: t}
	filepath.WalkDir("/sys/devices/platform", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "sim_gpio0" {
			return nil // what cannot be read is not what is looked for
		}
		dir := filepath.Dir(path)
		if b, err := os.ReadFile(filepath.Join(dir, "of_node/gpio-sim,label")); err == nil && string(b) == simLabel+"\x00" {
			s.dir = dir
			return fs.SkipAll
		}
		return nil
	})
	if s.dir == "" {
		t.Skipf("this kernel has no gpio-sim bank %q: run in the guest of qemu-virt", simLabel)
	}
	return s
}

func (s simChip) file(line int, name string) string {
	return filepath.Join(s.dir, fmt.Sprintf("sim_gpio%d", line), name)
}

// pull makes the world pull a line.
func (s simChip) pull(line int, high bool) {
	p := "pull-down"
	if high {
		p = "pull-up"
	}
	if err := write(s.file(line, "pull"), p); err != nil {
		s.t.Error(err)
	}
}

// high reports the level of a line.
func (s simChip) high(line int) bool {
	b, err := os.ReadFile(s.file(line, "value"))
	if err != nil {
		s.t.Error(err)
	}
	return strings.HasPrefix(string(b), "1")
}

// until waits for a state of the kernel's that no event tells.
func until(t testing.TB, what string, there func() bool) bool {
	for end := time.Now().Add(haltest.Patience); !there(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Errorf("waited too long for %s", what)
			return false
		}
	}
	return true
}

func simKeys() []Line {
	var l []Line
	for _, n := range strings.Fields("KEY_1 KEY_2 KEY_3 KEY_4 KEY_5 KEY_6 KEY_7 KEY_8 KEY_9 KEY_star KEY_0 KEY_pound") {
		l = append(l, Line{Chip: simLabel, Name: n})
	}
	return l
}

func openSimKeys(t *testing.T, sim simChip, debounce time.Duration) *Keys {
	t.Helper()
	for line := range len(phoneKeys) {
		sim.pull(line, true)
	}
	k, err := OpenKeys(KeysConfig{Keys: []hal.Key(phoneKeys), Lines: simKeys(), ActiveLow: true, Bias: PullUp, Debounce: debounce})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKernelKeys(t *testing.T) {
	sim := openSim(t)
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		k := openSimKeys(t, sim, Debounce)
		return haltest.KeypadRig{Keypad: k, Close: k.Close, Move: func(key hal.Key, m hal.Motion) {
			line := strings.IndexRune(phoneKeys, rune(key))
			sim.pull(line, m == hal.Up)
			until(t, "the kernel's debounce", func() bool {
				v, err := k.lines.values()
				return err != nil || v>>line&1 == uint64(1-m)
			})
		}}
	})
}

func TestKernelDebounces(t *testing.T) {
	sim := openSim(t)
	// A contact bounces within a millisecond; this one is moved by writing files, which an emulated processor
	// needs some milliseconds for.
	const rest = 250 * time.Millisecond
	k := openSimKeys(t, sim, rest)
	defer k.Close()
	const line = 4 // the 5
	move := func(high bool, m hal.Motion) {
		t.Helper()
		before, last := time.Now(), time.Now()
		for i := range 11 { // bounces five times, and rests where it went first
			sim.pull(line, high == (i%2 == 0))
			now := time.Now()
			if still := now.Sub(last); still > rest/2 {
				t.Skipf("this machine stood still for %v while a contact bounced, which is debounced for %v", still, rest)
			}
			last = now
		}
		e, err := k.ReadKey(t.Context())
		if err != nil || e.Key != '5' || e.Motion != m {
			t.Fatalf("ReadKey() = %v, %v; want 5 %v", e, err, m)
		}
		if now := time.Now(); e.At.Before(before) || e.At.After(now) {
			t.Errorf("the key moved at %v; want between %v and %v", e.At, before, now)
		}
	}
	move(false, hal.Down)
	move(true, hal.Up)
	if n, err := k.lines.drain(); n != 0 || err != nil {
		t.Errorf("%d edges are left of 22 toggles, %v; want none", n, err)
	}
}

func TestKernelHook(t *testing.T) {
	sim := openSim(t)
	haltest.Hook(t, func(t *testing.T) haltest.HookRig {
		sim.pull(hookLine, true)
		h, err := OpenHook(HookConfig{Line: Line{Name: "HOOK"}, ActiveLow: true, Bias: PullUp})
		if err != nil {
			t.Fatal(err)
		}
		return haltest.HookRig{Hook: h, Close: h.Close, Set: func(s hal.HookState) {
			sim.pull(hookLine, s == hal.OnHook)
			until(t, "the kernel's debounce", func() bool {
				v, err := h.lines.values()
				return err != nil || v == uint64(s)
			})
		}}
	})
}

// shows reports whether the line of a lamp is at state; it waits for a blink.
func (s simChip) shows(line int, state hal.LampState) bool {
	if state != hal.LampBlink {
		return s.high(line) == (state == hal.LampOn)
	}
	return until(s.t, "the lamp to go out", func() bool { return !s.high(line) }) &&
		until(s.t, "the lamp to go on", func() bool { return s.high(line) })
}

func TestKernelLamp(t *testing.T) {
	sim := openSim(t)
	haltest.Lamp(t, func(t *testing.T) haltest.LampRig {
		l, err := OpenLamp(LampConfig{Line: Line{Chip: simLabel, Offset: lampLine}})
		if err != nil {
			t.Fatal(err)
		}
		return haltest.LampRig{Lamp: l, Close: l.Close, Shows: func(s hal.LampState) bool { return sim.shows(lampLine, s) }}
	})
}

func TestKernelLED(t *testing.T) {
	sim := openSim(t)
	haltest.Lamp(t, func(t *testing.T) haltest.LampRig {
		l, err := OpenLED("mwi")
		if err != nil {
			t.Fatal(err)
		}
		return haltest.LampRig{Lamp: l, Close: l.Close, Shows: func(s hal.LampState) bool { return sim.shows(ledLine, s) }}
	})
}

func TestKernelLineInUse(t *testing.T) {
	openSim(t)
	_, err := OpenHook(HookConfig{Line: Line{Chip: busyLabel, Name: "EV_hook"}})
	if err == nil || !strings.Contains(err.Error(), "another driver") || !strings.Contains(err.Error(), "EV_hook") {
		t.Errorf("opening a line of gpio-keys: %v; want an error that says so", err)
	}
}

// A copper is the program that stands for the contacts of a matrix: gpio-sim
// has lines, but nothing between them.
type copper struct {
	sim        simChip
	rows, cols []int // line numbers

	rounds atomic.Uint64 // how often it has looked at all rows, and pulled

	mu     sync.Mutex
	matrix keyMatrix
	stop   bool
}

// run pulls the columns as the rows are driven, until it is stopped.
func (c *copper) run() {
	pulled := uint64(0)
	for {
		var driven uint64
		for i, line := range c.rows {
			if !c.sim.high(line) {
				driven |= 1 << i
			}
		}
		c.mu.Lock()
		cols, stop := c.matrix.columns(driven), c.stop
		c.mu.Unlock()
		if stop {
			return
		}
		for i, line := range c.cols {
			if (cols^pulled)>>i&1 != 0 {
				c.sim.pull(line, cols>>i&1 == 0)
			}
		}
		pulled = cols
		c.rounds.Add(1)
	}
}

// follow returns once the columns have followed the rows as they are now, which
// real copper has done at once: the first round that ends may have begun before.
func (c *copper) follow() {
	for from := c.rounds.Load(); c.rounds.Load() < from+2; runtime.Gosched() {
	}
}

// openSimMatrix opens a matrix whose copper runs until the test is over. looked
// counts the rows that it has driven.
func openSimMatrix(t *testing.T, debounce time.Duration) (m *Matrix, c *copper, looked *atomic.Uint64) {
	t.Helper()
	sim := openSim(t)
	c = &copper{sim: sim, rows: []int{rowLine, rowLine + 1, rowLine + 2, rowLine + 3}, cols: []int{colLine, colLine + 1, colLine + 2}, matrix: keyMatrix{rows: 4, cols: 3}}
	config := MatrixConfig{Keys: []string{"123", "456", "789", "*0#"}, Debounce: debounce}
	for _, line := range c.rows {
		config.Rows = append(config.Rows, Line{Chip: simLabel, Offset: line})
	}
	for _, line := range c.cols {
		sim.pull(line, true)
		config.Cols = append(config.Cols, Line{Chip: simLabel, Offset: line})
	}
	config.PushPull = true // gpio-sim does not show which open-drain lines let go
	looked = new(atomic.Uint64)
	config.settled = func() {
		c.follow()
		looked.Add(1)
	}
	var running sync.WaitGroup
	running.Go(c.run)
	t.Cleanup(func() { // after Close
		c.mu.Lock()
		c.stop = true
		c.mu.Unlock()
		running.Wait()
	})
	m, err := OpenMatrix(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return m, c, looked
}

// turn closes or opens the contacts of keys.
func (c *copper) turn(keys string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.matrix.contacts ^= contacts(keys)
}

func TestKernelMatrix(t *testing.T) {
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		m, c, _ := openSimMatrix(t, 0)
		return haltest.KeypadRig{Keypad: m, Close: m.Close, Move: func(key hal.Key, motion hal.Motion) {
			before := len(m.events)
			c.turn(string(key))
			until(t, "the matrix to tell", func() bool { return len(m.events) != before })
		}}
	})
}

// wantMoves reads what a keypad tells: "+1 -1" is a 1 that goes down and up.
func wantMoves(t *testing.T, k hal.Keypad, story string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), haltest.Patience)
	defer cancel()
	for _, want := range strings.Fields(story) {
		e, err := k.ReadKey(ctx)
		if err != nil {
			t.Fatalf("ReadKey() = %v; want %s of %s", err, want, story)
		}
		if got := moveOf(e); got != want {
			t.Fatalf("the keypad tells %s; want %s of %s", got, want, story)
		}
	}
}

// silent checks that the matrix tells nothing of what it sees while it looks at
// all of its rows some times.
func silent(t *testing.T, m *Matrix, looked *atomic.Uint64, times int, what string) {
	t.Helper()
	enough := looked.Load() + uint64(times*4)
	until(t, "the matrix to look for long at "+what, func() bool { return looked.Load() >= enough })
	if n := len(m.events); n != 0 {
		t.Errorf("%d moves were told of %s", n, what)
	}
}

// Three corners of a rectangle look like four: the third is told when one of the
// others is let go, the fourth never.
func TestKernelMatrixTellsNoGhost(t *testing.T) {
	m, c, looked := openSimMatrix(t, 0)
	defer m.Close()
	c.turn("1")
	wantMoves(t, m, "+1")
	c.turn("3")
	wantMoves(t, m, "+3")
	c.turn("7")
	silent(t, m, looked, 20, "three corners of a rectangle")
	c.turn("1")
	wantBoth(t, m, "-1", "+7")
	c.turn("37")
	wantBoth(t, m, "-3", "-7")
}

// wantBoth reads two moves in either order: of keys in two rows, which are looked at one after
// the other, that one is told first whose row comes next.
func wantBoth(t *testing.T, m *Matrix, one, other string) {
	t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), haltest.Patience)
	defer cancel()
	for range 2 {
		e, err := m.ReadKey(ctx)
		if err != nil {
			t.Fatalf("ReadKey() = %v after %q; want %s and %s", err, got, one, other)
		}
		got = append(got, moveOf(e))
	}
	if !slices.Contains(got, one) || !slices.Contains(got, other) {
		t.Fatalf("the keypad tells %q; want %s and %s", got, one, other)
	}
}

func moveOf(e hal.KeyEvent) string {
	if e.Motion == hal.Down {
		return "+" + string(e.Key)
	}
	return "-" + string(e.Key)
}

func TestKernelMatrixDebounces(t *testing.T) {
	const longer = 200 * time.Millisecond // than a program bounces
	m, c, looked := openSimMatrix(t, longer)
	defer m.Close()
	for _, story := range []string{"+5", "-5"} {
		for range 11 {
			c.turn("5")
			c.follow()
		}
		wantMoves(t, m, story)
	}
	c.turn("5")
	wantMoves(t, m, "+5")
	silent(t, m, looked, 5, "a key that is held")
	c.turn("5")
	wantMoves(t, m, "-5")
}
