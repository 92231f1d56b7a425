package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"flexphone/netlink"
	"flexphone/testbed/faults"
	"flexphone/testbed/lab"
)

// A census counts what a process may leak.
type census struct {
	goroutines, files int
	heap              uint64 // bytes in use after a collection
	resident          int    // KiB, as the kernel counts
}

func take() (c census, err error) {
	runtime.GC()
	runtime.GC() // what finalizers freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.goroutines, c.heap = runtime.NumGoroutine(), m.HeapAlloc
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return c, err
	}
	c.files = len(list)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return c, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	c.resident, err = strconv.Atoi(strings.Fields(rest)[0])
	return c, err
}

// A soaking has our client change its address again and again.
type soaking struct {
	cable  *lab.Cable
	server *faults.Shifting
	phone  *ours
	log    *carrierLog
	wait   []time.Duration // from the link's return to the event
}

func startSoaking(ctx context.Context, dir string) (s *soaking, err error) {
	s = &soaking{log: newCarrierLog()}
	if s.cable, err = lab.NewCable(faults.ShiftingNet); err != nil {
		return nil, err
	}
	if s.server, err = faults.NewShifting(s.cable); err != nil {
		s.cable.Close()
		return nil, err
	}
	if s.phone, err = startOurs(ctx, s.cable, dir, slog.New(s.log)); err != nil {
		s.server.Close()
		s.cable.Close()
		return nil, err
	}
	return s, nil
}

func (s *soaking) close() error {
	err := s.phone.stop()
	s.server.Close()
	s.cable.Close()
	return err
}

// linkGrace is how long a client's link may be away before it tells of a loss.
const linkGrace = 500 * time.Millisecond

// next waits for the next event, which must tell of the address that the server
// acknowledged last. Where the link was away for longer than it should have been,
// since the machine is busy, the loss is told before.
func (s *soaking) next(ctx context.Context, away time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, lifePatience)
	defer cancel()
	e, err := s.phone.Next(ctx)
	if err == nil && e.Kind == netlink.Lost && e.Reason == "link down" && away >= linkGrace {
		e, err = s.phone.Next(ctx)
	}
	if err != nil {
		return fmt.Errorf("no event of %v: %w", s.server.Acked(), err)
	}
	if want := s.server.Acked(); e.Kind != netlink.Bound || e.Lease.Addr() != want {
		return fmt.Errorf("told of %v %v (%s), want %v", e.Kind, e.Lease.Addr(), e.Reason, want)
	}
	return nil
}

// change has the link go and come, which costs the phone its address, and waits
// for the news of the next one.
func (s *soaking) change(ctx context.Context) error {
	before, cut := s.server.Acked(), time.Now()
	if err := s.cable.Associate(false); err != nil {
		return err
	}
	select { // a link that is back before anybody looks was never away
	case <-s.log.down:
	case <-time.After(lifePatience):
		return errors.New("the client does not notice the link")
	}
	begin := time.Now()
	if err := s.cable.Associate(true); err != nil {
		return err
	}
	if err := s.next(ctx, time.Since(cut)); err != nil {
		return err
	}
	s.wait = append(s.wait, time.Since(begin))
	if s.server.Acked() == before {
		return fmt.Errorf("bound to %v again", before)
	}
	return nil
}

// soak has n changes, and compares a census near the beginning with one at the
// end.
func soak(ctx context.Context, n int) (first, last census, wait []time.Duration, err error) {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return first, last, nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startSoaking(ctx, dir)
	if err != nil {
		return first, last, nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.next(ctx, 0); err != nil {
		return first, last, nil, err
	}
	s.wait = make([]time.Duration, 0, n)
	warm := n / 10
	for i := range n {
		if err := s.change(ctx); err != nil {
			return first, last, nil, fmt.Errorf("change %d: %w\n%s", i+1, err, s.log)
		}
		switch i {
		case warm - 1:
			s.settle()
			first, err = take()
		case n - 1:
			s.settle()
			last, err = take()
		}
		if err != nil {
			return first, last, nil, err
		}
		s.cable.Watch.Forget()
	}
	_, ok := s.cable.Watch.Until(lifePatience, func(h lab.Holding) bool {
		return len(h.Addrs) == 1 && !h.Addrs[netip.PrefixFrom(s.server.Acked(), 8)].IsZero() && !h.Routed.IsZero()
	})
	if !ok {
		return first, last, nil, fmt.Errorf("the kernel does not hold %v alone", s.server.Acked())
	}
	return first, last, s.wait, nil
}

// settle waits until the sockets of the last exchange are closed, which readers
// do in their own time.
func (s *soaking) settle() {
	least := runtime.NumGoroutine()
	for same := 0; same < 20; same++ {
		<-time.After(5 * time.Millisecond)
		if n := runtime.NumGoroutine(); n != least {
			least, same = n, 0
		}
	}
}

// leaks says what there is more of at the end than near the beginning. The
// heap may differ by what the collector has not got to.
func leaks(first, last census) error {
	var errs []error
	if last.goroutines > first.goroutines {
		errs = append(errs, fmt.Errorf("%d goroutines, then %d", first.goroutines, last.goroutines))
	}
	if last.files > first.files {
		errs = append(errs, fmt.Errorf("%d open files, then %d", first.files, last.files))
	}
	if last.heap > first.heap+1<<19 {
		errs = append(errs, fmt.Errorf("%d KiB of heap, then %d", first.heap>>10, last.heap>>10))
	}
	return errors.Join(errs...)
}

// runSoak prints how many changes a process lives through.
func runSoak(ctx context.Context, o options, out io.Writer) error {
	n := o.n
	if n == 0 {
		n = 10000
	}
	begin := time.Now()
	first, last, wait, err := soak(ctx, max(n, 10))
	if err != nil {
		return fmt.Errorf("compare: soak: %w", err)
	}
	slices.Sort(wait)
	fmt.Fprintf(out, "%d lease changes in %v: each told once, in order, and the last one held.\n", len(wait), time.Since(begin).Round(time.Second))
	fmt.Fprintf(out, "From the link's return to the event: median %s, 99 %% %s, longest %s.\n",
		milliseconds(wait[len(wait)/2]), milliseconds(wait[len(wait)*99/100]), milliseconds(wait[len(wait)-1]))
	for _, c := range []struct {
		when string
		census
	}{{fmt.Sprintf("after %d", len(wait)/10), first}, {fmt.Sprintf("after %d", len(wait)), last}} {
		fmt.Fprintf(out, "%-12s %d goroutines, %d open files, %d KiB of heap, %d KiB resident\n", c.when, c.goroutines, c.files, c.heap>>10, c.resident)
	}
	if err := leaks(first, last); err != nil {
		return fmt.Errorf("compare: soak: leaks: %w", err)
	}
	return nil
}

// A carrierLog is a client's log: it tells when the client notices that its link
// is gone, and keeps the last lines.
type carrierLog struct {
	down  chan struct{}
	mu    sync.Mutex
	lines []string
}

func newCarrierLog() *carrierLog { return &carrierLog{down: make(chan struct{}, 1)} }

func (*carrierLog) Enabled(context.Context, slog.Level) bool { return true }

func (c *carrierLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Time.Format("05.0000 ") + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		if r.Message == "carrier" && a.Key == "up" && !a.Value.Bool() {
			select {
			case c.down <- struct{}{}:
			default:
			}
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) == 20 {
		c.lines = append(c.lines[:0], c.lines[1:]...)
	}
	c.lines = append(c.lines, line)
	return nil
}

func (c *carrierLog) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

func (c *carrierLog) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c *carrierLog) WithGroup(string) slog.Handler { return c }
