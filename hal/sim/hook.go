package sim

import (
	"context"
	"fmt"

	"flexphone/hal"
)

// A Hook is a hal.Hook whose handset is lifted and laid by methods.
type Hook struct {
	q     *queue[hal.HookState] // pending: states since the last read, each other than the one before
	state hal.HookState         // guarded by q
	read  bool                  // whether the present state was read once; guarded by q
}

var _ hal.Hook = (*Hook)(nil)

// NewHook returns a hook switch with its handset on it.
func NewHook() *Hook { return &Hook{q: newQueue[hal.HookState]()} }

// Lift takes the handset off the hook.
func (h *Hook) Lift() error { return h.Set(hal.OffHook) }

// Lay puts the handset back.
func (h *Hook) Lay() error { return h.Set(hal.OnHook) }

// Set puts the handset where s says. It may be there already.
func (h *Hook) Set(s hal.HookState) error {
	err := h.q.update(func() error {
		if s != hal.OnHook && s != hal.OffHook {
			return fmt.Errorf("%d is no state of a hook", s)
		}
		if s == h.state {
			return nil
		}
		h.state = s
		switch n := len(h.q.pending); {
		case !h.read: // the first read tells the state, however it came about
		case n < maxPending:
			h.q.pending = append(h.q.pending, s)
		default: // the change takes back the one before it
			h.q.pending = h.q.pending[:n-1]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sim: set hook: %w", err)
	}
	return nil
}

// State returns where the handset is.
func (h *Hook) State() hal.HookState {
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	return h.state
}

// Pending returns how many changes nobody has read yet.
func (h *Hook) Pending() int {
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	return len(h.q.pending)
}

// ReadHook returns the present state at its first call, then each change of it,
// none of them lost.
func (h *Hook) ReadHook(ctx context.Context) (hal.HookState, error) {
	return h.q.read(ctx, func() (hal.HookState, bool) {
		if !h.read {
			h.read = true
			return h.state, true
		}
		if len(h.q.pending) == 0 {
			return 0, false
		}
		s := h.q.pending[0]
		h.q.pending = h.q.pending[1:]
		return s, true
	})
}

// Close ends all reads with os.ErrClosed.
func (h *Hook) Close() error { return h.q.close() }
