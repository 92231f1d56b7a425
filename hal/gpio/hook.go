package gpio

import (
	"context"
	"fmt"
	"time"

	"flexphone/hal"
	"flexphone/hal/cdev"
)

// A Hook is a hal.Hook on one line.
type Hook struct {
	lines lines

	turn cdev.Turn // guards what follows
	told bool      // whether ReadHook returned before
	last hal.HookState
}

var _ hal.Hook = (*Hook)(nil)

// HookConfig wires a hook switch. Its line is active while somebody holds the
// handset.
type HookConfig struct {
	Line      Line
	ActiveLow bool // the line is low while somebody holds the handset
	Bias      Bias
	Debounce  time.Duration // 0: the package's Debounce
}

// OpenHook requests the line.
func OpenHook(c HookConfig) (*Hook, error) {
	l, err := requestInputs([]Line{c.Line}, input{activeLow: c.ActiveLow, bias: c.Bias, debounce: orDefault(c.Debounce)})
	if err != nil {
		return nil, err
	}
	return newHook(l), nil
}

func newHook(l lines) *Hook { return &Hook{lines: l, turn: cdev.NewTurn()} }

// ReadHook returns the present state at its first call, then each change of it.
func (h *Hook) ReadHook(ctx context.Context) (hal.HookState, error) {
	if err := h.turn.Take(ctx); err != nil {
		return 0, err
	}
	defer h.turn.Give()
	for {
		s, err := h.next(ctx)
		if err != nil {
			return 0, fmt.Errorf("gpio: read hook: %w", err)
		}
		if !h.told || s != h.last {
			h.told, h.last = true, s
			return s, nil
		}
	}
}

func (h *Hook) next(ctx context.Context) (hal.HookState, error) {
	var e [1]edge // one at a time, so that none is passed over
	lost := true
	if h.told {
		var err error
		if _, lost, err = h.lines.edges(ctx, e[:]); err != nil {
			return 0, err
		}
	}
	if lost { // what edges would tell is not known, or not all of it
		if _, err := h.lines.drain(); err != nil {
			return 0, err
		}
		values, err := h.lines.values()
		if err != nil {
			return 0, err
		}
		e[0].active = values&1 != 0
	}
	if e[0].active {
		return hal.OffHook, nil
	}
	return hal.OnHook, nil
}

// Close gives the line back and ends a read that waits.
func (h *Hook) Close() error { return h.lines.Close() }
