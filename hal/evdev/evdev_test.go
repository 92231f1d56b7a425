package evdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/hal"
	"flexphone/hal/cdev"
	"flexphone/hal/haltest"
)

// Layouts that kernels have.
var (
	arm   = layout{word: 4, order: binary.LittleEndian}
	arm64 = layout{word: 8, order: binary.LittleEndian}
	mips  = layout{word: 4, order: binary.BigEndian}
)

func (l layout) encode(events ...event) []byte {
	var b []byte
	long := func(v uint64) {
		word := make([]byte, l.word)
		if l.word == 4 {
			l.order.PutUint32(word, uint32(v))
		} else {
			l.order.PutUint64(word, v)
		}
		b = append(b, word...)
	}
	for _, e := range events {
		long(uint64(e.at / time.Second))
		long(uint64(e.at % time.Second / time.Microsecond))
		b = append(b, make([]byte, 8)...)
		rest := b[len(b)-8:]
		l.order.PutUint16(rest, e.typ)
		l.order.PutUint16(rest[2:], e.code)
		l.order.PutUint32(rest[4:], uint32(e.value))
	}
	return b
}

func TestDecode(t *testing.T) {
	// KEY_NUMERIC_STAR going down, 12.123456 s after the start.
	for _, c := range []struct {
		name string
		l    layout
		raw  string
	}{
		{"arm", arm, "\x0c\x00\x00\x00\x40\xe2\x01\x00\x01\x00\x0a\x02\x01\x00\x00\x00"},
		{"arm64", arm64, "\x0c\x00\x00\x00\x00\x00\x00\x00\x40\xe2\x01\x00\x00\x00\x00\x00\x01\x00\x0a\x02\x01\x00\x00\x00"},
		{"big-endian", mips, "\x00\x00\x00\x0c\x00\x01\xe2\x40\x00\x01\x02\x0a\x00\x00\x00\x01"},
	} {
		want := event{at: 12*time.Second + 123456*time.Microsecond, typ: typeKey, code: 0x20a, value: 1}
		if got, err := c.l.decode([]byte(c.raw + c.raw)); err != nil || len(got) != 2 || got[0] != want || got[1] != want {
			t.Errorf("%s: decode() = %v, %v; want twice %v", c.name, got, err, want)
		}
	}
	if _, err := arm.decode(make([]byte, 17)); err == nil {
		t.Error("half an event was decoded")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(arm.encode(event{at: time.Second, typ: typeKey, code: 2, value: 1}, event{}))
	f.Add(arm64.encode(event{typ: typeSyn, code: codeSynDropped}, event{typ: typeKey, code: codeHook, value: -1}))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range []layout{arm, arm64, mips} {
			events, err := l.decode(b)
			if (err == nil) != (len(b)%l.size() == 0) {
				t.Fatalf("decode of %d bytes: %v", len(b), err)
			}
			s := newState()
			down := map[hal.Key]bool{}
			for i, e := range events {
				// A time that a clock can show comes back as it was.
				raw := b[i*l.size():]
				if l.long(raw) < 1<<31 && l.long(raw[l.word:]) < 1e6 {
					if again, err := l.decode(l.encode(e)); err != nil || len(again) != 1 || again[0] != e {
						t.Fatalf("%v encoded and decoded is %v, %v", e, again, err)
					}
				}
				changes, _ := s.step(e)
				for _, c := range changes {
					if down[c.key] == c.active {
						t.Fatalf("key %q moved to where it was", c.key)
					}
					down[c.key] = c.active
				}
			}
		}
	})
}

func TestState(t *testing.T) {
	key := func(code uint16, value int32) event { return event{typ: typeKey, code: code, value: value} }
	for _, c := range []struct {
		name   string
		events []event
		want   string
		look   bool
	}{
		{"upper row, number pad, telephone", []event{key(2, 1), key(2, 0), key(0x20b, 1), key(0x20b, 0), key(82, 1), key(82, 0)}, "+1-1+#-#+0-0", false},
		{"hook", []event{key(codeHook, 1), key(codeHook, 0)}, "+hook-hook", false},
		{"repeats", []event{key(3, 1), key(3, 2), key(3, 2), key(3, 0)}, "+2-2", false},
		{"two codes of one key", []event{key(3, 1), key(80, 1), key(3, 0), key(80, 0)}, "+2-2", false},
		{"keys of no phone", []event{key(30, 1), key(30, 0), {typ: 4, code: 4, value: 7}}, "", false},
		{"release of what was not down", []event{key(3, 0)}, "", false},
		{"lost events", []event{key(3, 1), {typ: typeSyn, code: codeSynDropped}, key(3, 0), key(4, 1), {typ: typeSyn}}, "+2", true},
		{"report", []event{key(3, 1), {typ: typeSyn}}, "+2", false},
		{"volume and mute", []event{key(115, 1), key(115, 2), key(115, 0), key(114, 1), key(113, 1), key(248, 1), key(113, 0), key(248, 0)}, "++-++-+M-M", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newState()
			got, look := "", false
			for _, e := range c.events {
				changes, l := s.step(e)
				got, look = got+told(changes), look || l
			}
			if got != c.want || look != c.look {
				t.Errorf("told %s, look %v; want %s, %v", got, look, c.want, c.look)
			}
		})
	}
	s := newState()
	s.step(key(3, 1))
	bits := make([]byte, 96)
	bits[codeHook/8] |= 1 << (codeHook % 8)
	bits[0] |= 1 << 2
	if got, want := told(s.look(bits, 0)), "+1-2+hook"; got != want {
		t.Errorf("a look told %s; want %s", got, want)
	}
	if got, want := told(s.look(nil, 0)), "-1-hook"; got != want {
		t.Errorf("a look at a device without keys told %s; want %s", got, want)
	}
}

