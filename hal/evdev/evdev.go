// Package evdev reads a phone's keys and hook switch from a Linux input device:
// buttons that the kernel's gpio-keys or matrix-keypad driver serves, a USB
// handset, or a keyboard on a desk.
//
// It knows the event protocol (the kernel's Documentation/input/event-codes.rst
// and input.h) and which codes mean a telephone's keys. Debounce and scanning
// are the kernel's. It refuses to know layouts, modifiers and repeats.
//
// # Why one Device is keypad and hook
//
// A device is grabbed, so that a key does not also reach a console; and a
// grabbed device has one reader.
package evdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"flexphone/hal"
)

// unread is how many events wait to be read. Later ones are dropped: nobody
// wants to dial what was typed minutes ago.
const unread = 256

// A Device is an input device with a phone's keys, its hook switch, or both.
type Device struct {
	source source
	zero   time.Time // when the clock of the events was at zero
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed at each change of what follows
	keys    []hal.KeyEvent
	ignored map[hal.Key]bool // down, but the Down was dropped
	hook    hal.HookState
	hooks   []hal.HookState // changes of hook since ReadHook's last
	told    bool            // whether ReadHook returned before
	err     error           // why the reading ended
	closed  bool
}

var (
	_ hal.Keypad = (*Device)(nil)
	_ hal.Hook   = (*Device)(nil)
)

// A source is an input device: the kernel's, or a test's.
type source interface {
	Read(ctx context.Context, p []byte) (int, error)
	// keys returns which keys are down, one bit a code.
	keys() ([]byte, error)
	// now returns the clock of the events.
	now() (time.Duration, error)
	Close() error
}

// newDevice reads from source until ctx is done or Close.
func newDevice(ctx context.Context, src source, l layout) (*Device, error) {
	now, err := src.now()
	if err != nil {
		src.Close()
		return nil, fmt.Errorf("evdev: read clock: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	d := &Device{
		source: src, zero: time.Now().Add(-now), stop: stop, done: make(chan struct{}),
		changed: make(chan struct{}), ignored: map[hal.Key]bool{},
	}
	s := newState()
	if err := d.look(s); err != nil { // also: the present state of the hook
		stop()
		src.Close()
		return nil, fmt.Errorf("evdev: read state: %w", err)
	}
	go func() {
		defer close(d.done)
		d.end(d.run(ctx, s, l))
	}()
	return d, nil
}

func (d *Device) run(ctx context.Context, s *state, l layout) error {
	buf := make([]byte, 64*l.size())
	for {
		n, err := d.source.Read(ctx, buf)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // a device has no end
		}
		if err != nil {
			return err
		}
		events, err := l.decode(buf[:n])
		if err != nil {
			return err
		}
		for _, e := range events {
			changes, look := s.step(e)
			d.tell(changes)
			if look {
				if err := d.look(s); err != nil {
					return err
				}
			}
		}
	}
}

// look asks the device which keys are down.
func (d *Device) look(s *state) error {
	now, err := d.source.now()
	if err != nil {
		return err
	}
	bits, err := d.source.keys()
	if err != nil {
		return err
	}
	d.tell(s.look(bits, now))
	return nil
}

// tell passes changes on to those who read.
func (d *Device) tell(changes []change) {
	if len(changes) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		if c.key != 0 {
			d.tellKey(c)
			continue
		}
		d.hook = hal.OnHook
		if c.active {
			d.hook = hal.OffHook
		}
		switch n := len(d.hooks); {
		case !d.told: // the first read tells the state, however it came about
		case n < unread:
			d.hooks = append(d.hooks, d.hook)
		default: // the change takes back the one before it
			d.hooks = d.hooks[:n-1]
		}
	}
	d.wake()
}

func (d *Device) tellKey(c change) {
	e := hal.KeyEvent{Key: c.key, Motion: hal.Up, At: d.zero.Add(c.at)}
	switch {
	case c.active && len(d.keys) >= unread:
		d.ignored[c.key] = true
		return
	case c.active:
		e.Motion = hal.Down
	case d.ignored[c.key]:
		delete(d.ignored, c.key)
		return
	}
	d.keys = append(d.keys, e)
}

func (d *Device) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *Device) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	d.wake()
}

// ReadKey returns the next move of a key, with the kernel's time of it.
func (d *Device) ReadKey(ctx context.Context) (hal.KeyEvent, error) {
	var e hal.KeyEvent
	err := d.read(ctx, func() bool {
		if len(d.keys) == 0 {
			return false
		}
		e, d.keys = d.keys[0], d.keys[1:]
		return true
	})
	return e, err
}

// ReadHook returns the present state at its first call, then each change of it.
func (d *Device) ReadHook(ctx context.Context) (hal.HookState, error) {
	var s hal.HookState
	err := d.read(ctx, func() bool {
		if !d.told {
			d.told, s = true, d.hook
			return true
		}
		if len(d.hooks) == 0 {
			return false
		}
		s, d.hooks = d.hooks[0], d.hooks[1:]
		return true
	})
	return s, err
}

// read blocks until take, which runs under the lock, has something.
func (d *Device) read(ctx context.Context, take func() bool) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.mu.Lock()
		changed, err := d.changed, d.err
		if d.closed {
			err = os.ErrClosed
		}
		ok := !d.closed && take() // what came before an error is still told
		d.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return fmt.Errorf("evdev: read device: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// Close gives the device back and ends all reads with os.ErrClosed.
func (d *Device) Close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.wake()
	d.mu.Unlock()
	if was {
		return os.ErrClosed
	}
	d.stop()
	err := d.source.Close()
	<-d.done
	return err
}
