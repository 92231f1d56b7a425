package testbed

import (
	"context"
	"fmt"
	"sync"
)

// A journal is a growing list that can be waited upon: a program's log lines,
// a phone's events.
type journal[T any] struct {
	mu    sync.Mutex
	items []T
	end   error         // why nothing will be added any more
	more  chan struct{} // closed and replaced whenever the above changes
}

func newJournal[T any]() *journal[T] {
	return &journal[T]{more: make(chan struct{})}
}

func (j *journal[T]) add(item T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.items = append(j.items, item)
	j.wake()
}

// finish says that nothing comes any more, and why. The first reason stays.
func (j *journal[T]) finish(why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.end == nil {
		j.end = why
		j.wake()
	}
}

func (j *journal[T]) wake() {
	close(j.more)
	j.more = make(chan struct{})
}

// length returns the position of the next item to come.
func (j *journal[T]) length() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.items)
}

// since returns the items from position from on.
func (j *journal[T]) since(from int) []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]T(nil), j.items[from:]...)
}

// await returns the first item from position from on that match accepts, and
// the position after it. It waits for the item to come.
func (j *journal[T]) await(ctx context.Context, from int, match func(T) bool) (item T, next int, err error) {
	for i := from; ; {
		j.mu.Lock()
		items, end, more := j.items, j.end, j.more
		j.mu.Unlock()
		for ; i < len(items); i++ {
			if match(items[i]) {
				return items[i], i + 1, nil
			}
		}
		if end != nil {
			return item, i, end
		}
		select {
		case <-more:
		case <-ctx.Done():
			return item, i, fmt.Errorf("%w; came instead: %v", context.Cause(ctx), items[from:i])
		}
	}
}
