package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"flexphone/internal/usage"
)

// A cost is what one telephone takes, in each turn.
type cost struct {
	maker, what string
	turns       []turn
}

// A turn is one call that was weighed, or as long a time without one: the mean of both
// ends.
type turn struct {
	processor float64            // seconds a minute
	pss, rss  float64            // MB
	parts     [usage.Parts]int64 // bytes of pss
}

// used is the processor time of both ends.
func used(p pair) (sum time.Duration) {
	for _, pid := range p.pids() {
		sum += usage.Of(pid).CPU
	}
	return sum
}

// weighed is what one of two ends takes, which have used so much together since begun.
func weighed(p pair, used time.Duration, begun time.Time) turn {
	t := turn{processor: used.Seconds() / 2 * float64(time.Minute) / float64(time.Since(begun))}
	for _, pid := range p.pids() {
		for part, bytes := range usage.PartsOf(pid) {
			t.parts[part] += bytes / 2
		}
		t.rss += float64(usage.Resident(pid)) / 2e6
	}
	for _, bytes := range t.parts {
		t.pss += float64(bytes) / 1e6
	}
	return t
}

// costs weighs all telephones in turns, idle and in calls with packets of the usual
// duration.
func (b *bench) costs(ctx context.Context) error {
	if b.weigh == 0 {
		return nil
	}
	for i := range b.n {
		b.say("processor and memory, %d. calls of %d", i+1, b.n)
		if err := b.idle(ctx); err != nil {
			return err
		}
		for _, k := range kinds {
			for _, m := range b.makers {
				if (k.directly || k.packet == 20*time.Millisecond) && b.wants(m, k) {
					if err := b.again(func() error { return b.inCall(ctx, m, k) }); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// idle weighs all telephones while nobody talks.
func (b *bench) idle(ctx context.Context) error {
	before := make([]time.Duration, len(b.makers))
	for i, m := range b.makers {
		before[i] = used(m)
	}
	begun := time.Now()
	if err := pause(ctx, b.weigh); err != nil {
		return err
	}
	for i, m := range b.makers {
		b.report.weigh(m.name, "idle", weighed(m, used(m)-before[i], begun))
	}
	return nil
}

// inCall weighs a call in which each end is spoken to for half of the time.
func (b *bench) inCall(ctx context.Context, m maker, k kind) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stuck+2*b.weigh)
	defer cancel()
	ends, err := b.call(ctx, m, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.hangUp(ctx, m, ends)) }()
	if err := b.studio.listen(ends); err != nil {
		return err
	}
	before, begun := used(m), time.Now()
	for _, in := range ends.in {
		if err := b.tell(ctx, in, b.weigh/time.Duration(len(ends.in))); err != nil {
			return err
		}
	}
	b.report.weigh(m.name, k.String(), weighed(m, used(m)-before, begun))
	return nil
}

// tell speaks to one end for so long.
func (b *bench) tell(ctx context.Context, in string, long time.Duration) (err error) {
	if err := b.studio.join("jack_connect", b.studio.mouth(), in); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.studio.join("jack_disconnect", b.studio.mouth(), in)) }()
	for begun := time.Now(); time.Since(begun) < long; {
		left := min(len(b.speech), int((long-time.Since(begun))*cardRate/time.Second))
		if left <= 0 {
			break
		}
		if _, err := b.studio.perform(ctx, b.speech[:left]); err != nil && !errors.Is(err, errLate) {
			return err
		}
	}
	return nil
}

// weigh enters a turn.
func (r *report) weigh(maker, what string, t turn) {
	c := r.cost(maker, what)
	if c == nil {
		c = &cost{maker: maker, what: what}
		r.costs = append(r.costs, c)
	}
	c.turns = append(c.turns, t)
}

// cost returns what was weighed of a kind; nil: nothing.
func (r *report) cost(maker, what string) *cost {
	i := slices.IndexFunc(r.costs, func(c *cost) bool { return c.maker == maker && c.what == what })
	if i < 0 {
		return nil
	}
	return r.costs[i]
}

func processor(t turn) float64 { return t.processor }
func pss(t turn) float64       { return t.pss }
func rss(t turn) float64       { return t.rss }

// quantile returns the least figure of the turns that q of all do not exceed.
func (c *cost) quantile(q float64, of func(turn) float64) float64 {
	var all []float64
	for _, t := range c.turns {
		all = append(all, of(t))
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

// beside returns the median of our figure by theirs, each of one turn; 0: there is none.
func (c *cost) beside(ours *cost, of func(turn) float64) float64 {
	var all []float64
	for i := range min(len(c.turns), len(ours.turns)) {
		if theirs := of(c.turns[i]); theirs > 0 {
			all = append(all, of(ours.turns[i])/theirs)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// printCosts writes what everything takes, and where the memory is.
func (r *report) printCosts(w io.Writer) {
	if len(r.costs) == 0 {
		return
	}
	fmt.Fprintf(w, "\neach telephone\tcalls\tprocessor s a minute, p50\tp95\tmemory MB (PSS), p50\tp95\t(RSS)\tflexphone / this: processor, PSS, RSS\n")
	for _, c := range r.costs {
		var beside []string
		if ours := r.cost(flexphone, c.what); ours != nil && c.maker != flexphone {
			for _, of := range []func(turn) float64{processor, pss, rss} {
				if v := c.beside(ours, of); v > 0 {
					beside = append(beside, fmt.Sprintf("%.2f", v))
				} else {
					beside = append(beside, "-")
				}
			}
		}
		fmt.Fprintf(w, "%s, %s\t%d\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%s\n", c.maker, c.what, len(c.turns), c.quantile(0.5, processor), c.quantile(0.95, processor),
			c.quantile(0.5, pss), c.quantile(0.95, pss), c.quantile(0.5, rss), strings.Join(beside, ", "))
	}
	fmt.Fprint(w, "\nwhere these MB are (PSS, p50)")
	for p := range usage.Parts {
		fmt.Fprintf(w, "\t%v", usage.Part(p))
	}
	fmt.Fprintln(w)
	for _, c := range r.costs {
		fmt.Fprintf(w, "%s, %s", c.maker, c.what)
		for p := range usage.Parts {
			fmt.Fprintf(w, "\t%.1f", c.quantile(0.5, func(t turn) float64 { return float64(t.parts[p]) / 1e6 }))
		}
		fmt.Fprintln(w)
	}
}
