package netlink

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func eventOf(kind EventKind, n int) Event {
	return Event{Kind: kind, Lease: Lease{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 8)}}
}

func TestQueueKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		const n = 10_000
		go func() {
			for i := range n {
				q.Push(eventOf(Bound, i))
				time.Sleep(time.Millisecond) // simulated: the reader keeps up
			}
		}()
		for i := range n {
			if e, err := q.Next(t.Context()); err != nil || e.Lease.Prefix != eventOf(Bound, i).Lease.Prefix {
				t.Fatalf("event %d is %v, %v", i, e.Lease.Prefix, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if e, err := q.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("event %v, %v", e, err)
		}
	})
}

func TestQueueFoldsForASlowReader(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind func(i int) EventKind
		want []EventKind
	}{
		{"renewals", func(int) EventKind { return Renewed }, []EventKind{Renewed}},
		{"moves", func(int) EventKind { return Bound }, []EventKind{Bound}},
		{"losses between", func(i int) EventKind {
			if i%2 == 1 {
				return Lost
			}
			return Bound
		}, []EventKind{Lost, Bound}},
		{"a loss at the end", func(i int) EventKind {
			if i == maxPending {
				return Lost
			}
			return Bound
		}, []EventKind{Lost}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := NewQueue()
			for i := range maxPending + 1 {
				q.Push(eventOf(tt.kind(i), i))
			}
			for i, kind := range tt.want {
				e, err := q.Next(t.Context())
				if err != nil || e.Kind != kind {
					t.Errorf("event %d is %v, %v; want %v", i, e.Kind, err, kind)
				}
				if i == len(tt.want)-1 && e.Lease.Prefix != eventOf(kind, maxPending).Lease.Prefix {
					t.Errorf("the last is about %v", e.Lease.Prefix)
				}
			}
			if e, ok := q.pop(); ok {
				t.Errorf("one more: %v", e)
			}
		})
	}
}
