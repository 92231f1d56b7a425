package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"flexphone/storing-server/internal/bench"
)

// BenchCmd is `bench`.
type BenchCmd struct {
	Server string        `help:"Measure the server at this address instead of one that is started here." placeholder:"HOST:PORT"`
	Time   time.Duration `help:"How long each load lasts." default:"10s" placeholder:"DURATION"`
	Rows   string        `help:"How many rows there are when a row's cost is measured, with commas between; with --soak, one number." default:"10000,100000,1000000" placeholder:"N,..."`
	Phones int           `help:"Sessions that make the load: a server takes 50 requests a second of each." default:"5000" placeholder:"N"`
	Window int           `help:"Requests on their way at once." default:"2000" placeholder:"N"`
	Idle   int           `help:"Sessions that the cost of one is measured with." default:"5000" placeholder:"N"`
	Soak   time.Duration `help:"Soak the server for so long instead: many rows, some of which move all the time." placeholder:"DURATION"`
	Moving string        `help:"With --soak: how many of the rows move." default:"10%" placeholder:"PERCENT"`
	Dir    string        `help:"Folder for temporary data, on the disk to be measured." type:"path" placeholder:"DIR"`
	JSON   bool          `name:"json" help:"One JSON object instead of tables."`
	Args   []string      `arg:"" optional:"" help:"Further flags of 'run', after --, for servers that are started."`
}

// Run measures.
func (c *BenchCmd) Run(e *edges) error {
	rows, err := c.rows()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.Dir, "storing-server-bench-")
	if err != nil {
		return fmt.Errorf("make folder for the bench: %w", err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	o := bench.Options{
		Command: func(args ...string) *exec.Cmd { return exec.Command(self, args...) },
		Server:  c.Server, Args: c.Args, Dir: dir, Time: c.Time, Rows: rows,
		Phones: c.Phones, Window: c.Window, Idle: c.Idle,
		Say: func(format string, args ...any) { fmt.Fprintf(e.stderr, "bench: "+format+"\n", args...) },
	}
	if e.command != nil {
		o.Command = e.command
	}
	if c.Soak > 0 {
		return c.soak(e.ctx, e, o)
	}
	r, err := bench.Run(e.ctx, o)
	if c.JSON {
		return errors.Join(err, printJSON(e, r))
	}
	return errors.Join(err, r.Print(e.stdout))
}

func (c *BenchCmd) soak(ctx context.Context, e *edges, o bench.Options) error {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(c.Moving, "%"), 64)
	if err != nil || percent <= 0 || percent > 100 {
		return &usageError{fmt.Sprintf("--moving=%s: want more than 0%% and at most 100%%", c.Moving)}
	}
	if len(o.Rows) != 1 {
		return &usageError{"--soak: want --rows with one number"}
	}
	r, err := bench.RunSoak(ctx, o, c.Soak, int(float64(o.Rows[0])*percent/100))
	if c.JSON {
		err = errors.Join(err, printJSON(e, r))
	} else {
		err = errors.Join(err, r.Print(e.stdout))
	}
	if err != nil {
		return err // what was not reached is not judged
	}
	return r.Err()
}

func printJSON(e *edges, v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// rows reads --rows.
func (c *BenchCmd) rows() ([]int, error) {
	if c.Time <= 0 || c.Phones < 2 || c.Window < 1 || c.Idle < 0 {
		return nil, &usageError{"--time, --phones, --window: want more"}
	}
	if c.Dir != "" {
		if info, err := os.Stat(c.Dir); err != nil || !info.IsDir() {
			return nil, &usageError{fmt.Sprintf("--dir=%s: no such folder", filepath.Clean(c.Dir))}
		}
	}
	var out []int
	for _, f := range strings.Split(c.Rows, ",") {
		if f == "" {
			continue
		}
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 50_000_000 {
			return nil, &usageError{fmt.Sprintf("--rows=%s: want numbers from 1 to 50000000", c.Rows)}
		}
		out = append(out, n)
	}
	return out, nil
}
