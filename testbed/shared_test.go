package testbed

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// shared is the town of all tests on a board that QEMU plays: a virtual machine
// takes long to start.
var shared sharedTown

// A sharedTown is lent to one test at a time. Each finds it as if it were new:
// phones in standby, each with its own address, nobody's next lease settled. A
// test that fails leaves none.
type sharedTown struct {
	turn   sync.Mutex // whose test it is
	bed    *Bed
	phones []*Phone
	renew  time.Duration
}

// borrow takes the town until the test is over.
func (s *sharedTown) borrow(t testing.TB, c Config, n int) (context.Context, *Bed, []*Phone) {
	t.Helper()
	s.turn.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(func() {
		cancel()
		s.giveBack(t)
		s.turn.Unlock()
	})
	var err error
	if s.bed == nil {
		c.Board = board()
		s.bed, err = New(ctx, c)
		must(t, err)
		s.renew = c.Renew
	} else {
		s.tidy(ctx, t, c.Renew)
	}
	for len(s.phones) < n {
		s.phones = append(s.phones, addPhone(ctx, t, s.bed, 101+len(s.phones)))
	}
	return ctx, s.bed, s.phones[:n]
}

// reserve ends the town, so that a test has the machine for itself, and lends
// none until the test is over.
func (s *sharedTown) reserve(t testing.TB) context.Context {
	s.turn.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(func() {
		cancel()
		s.turn.Unlock()
	})
	must(t, s.close())
	return ctx
}

// tidy makes the town as it was: each phone has an address of its own again, and
// its lease the times that are asked for, which only a new lease brings. Nobody
// gets an address before who had it has lost it.
func (s *sharedTown) tidy(ctx context.Context, t testing.TB, renew time.Duration) {
	t.Helper()
	first := make(map[MAC]netip.Addr)
	var moving []*Phone
	for i, p := range s.phones {
		must(t, p.OnHook(ctx))
		first[p.MAC] = East.Address(i)
		if renew == s.renew && addressOf(ctx, t, p) == first[p.MAC] {
			continue
		}
		p.Mark()
		must(t, p.Unplug())
		await(ctx, t, p, "state", "state", "initial")
		moving = append(moving, p)
	}
	must(t, s.bed.ISP.Restart(ctx, renew, first))
	for _, p := range moving {
		must(t, p.Plug())
		awaitAddress(ctx, t, p, first[p.MAC])
	}
	for _, p := range s.phones {
		s.awaitStandby(ctx, t, p)
		must(t, s.bed.ISP.GiveNext(ctx, p.MAC, netip.Addr{}))
		p.Mark()
	}
	s.renew = renew
}

func (s *sharedTown) awaitStandby(ctx context.Context, t testing.TB, p *Phone) {
	t.Helper()
	look := time.NewTicker(p.look()) // it may have been there for long
	defer look.Stop()
	for {
		status, err := p.Status(ctx)
		if err == nil && status.State == "standby" && status.Registered {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("%s is not in standby: %+v, %v", p.Name, status, err)
		}
	}
}

// giveBack looks at the logs of a town whose test is over.
func (s *sharedTown) giveBack(t testing.TB) {
	switch {
	case s.bed == nil:
	case t.Failed():
		bed := s.bed
		s.bed, s.phones = nil, nil
		demolish(t, bed)
	default:
		complain(t, readLogs(s.bed))
	}
}

// close ends the town, if there is one.
func (s *sharedTown) close() error {
	bed := s.bed
	s.bed, s.phones = nil, nil
	if bed == nil {
		return nil
	}
	return bed.Close()
}
