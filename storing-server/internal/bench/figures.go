package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// load makes figures of what was counted.
func (t *tally) load() Load {
	l := Load{
		Answers: len(t.times), Refused: t.refused, Repeated: t.repeated, Seconds: t.took.Seconds(),
	}
	if l.Seconds > 0 {
		l.Rate = float64(l.Answers) / l.Seconds
	}
	slices.Sort(t.times)
	l.P50, l.P99, l.P999 = millis(quantile(t.times, 0.5)), millis(quantile(t.times, 0.99)), millis(quantile(t.times, 0.999))
	return l
}

// quantile returns the least of sorted that q of them do not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Print writes r as tables for people.
func (r Report) Print(out io.Writer) error {
	fmt.Fprintf(out, "%s, %d cores (%s), %s, data on %s, one fsync %.0f µs\n", r.Time.Format(time.DateTime), r.Machine.Cores, r.Machine.CPU, r.Machine.Go, r.Machine.Disk, r.Machine.SyncMicros)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nserver\trequest\tdurable\tanswers\trefused\tper second\tp50 ms\tp99 ms\tp99.9 ms\tserver µs\tclient µs\t\n")
	for _, l := range r.Loads {
		durable := "no"
		if l.Durable {
			durable = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t\n", l.Server, l.Request, durable, l.Answers, l.Refused, l.Rate, l.P50, l.P99, l.P999, l.ServerMicros, l.ClientMicros)
	}
	if len(r.Rows) > 0 {
		fmt.Fprintf(w, "\nrows (preloaded in bulk)\tpreload s\tstart s\tmemory MB\tB/row\tdisk MB\tB/row\tlookups/s\t\n")
		for _, c := range r.Rows {
			fmt.Fprintf(w, "%d\t%.1f\t%.1f\t%.1f\t%.0f\t%.1f\t%.0f\t%.0f\t\n", c.Rows, c.Load, c.Start, float64(c.Memory)/1e6, c.MemoryEach, float64(c.Disk)/1e6, c.DiskEach, c.LookupsPerSec)
		}
	}
	if s := r.Session; s != nil {
		fmt.Fprintf(w, "\nidle sessions\tKiB each\thandshakes/s\tserver µs each\t\n%d\t%.1f\t%.0f\t%.0f\t\n", s.Sessions, s.BytesEach/sharedKib, s.PerSecond, s.ServerEach)
	}
	for _, a := range r.Absent {
		fmt.Fprintf(w, "\nnot measured: %s\n", a)
	}
	return w.Flush()
}
