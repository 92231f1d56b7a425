package main

import (
	"strings"
	"testing"
	"time"

	"flexphone/internal/usage"
)

func TestRead(t *testing.T) {
	var said strings.Builder
	o, err := read([]string{"-n", "3", "-cases", "loss"}, &said)
	if err != nil || o.n != 3 || o.cases.MatchString("jitter 20 ms") {
		t.Errorf("read() = %+v, %v", o, err)
	}
	for _, args := range []string{"-n -1", "-talk 1s", "-talk 1m", "-weigh -1s", "-drift 0s", "-cases (", "more"} {
		if _, err := read(strings.Fields(args), &said); err == nil {
			t.Errorf("read takes %q", args)
		}
	}
}

// Ours stand beside what others did in the same run.
func TestReport(t *testing.T) {
	k := kind{codec: "PCMU", packet: 10 * time.Millisecond}
	r := &report{
		heard: []hearing{{maker: flexphone, kind: k, what: "loss 5 %", followed: 0.95, fixed: 0.9, begin: 50 * time.Millisecond, end: 60 * time.Millisecond}},
		late:  1, absent: []string{"another: why"},
	}
	// Of turns in which the machine was more or less busy, those of one are compared.
	for i, busy := range []float64{2, 1, 3} {
		for maker, t := range map[string]turn{flexphone: {processor: 1, pss: 2, rss: 3}, baresip: {processor: 2, pss: 1, rss: 2}} {
			t.processor *= busy
			t.parts[usage.GoHeap] = int64(i+1) * 1e6
			r.weigh(maker, "idle", t)
		}
	}
	for _, ms := range []time.Duration{30, 20, 25} {
		r.add(flexphone, k, []time.Duration{ms * time.Millisecond})
		r.add(baresip, k, []time.Duration{2 * ms * time.Millisecond, 2 * ms * time.Millisecond})
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"flexphone, PCMU 10 ms 3 25.0 30.0 ", "baresip, PCMU 10 ms 3 50.0 60.0 0.50",
		"flexphone, idle 3 2.00 3.00 2.0 2.0 3.0", "baresip, idle 3 4.00 6.00 1.0 1.0 2.0 0.50, 2.00, 1.50",
		"Go's heap other anonymous", "flexphone, idle 0.0 0.0 0.0 2.0 0.0",
		"loss 5 %, PCMU 10 ms, flexphone 0.950 0.900 50 60", "late: 1 times", "without SCHED_RR", "not measured: another: why",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