func told(changes []change) (s string) {
	for _, c := range changes {
		sign := "-"
		if c.active {
			sign = "+"
		}
		name := "hook"
		if c.key != 0 {
			name = string(rune(c.key))
		}
		s += sign + name
	}
	return s
}

// A pipeSource is an input device whose events come out of a pipe.
type pipeSource struct {
	*cdev.File
	w *os.File

	mu   sync.Mutex
	bits []byte
}

func (p *pipeSource) keys() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.bits), nil
}

func (*pipeSource) now() (time.Duration, error) { return time.Hour, nil }

func (p *pipeSource) write(t *testing.T, events ...event) {
	t.Helper()
	if _, err := p.w.Write(native().encode(events...)); err != nil {
		t.Error(err)
	}
}

func (p *pipeSource) move(t *testing.T, code uint16, down bool) {
	t.Helper()
	e := event{at: time.Hour, typ: typeKey, code: code}
	if down {
		e.value = 1
	}
	p.write(t, e, event{at: time.Hour})
}

func openPipe(t *testing.T) (*Device, *pipeSource) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	f, err := cdev.New(fds[0], "pipe")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipeSource{File: f, w: os.NewFile(uintptr(fds[1]), "pipe"), bits: make([]byte, keyBytes)}
	t.Cleanup(func() { p.w.Close() })
	d, err := newDevice(t.Context(), p, native())
	if err != nil {
		t.Fatal(err)
	}
	return d, p
}

func codeOf(key hal.Key) uint16 {
	switch key {
	case '*':
		return 0x20a
	case '#':
		return 0x20b
	case '0':
		return 11
	}
	return uint16(key-'1') + 2
}

func TestKeypad(t *testing.T) {
	haltest.Keypad(t, func(t *testing.T) haltest.KeypadRig {
		d, p := openPipe(t)
		return haltest.KeypadRig{Keypad: d, Close: d.Close, Move: func(key hal.Key, m hal.Motion) {
			p.move(t, codeOf(key), m == hal.Down)
		}}
	})
}

func TestHook(t *testing.T) {
	haltest.Hook(t, func(t *testing.T) haltest.HookRig {
		d, p := openPipe(t)
		return haltest.HookRig{Hook: d, Close: d.Close, Set: func(s hal.HookState) {
			p.move(t, codeHook, s == hal.OffHook)
			d.await(s)
		}}
	})
}

// await blocks until the device has read that the handset is there.
func (d *Device) await(s hal.HookState) {
	for {
		d.mu.Lock()
		there, changed := d.hook == s, d.changed
		d.mu.Unlock()
		if there {
			return
		}
		<-changed
	}
}

func TestLostEventsAreReadAgain(t *testing.T) {
	d, p := openPipe(t)
	defer d.Close()
	p.move(t, codeOf('7'), true)
	p.mu.Lock()
	p.bits[codeOf('8')/8] |= 1 << (codeOf('8') % 8)
	p.mu.Unlock()
	p.write(t, event{typ: typeSyn, code: codeSynDropped}, event{typ: typeKey, code: codeOf('9'), value: 1}, event{})
	got := ""
	for range 3 {
		e, err := d.ReadKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintf("%c%c", "+-"[e.Motion], e.Key)
	}
	if want := "+7-7+8"; got != want {
		t.Errorf("read %s; want %s: the state of the device", got, want)
	}
}

func TestDeviceGone(t *testing.T) {
	d, p := openPipe(t)
	p.move(t, 2, true)
	p.w.Close()
	if e, err := d.ReadKey(t.Context()); err != nil || e.Key != '1' {
		t.Errorf("ReadKey() = %v, %v; want what came before the end", e, err)
	}
	if _, err := d.ReadKey(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadKey() = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnreadKeysStayPairs(t *testing.T) {
	d, p := openPipe(t)
	for range 1000 {
		p.move(t, 2, true)
		p.move(t, 2, false)
	}
	p.move(t, codeHook, true)
	d.await(hal.OffHook) // all before it was read
	want := hal.Down
	for n := range unread {
		e, err := d.ReadKey(t.Context())
		if err != nil || e.Motion != want {
			t.Fatalf("event %d = %v, %v; want %v", n, e, err, want)
		}
		want = 1 - want
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.ReadKey(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadKey() = %v; want %v", err, context.Canceled)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenNamesTheDevice(t *testing.T) {
	for _, name := range []string{"no such phone", "/dev/input/no-such-device"} {
		if _, err := Open(t.Context(), name); err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("Open(%q) = %v; want an error that names it", name, err)
		}
	}
}
