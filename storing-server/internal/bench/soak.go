package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

const (
	// soakWave is how many phones of those that move have a session at a time.
	soakWave    = 2000
	soakWindow  = 256
	checkMost   = 15 * time.Minute
	memoryTimes = 100 // samples in a soak
	// A soak that is shorter than judgedFrom says nothing about memory.
	judgedFrom = time.Minute
	// flatWithin is by how much the last tenth may exceed the second.
	flatWithin = 1.25
)

// A SoakReport is what came of a soak.
type SoakReport struct {
	Time      time.Time `json:"time"`
	Machine   Machine   `json:"machine"`
	Rows      int       `json:"rows"`
	Moving    int       `json:"moving"`  // rows that were to move
	Moved     int       `json:"moved"`   // rows that moved at least once
	Moves     int       `json:"moves"`   // all moves that were acknowledged
	Refused   int       `json:"refused"` // moves that were not
	Repeated  int       `json:"repeated"`
	Sessions  int       `json:"sessions"` // handshakes
	Seconds   float64   `json:"seconds"`
	Rate      float64   `json:"moves_per_second"`
	Checked   int       `json:"checked"` // rows looked up at the end
	Wrong     int       `json:"wrong"`
	FirstBad  string    `json:"first_wrong,omitempty"`
	Preload   float64   `json:"preload_seconds"`
	Start     float64   `json:"start_seconds"`
	Memory    []int64   `json:"resident_bytes"` // samples over time
	Early     int64     `json:"early_bytes"`    // median of the second tenth
	Late      int64     `json:"late_bytes"`     // median of the last tenth
	DiskStart int64     `json:"disk_start_bytes"`
	DiskEnd   int64     `json:"disk_end_bytes"`
}

// Err says what was wrong with the soaked server; nil: nothing.
func (r SoakReport) Err() error {
	var errs []error
	if r.Wrong > 0 {
		errs = append(errs, fmt.Errorf("bench: %d of %d rows are wrong, such as %s", r.Wrong, r.Checked, r.FirstBad))
	}
	if r.Checked != r.Rows {
		errs = append(errs, fmt.Errorf("bench: %d of %d rows were checked", r.Checked, r.Rows))
	}
	if r.Moved != r.Moving {
		errs = append(errs, fmt.Errorf("bench: %d of %d rows moved", r.Moved, r.Moving))
	}
	if r.Seconds >= judgedFrom.Seconds() && float64(r.Late) > flatWithin*float64(r.Early) {
		errs = append(errs, fmt.Errorf("bench: memory grew from %d to %d bytes", r.Early, r.Late))
	}
	return errors.Join(errs...)
}

// Print writes r as a table for people.
func (r SoakReport) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "soak\t%d rows (preloaded in bulk in %.1f s, read at the start in %.1f s), %.0f s\n", r.Rows, r.Preload, r.Start, r.Seconds)
	fmt.Fprintf(w, "moved\t%d of %d rows, %d times, %.0f a second; %d refused, %d sent again\n", r.Moved, r.Moving, r.Moves, r.Rate, r.Refused, r.Repeated)
	fmt.Fprintf(w, "sessions\t%d\n", r.Sessions)
	fmt.Fprintf(w, "checked at the end\t%d rows, %d wrong\n", r.Checked, r.Wrong)
	fmt.Fprintf(w, "memory, MB\t%.1f early, %.1f late\n", float64(r.Early)/1e6, float64(r.Late)/1e6)
	fmt.Fprintf(w, "disk, MB\t%.1f before, %.1f after\n", float64(r.DiskStart)/1e6, float64(r.DiskEnd)/1e6)
	return w.Flush()
}

// A soak is one that runs.
type soak struct {
	*SoakReport
	o      Options
	server *process
	state  []moverState // of the rows that move, by index
}

// A moverState is what a row must be: the sequence number that was acknowledged
// last, or, unless it is zero, a later one that was never answered.
type moverState struct{ acknowledged, asked uint64 }

// RunSoak lets moving of o.Rows[0] rows move for lasts, and until each of them
// has; then it looks at every row.
func RunSoak(ctx context.Context, o Options, lasts time.Duration, moving int) (SoakReport, error) {
	r := SoakReport{Time: time.Now().UTC(), Machine: machine(o.Dir), Rows: o.Rows[0], Moving: moving}
	if moving < 2 {
		return r, errors.New("bench: soak: want at least two rows that move")
	}
	s := &soak{SoakReport: &r, o: o, state: make([]moverState, moving)}
	for i := range s.state {
		s.state[i].acknowledged = 1
	}
	dir := filepath.Join(o.Dir, "soak")
	o.Say("%d rows, preloaded", r.Rows)
	start := time.Now()
	if err := preload(ctx, dir, r.Rows, moving); err != nil {
		return r, err
	}
	r.Preload = time.Since(start).Seconds()
	start = time.Now()
	var err error
	if s.server, err = startServer(ctx, o, dir); err != nil {
		return r, err
	}
	defer s.server.stop()
	r.Start = time.Since(start).Seconds()
	if r.DiskStart, err = diskUsage(filepath.Join(dir, "journal")); err != nil {
		return r, err
	}
	last, err := s.move(ctx, lasts)
	if err != nil {
		return r, err
	}
	defer last.close()
	o.Say("looking at all rows")
	if err := s.check(ctx, last); err != nil {
		return r, err
	}
	r.DiskEnd, err = diskUsage(filepath.Join(dir, "journal"))
	return r, err
}

