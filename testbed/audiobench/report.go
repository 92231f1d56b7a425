package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// A report is what was measured.
type report struct {
	delays []*delays
	costs  []*cost
	heard  []hearing
	tails  []lateness
	lasted time.Duration // the call that tails are of
	late   int           // how often the bench itself was
	prompt bool          // the card's clock, the bench and our telephones have SCHED_RR
	absent []string      // what was not measured, and why
}

// delays are those of each half second of all calls of a kind.
type delays struct {
	maker string
	kind  kind
	calls int
	times []time.Duration
}

func (r *report) add(maker string, k kind, times []time.Duration) {
	d := r.delay(maker, k)
	if d == nil {
		d = &delays{maker: maker, kind: k}
		r.delays = append(r.delays, d)
	}
	d.calls++
	d.times = append(d.times, times...)
}

// delay returns what was measured of a kind; nil: nothing.
func (r *report) delay(maker string, k kind) *delays {
	i := slices.IndexFunc(r.delays, func(d *delays) bool { return d.maker == maker && d.kind == k })
	if i < 0 {
		return nil
	}
	return r.delays[i]
}

// quantile returns the least of the times, of which there are some, that q of all do
// not exceed, in ms.
func (d *delays) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(d.times))
	return millis(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// print writes r as tables for people.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for i, t := range r.tails {
		fmt.Fprintf(w, "end %d of a call of %v: of %d periods %d came more than a period late, and %d had nothing to play\n", i+1, r.lasted, r.lasted/(5*time.Millisecond), t.late, t.silent)
	}
	if len(r.delays) > 0 {
		fmt.Fprintf(w, "from mouth to ear, without the card's own loop\tcalls\tp50 ms\tp95 ms\tflexphone / this\n")
		for _, d := range r.delays {
			fmt.Fprintf(w, "%s, %v\t%d\t%.1f\t%.1f\t%s\n", d.maker, d.kind, d.calls, d.quantile(0.5), d.quantile(0.95), r.ratio(d))
		}
	}
	r.printCosts(w)
	if len(r.heard) > 0 {
		fmt.Fprintf(w, "\nspeech over %v\tunderstood (STOI)\tat one delay\tfirst 5 s, ms\tlast 5 s, ms\n", way)
	}
	for _, h := range r.heard {
		fmt.Fprintf(w, "%s, %v, %s\t%.3f\t%.3f\t%.0f\t%.0f\n", h.what, h.kind, h.maker, h.followed, h.fixed, millis(h.begin), millis(h.end))
	}
	if !r.prompt {
		fmt.Fprintf(w, "\nwithout SCHED_RR, which the kernel gives root alone: whatever else this machine did is in these figures\n")
	}
	if r.late > 0 {
		fmt.Fprintf(w, "\nmeasured again, since the bench itself was late: %d times\n", r.late)
	}
	for _, a := range r.absent {
		fmt.Fprintf(w, "not measured: %s\n", a)
	}
	return w.Flush()
}

// ratio is that of our median to d's, for people.
func (r *report) ratio(d *delays) string {
	ours := r.delay(flexphone, d.kind)
	if d.maker == flexphone || ours == nil || d.quantile(0.5) <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ours.quantile(0.5)/d.quantile(0.5))
}
