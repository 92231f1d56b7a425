package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"flexphone/internal/usage"
	"flexphone/testbed"
)

// A kind is one thing of a program that must not grow.
type kind struct {
	name  string
	slack float64 // how much more there may be at the end than at the beginning
	share float64 // or which share of what there was
}

// The slack is for what comes and goes: a link that is kept for a while after a call, a
// heap that was larger when it was looked at.
var kinds = []kind{
	{name: "files", slack: 4},
	{name: "goroutines", slack: 6},
	{name: "heap, MB", slack: 1, share: 0.2},
	{name: "memory, MB", slack: 2, share: 0.2},
}

// A watch looks at programs between calls.
type watch struct {
	phones []*testbed.Phone
	seen   []map[int][][]float64 // of each phone, by process: what was looked at, in the order of kinds
}

func newWatch(phones []*testbed.Phone) *watch {
	w := &watch{phones: phones}
	for range phones {
		w.seen = append(w.seen, map[int][][]float64{})
	}
	return w
}

// look notes what each program takes.
func (w *watch) look(ctx context.Context) error {
	for i, p := range w.phones {
		pid := p.Pid()
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return fmt.Errorf("soak: look at %s: %w", p.Name, err)
		}
		goroutines, err := profile(ctx, p, "goroutines", 0)
		if err != nil {
			return err
		}
		heap, err := profile(ctx, p, "heap", 3) // its fourth value is bytes in use
		if err != nil {
			return err
		}
		w.seen[i][pid] = append(w.seen[i][pid], []float64{
			float64(len(files)), float64(goroutines), float64(heap) / 1e6, float64(usage.Of(pid).Anonymous) / 1e6,
		})
	}
	return nil
}

// fewest is how often a program has to be looked at until it can be said whether it
// grows.
const fewest = 20

// judge says how everything has grown, and is an error if anything grows too much.
func (w *watch) judge(say func(string, ...any)) error {
	grows := false
	for i, p := range w.phones {
		for _, seen := range w.seen[i] {
			if len(seen) < fewest {
				continue
			}
			for k, kind := range kinds {
				values := make([]float64, len(seen))
				for j, v := range seen {
					values[j] = v[k]
				}
				usual, growth := trend(values)
				verdict := ""
				if growth > max(kind.slack, kind.share*usual) {
					verdict, grows = ": it grows", true
				}
				say("%s, %d times: %s usually %.1f, least %.1f, most %.1f, grown by %.1f%s",
					p.Name, len(values), kind.name, usual, slices.Min(values), slices.Max(values), growth, verdict)
			}
		}
	}
	if grows {
		return fmt.Errorf("soak: something grows from call to call")
	}
	return nil
}

// trend returns the median of a series and by how much it has grown after its first
// quarter, in which a program comes to its size: the median of the slopes between all
// pairs (Theil and Sen), which a few that stand out do not change.
func trend(values []float64) (usual, growth float64) {
	values = values[len(values)/4:]
	var slopes []float64
	for i := range values {
		for j := range i {
			slopes = append(slopes, (values[i]-values[j])/float64(i-j))
		}
	}
	return median(slices.Clone(values)), median(slopes) * float64(len(values)-1)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