// move lets phones move, a wave after the other, and returns the last wave.
func (s *soak) move(ctx context.Context, lasts time.Duration) (*fleet, error) {
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() { s.sample(sampling, lasts/memoryTimes) })
	defer sampler.Wait()
	defer stop()
	size := min(soakWave, s.Moving)
	waves := (s.Moving + size - 1) / size
	start := time.Now()
	for wave := 0; ; wave++ {
		if wave%max(1, waves/10) == 0 {
			s.o.Say("%v: %d moves of %d phones", time.Since(start).Round(time.Second), s.Moves, s.Moved)
		}
		first := wave % waves * size
		// Whatever time is left is shared by the waves that are left.
		left := max(0, lasts-time.Since(start))
		share := left / time.Duration(max(1, waves-wave))
		f, err := s.wave(ctx, first, min(size, s.Moving-first), share)
		if err != nil {
			return nil, err
		}
		if wave+1 >= waves && time.Since(start) >= lasts {
			s.Seconds = time.Since(start).Seconds()
			s.Rate = float64(s.Moves) / s.Seconds
			stop()
			sampler.Wait()
			s.judgeMemory()
			return f, nil
		}
		f.end()
	}
}

// wave lets phones first to first+n-1 come, move for about share, and at least
// once each.
func (s *soak) wave(ctx context.Context, first, n int, share time.Duration) (*fleet, error) {
	start := time.Now()
	f, err := newFleet(ctx, s.server.listen, max(1, runtime.NumCPU()/2))
	if err != nil {
		return nil, err
	}
	if err := f.handshakes(ctx, first, n); err != nil {
		f.close()
		return nil, err
	}
	s.Sessions += n
	for _, p := range f.phones {
		m := s.state[p.index]
		if m.acknowledged == 1 {
			s.Moved++
		}
		p.sequence = max(m.acknowledged, m.asked)
	}
	jobs := []job{{kind: register, window: soakWindow, most: time.Minute}}
	if left := share - time.Since(start); left > 0 {
		jobs = append(jobs, job{kind: register, window: soakWindow, again: true, lasts: left})
	}
	for _, j := range jobs {
		t, err := f.run(ctx, f.phones, j)
		if err != nil {
			f.close()
			return nil, err
		}
		s.Moves += len(t.times)
		s.Refused += t.refused
		s.Repeated += t.repeated
		for _, p := range f.phones {
			s.state[p.index] = moverState{p.acknowledged, p.sequence}
		}
	}
	return f, nil
}

// end closes all sessions of f as phones do that are switched off.
func (f *fleet) end() {
	for _, l := range f.lines {
		for _, p := range l.phones {
			if p != nil {
				// A warning, close_notify.
				if alert, err := p.secret.Seal(nil, record.TypeAlert, []byte{1, 0}); err == nil {
					_, _ = l.conn.Write(alert)
				}
			}
		}
	}
	f.close()
}

// sample weighs the server now and then.
func (s *soak) sample(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(max(every, tick))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Memory = append(s.Memory, s.server.usage().Anonymous)
		case <-ctx.Done():
			return
		}
	}
}

func (s *soak) judgeMemory() {
	n := len(s.Memory)
	if n < 10 {
		return
	}
	median := func(samples []int64) int64 {
		sorted := slices.Sorted(slices.Values(samples))
		return sorted[len(sorted)/2]
	}
	s.Early, s.Late = median(s.Memory[n/10:n/5]), median(s.Memory[n-n/10:])
}

// check looks every row up, and judges it.
func (s *soak) check(ctx context.Context, f *fleet) error {
	var mu sync.Mutex
	var again []int
	next := 0
	j := job{
		kind: check, window: soakWindow, most: checkMost,
		next: func() (int, bool) {
			mu.Lock()
			defer mu.Unlock()
			if n := len(again); n > 0 {
				i := again[n-1]
				again = again[:n-1]
				return i, true
			}
			next++
			return next - 1, next <= s.Rows
		},
		judge: func(i int, row wire.Row, code codes.Code) {
			mu.Lock()
			defer mu.Unlock()
			if code == wire.CodeTooManyRequests {
				again = append(again, i)
				return
			}
			s.Checked++
			if bad := s.bad(i, row, code); bad != "" {
				s.Wrong++
				if s.FirstBad == "" {
					s.FirstBad = bad
				}
			}
		},
	}
	_, err := f.run(ctx, f.phones, j)
	return err
}

// bad says what is wrong with row i; empty: nothing.
func (s *soak) bad(i int, row wire.Row, code codes.Code) string {
	if code != codes.Content {
		return fmt.Sprintf("%v: answer %v", macOf(i), code)
	}
	want := moverState{acknowledged: 1}
	if i < len(s.state) {
		want = s.state[i]
	}
	right := row.Sequence == want.acknowledged || row.Sequence == want.asked && want.asked > want.acknowledged
	if !right || row.MAC != macOf(i) || row.State != wire.Online ||
		len(row.Addrs) != 1 || row.Addrs[0] != dotted(addressOf(i, row.Sequence)) || row.Number != fmt.Sprint(firstNumber+i) {
		return fmt.Sprintf("%+v; acknowledged was %d", row, want.acknowledged)
	}
	return ""
}
