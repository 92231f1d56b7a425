package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flexphone/storing-server/internal/bench"
)

// selfCommand runs this test binary as the command.
func selfCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"="+strings.Join(args, "\n"))
	return cmd
}

// The bench measures everything that it says it does, on a small scale. How
// much it measures says nothing here: the machine has other work.
func TestBench(t *testing.T) {
	var out, said bytes.Buffer
	c := BenchCmd{
		Time: 500_000_000, Rows: "2000", Phones: 800, Window: 64, Idle: 800, Dir: t.TempDir(), JSON: true,
	}
	if err := c.Run(&edges{ctx: t.Context(), stdout: &out, stderr: &said, command: selfCommand}); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	var r bench.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	var kinds []string
	for _, l := range r.Loads {
		kinds = append(kinds, l.Request)
		if l.Answers == 0 || l.Refused > 0 || l.Seconds <= 0 ||
			l.Rate < 0.99*float64(l.Answers)/l.Seconds || l.Rate > 1.01*float64(l.Answers)/l.Seconds ||
			l.P50 <= 0 || l.P99 < l.P50 || l.P999 < l.P99 || l.ServerMicros <= 0 || l.ClientMicros <= 0 {
			t.Errorf("load %+v; want answers, no refusals, and figures that agree", l)
		}
	}
	if want := []string{"register", "lookup", "keep-alive", "change notice"}; !slices.Equal(kinds, want) {
		t.Errorf("loads %q; want %q", kinds, want)
	}
	if len(r.Rows) != 1 || r.Rows[0].Rows != 2000 || r.Rows[0].DiskEach <= 50 || r.Rows[0].Memory <= 0 || r.Rows[0].LookupsPerSec <= 0 {
		t.Errorf("cost of rows %+v; want that of 2000", r.Rows)
	}
	if r.Session == nil || r.Session.Sessions != 800 || r.Session.PerSecond <= 0 || r.Session.ServerEach <= 0 {
		t.Errorf("cost of sessions %+v; want that of 800", r.Session)
	}
	var table bytes.Buffer
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "change notice") {
		t.Errorf("Print() = %v, %q", err, table.String())
	}
}

// A soaked server has every row right in the end.
func TestSoak(t *testing.T) {
	var out, said bytes.Buffer
	c := BenchCmd{
		Time: 1, Rows: "5000", Phones: 2, Window: 1, Dir: t.TempDir(), JSON: true,
		Soak: 10_000_000_000, Moving: "2%",
	}
	if testing.Short() {
		c.Soak /= 10
	}
	if err := c.Run(&edges{ctx: t.Context(), stdout: &out, stderr: &said, command: selfCommand}); err != nil {
		t.Fatalf("%v\n%s\n%s", err, said.String(), out.String())
	}
	var r bench.SoakReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Rows != 5000 || r.Checked != 5000 || r.Wrong != 0 || r.Moved != 100 || r.Moves < 2*r.Moved || r.Late == 0 {
		t.Errorf("soak %+v; want 5000 rows right, and 100 that moved more than once", r)
	}
}

// What cannot be measured is said before anything is started.
func TestBenchUsage(t *testing.T) {
	for _, args := range []string{"bench --rows 0", "bench --rows x", "bench --time 0s", "bench --soak 1s", "bench --soak 1s --rows 10 --moving 0%", "bench --dir /nonexistent"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 2 {
			t.Errorf("%s: exit %d, %s; want 2", args, code, errs.String())
		}
	}
}
