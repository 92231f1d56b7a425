package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"flexphone/hal"
)

// keys are those of a keypad and those beside it.
const keys = "0123456789*#" + string(hal.VolumeUp) + string(hal.VolumeDown) + string(hal.Mute)

// A Keypad is a hal.Keypad whose keys are moved by Press and Move.
type Keypad struct {
	q    *queue[hal.KeyEvent]
	down map[hal.Key]bool // guarded by q
}

var _ hal.Keypad = (*Keypad)(nil)

// NewKeypad returns a keypad with no key down.
func NewKeypad() *Keypad {
	return &Keypad{q: newQueue[hal.KeyEvent](), down: map[hal.Key]bool{}}
}

// Press presses and releases the keys of s in turn, or none of them when s has
// a character that is no key, a key of it is held down, or too many events wait
// to be read.
func (k *Keypad) Press(s string) error {
	err := k.q.update(func() error {
		for _, r := range s {
			if err := k.mayMove(hal.KeyEvent{Key: hal.Key(r), Motion: hal.Down}); err != nil {
				return err
			}
		}
		if len(k.q.pending)+2*len(s) > maxPending {
			return errors.New("too many key presses wait to be read")
		}
		now := time.Now()
		for _, r := range s {
			k.q.pending = append(k.q.pending,
				hal.KeyEvent{Key: hal.Key(r), Motion: hal.Down, At: now},
				hal.KeyEvent{Key: hal.Key(r), Motion: hal.Up, At: now})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sim: press %q: %w", s, err)
	}
	return nil
}

// Move moves one key one way. A zero At means now. It is an error to press a
// key that is down already or to release one that is not.
func (k *Keypad) Move(e hal.KeyEvent) error {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	err := k.q.update(func() error {
		if err := k.mayMove(e); err != nil {
			return err
		}
		// Only a Down is turned away, so that each Down keeps its Up.
		if e.Motion == hal.Down && len(k.q.pending) >= maxPending {
			return errors.New("too many key presses wait to be read")
		}
		k.down[e.Key] = e.Motion == hal.Down
		k.q.pending = append(k.q.pending, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("sim: move key %q: %w", rune(e.Key), err)
	}
	return nil
}

// ReadKey returns the oldest event that was not read yet.
func (k *Keypad) ReadKey(ctx context.Context) (hal.KeyEvent, error) {
	return k.q.read(ctx, func() (hal.KeyEvent, bool) {
		if len(k.q.pending) == 0 {
			return hal.KeyEvent{}, false
		}
		e := k.q.pending[0]
		k.q.pending = k.q.pending[1:]
		return e, true
	})
}

// Close ends all reads with os.ErrClosed.
func (k *Keypad) Close() error { return k.q.close() }

func (k *Keypad) mayMove(e hal.KeyEvent) error {
	switch {
	case !strings.ContainsRune(keys, rune(e.Key)):
		return fmt.Errorf("%q is none of the keys %s", rune(e.Key), keys)
	case e.Motion == hal.Down && k.down[e.Key]:
		return fmt.Errorf("%q is down already", rune(e.Key))
	case e.Motion == hal.Up && !k.down[e.Key]:
		return fmt.Errorf("%q is not down", rune(e.Key))
	case e.Motion != hal.Down && e.Motion != hal.Up:
		return fmt.Errorf("%d is no motion", e.Motion)
	}
	return nil
}
