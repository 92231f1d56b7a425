package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// baresip is the make that ours is beside, and its program.
const baresip = "baresip"

// A series is one thing that was measured several times.
type series struct {
	what     string
	trip     time.Duration // round trip
	maker    string
	security string // as the call says it
	times    []time.Duration
	failed   int
	late     time.Duration // than which those that failed were later
}

// A report is what was measured, in the order in which that began.
type report struct {
	list   []*series
	costs  []*weighed
	absent []string // what was not measured, and why
}

// weighed is what calls of one kind took.
type weighed struct {
	maker, security string
	costs           []cost
}

// median returns what a call takes: the middle one, of each kind of cost.
func (w *weighed) median() cost {
	middle := func(of func(cost) float64) float64 {
		var all []float64
		for _, c := range w.costs {
			all = append(all, of(c))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return cost{
		cpu:    middle(func(c cost) float64 { return c.cpu }),
		server: middle(func(c cost) float64 { return c.server }),
		memory: int64(middle(func(c cost) float64 { return float64(c.memory) })),
	}
}

// of returns the series like s, which it begins where there is none.
func (r *report) of(s series) *series {
	i := slices.IndexFunc(r.list, func(old *series) bool {
		return old.what == s.what && old.trip == s.trip && old.maker == s.maker && old.security == s.security
	})
	if i < 0 {
		i = len(r.list)
		r.list = append(r.list, &s)
	}
	return r.list[i]
}

func (r *report) add(s series, d time.Duration) {
	old := r.of(s)
	old.times = append(old.times, d)
}

// weigh adds what a call took.
func (r *report) weigh(maker, security string, c cost) {
	i := slices.IndexFunc(r.costs, func(old *weighed) bool { return old.maker == maker && old.security == security })
	if i < 0 {
		i = len(r.costs)
		r.costs = append(r.costs, &weighed{maker: maker, security: security})
	}
	r.costs[i].costs = append(r.costs[i].costs, c)
}

// fail says that what was to be measured did not come within that time.
func (r *report) fail(s series, late time.Duration) {
	old := r.of(s)
	old.failed++
	old.late = late
}

// quantile returns the least of the times that q of all do not exceed; false: there
// are fewer, since the others have failed.
func (s *series) quantile(q float64) (time.Duration, bool) {
	n := len(s.times) + s.failed
	i := min(n-1, int(q*float64(n)))
	if i < 0 || i >= len(s.times) {
		return 0, false
	}
	return slices.Sorted(slices.Values(s.times))[i], true
}

// text returns a quantile for people.
func (s *series) text(q float64) string {
	d, ok := s.quantile(q)
	if !ok {
		return fmt.Sprintf("over %.0f", millis(s.late))
	}
	return fmt.Sprintf("%.1f", millis(d))
}

// count returns how often it was measured, for people.
func (s *series) count() string {
	if s.failed == 0 {
		return fmt.Sprint(len(s.times))
	}
	return fmt.Sprintf("%d of %d", len(s.times), len(s.times)+s.failed)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// beside returns what baresip did where ours did s, and nil if that was not measured.
func (r *report) beside(s *series) *series {
	what, _, _ := strings.Cut(s.what, ", ")
	for _, other := range r.list {
		if other.maker == baresip && other.trip == s.trip && (other.what == s.what || other.what == what) {
			return other
		}
	}
	return nil
}

// print writes r as tables for people.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(r.list) > 0 {
		fmt.Fprintf(w, "calls between two phones\tround trip ms\tsecurity\tn\tp50 ms\tp95 ms\tround trips\t%s n\tp50 ms\tp95 ms\tratio\n", baresip)
	}
	for _, s := range r.list {
		if s.maker == baresip {
			continue
		}
		trips := ""
		if d, ok := s.quantile(0.5); ok && s.trip > 0 {
			half := s.trip / 2
			trips = fmt.Sprintf("%.1f + %.1f ms", float64(d/half)/2, millis(d%half))
		}
		what := s.what
		if s.maker == linphone {
			what = linphone + ": " + what
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s", what, s.trip.Milliseconds(), s.security, s.count(), s.text(0.5), s.text(0.95), trips)
		if other := r.beside(s); other != nil && s.maker != linphone {
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s", other.count(), other.text(0.5), other.text(0.95), ratio(s, other))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.costs) > 0 {
		fmt.Fprintf(w, "\na call, for each phone\tsecurity\tn\tprocessor s a minute\tmemory MB (PSS)\tprocessor s a minute of the storing server, for the call\n")
	}
	for _, c := range r.costs {
		m := c.median()
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.1f\t%.3f\n", c.maker, c.security, len(c.costs), m.cpu, float64(m.memory)/1e6, m.server)
	}
	for i, c := range r.costs {
		for _, other := range r.costs[i+1:] {
			m, o := c.median(), other.median()
			fmt.Fprintf(w, "%s, %s / %s, %s\t\t\t%.3g\t%.3g\n", c.maker, c.security, other.maker, other.security, m.cpu/o.cpu, float64(m.memory)/float64(o.memory))
		}
	}
	for _, a := range r.absent {
		fmt.Fprintf(w, "\nnot measured: %s\n", a)
	}
	return w.Flush()
}

// ratio returns the ratio of medians, for people; empty: there is none.
func ratio(s, other *series) string {
	mine, ok := s.quantile(0.5)
	theirs, both := other.quantile(0.5)
	if !ok || !both || theirs <= 0 {
		return ""
	}
	return fmt.Sprintf("%.3g", float64(mine)/float64(theirs))
}
