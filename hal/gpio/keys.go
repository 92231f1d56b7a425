package gpio

import (
	"context"
	"fmt"
	"time"

	"flexphone/hal"
	"flexphone/hal/cdev"
)

// Keys is a hal.Keypad with one line a key.
type Keys struct {
	lines lines
	keys  []hal.Key // by line

	turn    cdev.Turn // guards what follows
	down    uint64    // as reported, or pending to be
	pending []hal.KeyEvent
}

var _ hal.Keypad = (*Keys)(nil)

// KeysConfig wires keys, one line each, all on one chip.
type KeysConfig struct {
	Keys      []hal.Key
	Lines     []Line // of the key with the same index
	ActiveLow bool   // a pressed key pulls its line low
	Bias      Bias
	Debounce  time.Duration // 0: the package's Debounce
}

// OpenKeys requests the lines.
func OpenKeys(c KeysConfig) (*Keys, error) {
	if len(c.Keys) != len(c.Lines) {
		return nil, fmt.Errorf("gpio: open keys: %d keys, but %d lines", len(c.Keys), len(c.Lines))
	}
	l, err := requestInputs(c.Lines, input{activeLow: c.ActiveLow, bias: c.Bias, debounce: orDefault(c.Debounce)})
	if err != nil {
		return nil, err
	}
	return newKeys(l, c.Keys)
}

func newKeys(l lines, keys []hal.Key) (*Keys, error) {
	k := &Keys{lines: l, keys: keys, turn: cdev.NewTurn()}
	if err := k.lookAgain(); err != nil { // a key that is held already goes down now
		l.Close()
		return nil, fmt.Errorf("gpio: open keys: %w", err)
	}
	return k, nil
}

// ReadKey returns the next move of a key, with the kernel's time of it.
func (k *Keys) ReadKey(ctx context.Context) (hal.KeyEvent, error) {
	if err := k.turn.Take(ctx); err != nil {
		return hal.KeyEvent{}, err
	}
	defer k.turn.Give()
	for len(k.pending) == 0 {
		if err := k.wait(ctx); err != nil {
			return hal.KeyEvent{}, fmt.Errorf("gpio: read keys: %w", err)
		}
	}
	e := k.pending[0]
	k.pending = k.pending[1:]
	return e, nil
}

func (k *Keys) wait(ctx context.Context) error {
	var buf [16]edge
	n, lost, err := k.lines.edges(ctx, buf[:])
	if err != nil {
		return err
	}
	if lost {
		if _, err := k.lines.drain(); err != nil {
			return err
		}
		return k.lookAgain()
	}
	for _, e := range buf[:n] {
		k.move(e)
	}
	return nil
}

// lookAgain reads how the keys are, where edges do not tell.
func (k *Keys) lookAgain() error {
	values, err := k.lines.values()
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range k.keys {
		k.move(edge{line: i, active: values>>i&1 != 0, at: now})
	}
	return nil
}

// move makes an event of an edge, unless the key is there already: an edge may
// arrive after the state that it led to was read.
func (k *Keys) move(e edge) {
	bit := uint64(1) << e.line
	if (k.down&bit != 0) == e.active {
		return
	}
	k.down ^= bit
	m := hal.Up
	if e.active {
		m = hal.Down
	}
	k.pending = append(k.pending, hal.KeyEvent{Key: k.keys[e.line], Motion: m, At: e.at})
}

// Close gives the lines back and ends a read that waits.
func (k *Keys) Close() error { return k.lines.Close() }

func orDefault(d time.Duration) time.Duration {
	if d == 0 {
		return Debounce
	}
	return d
}
