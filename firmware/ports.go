package main

import (
	"context"
	"io"
	"sync"

	"flexphone/firmware/internal/parts"
	"flexphone/hal"
)

// An input is a part that tells something, as call control sees it: it is there
// from the beginning, and never fails. run brings it what the driver tells.
type input[T any] struct{ told chan T }

func newInput[T any]() input[T] { return input[T]{make(chan T)} }

func (i input[T]) next(ctx context.Context) (v T, err error) {
	select {
	case v = <-i.told:
		return v, nil
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// run is one life of the driver.
func (i input[T]) run(open func(context.Context) (func(context.Context) (T, error), io.Closer, error)) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		read, c, err := open(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		works()
		for {
			v, err := read(ctx)
			if err != nil {
				return err
			}
			select {
			case i.told <- v:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// An output is a part that shows something, as call control sees it: it takes what
// is to be shown, and shows the newest of it when it can.
type output[T comparable] struct{ wanted parts.Slot[T] }

// run is one life of the driver.
func (o *output[T]) run(open func() (func(T) error, io.Closer, error)) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		show, c, err := open()
		if err != nil {
			return err
		}
		defer c.Close()
		works()
		for {
			v, changed, err := o.wanted.Get(ctx)
			if err != nil {
				return err
			}
			if err := show(v); err != nil {
				return err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// The parts as hal has them.
type (
	keypad  struct{ input[hal.KeyEvent] }
	lamp    struct{ output[hal.LampState] }
	display struct{ output[[2]string] }
	// hook tells a state once, though each life of its driver tells the present one.
	hook struct {
		input[hal.HookState]
		mu   sync.Mutex
		last hal.HookState
		told bool
	}
)

// ReadKey implements hal.Keypad.
func (k keypad) ReadKey(ctx context.Context) (hal.KeyEvent, error) { return k.next(ctx) }

// ReadHook implements hal.Hook.
func (h *hook) ReadHook(ctx context.Context) (hal.HookState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		s, err := h.next(ctx)
		switch {
		case err != nil:
			return s, err
		case !h.told || s != h.last:
			h.last, h.told = s, true
			return s, nil
		}
	}
}

// SetLamp implements hal.Lamp.
func (l *lamp) SetLamp(s hal.LampState) error {
	l.wanted.Set(s)
	return nil
}

// Show implements hal.Display.
func (d *display) Show(line1, line2 string) error {
	d.wanted.Set([2]string{line1, line2})
	return nil
}
