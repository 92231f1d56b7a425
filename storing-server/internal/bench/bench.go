// Package bench measures a storing server over the wire: durable
// registrations, lookups, change notices, and what a row and a session cost. It
// also soaks one.
//
// It knows how to make load cheaply: its phones shake hands by pion/dtls, and
// from then on one goroutine for each socket speaks the records of thousands of
// sessions itself (RFC 6347, RFC 9146). It refuses to know how the server works
// inside: that is another process, which it starts, watches through /proc, and
// speaks to as phones do.
//
// # Why
//
// Load and server share the machine's cores, so each figure stands with the
// processor time that both took. All loads are closed loops: a phone asks again
// when it was answered, so the server sets the pace, and times of answers are
// those under full load. Phones of one socket send in trains, which the kernel
// takes apart (UDP_SEGMENT): what the load saves, the server has.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Options say what is measured.
type Options struct {
	// Command returns the storing server with these arguments, not started.
	Command func(args ...string) *exec.Cmd
	// Server is a running one's host:port; empty: one is started.
	Server string
	// Args are added to the command line of a server that is started.
	Args []string
	Dir  string        // for data of servers that are started; must exist
	Time time.Duration // of each load
	Rows []int         // how many there are when a row's cost is measured
	// Phones is how many sessions make the load, Window how many requests are
	// on their way at once, Idle how many sessions their cost is measured with.
	Phones, Window, Idle int
	// Say is told what is being done, a line at a time.
	Say func(format string, args ...any)
}

// A Report is what was measured.
type Report struct {
	Time    time.Time `json:"time"`
	Machine Machine   `json:"machine"`
	Loads   []Load    `json:"loads"`
	Rows    []RowCost `json:"rows,omitempty"`
	Session *Session  `json:"session,omitempty"`
	Absent  []string  `json:"absent,omitempty"` // what was not measured, and why
}

// A Machine is what the figures are true for.
type Machine struct {
	Cores int    `json:"cores"`
	CPU   string `json:"cpu"`
	Go    string `json:"go"`
	Disk  string `json:"disk"` // file system of the data
	// SyncMicros is how long one fsync of 4 KiB took, the median.
	SyncMicros float64 `json:"sync_us"`
}

// A Load is one server under one kind of request.
type Load struct {
	Server   string  `json:"server"`
	Request  string  `json:"request"`
	Durable  bool    `json:"durable"` // an answer means that it is on the disk
	Answers  int     `json:"answers"`
	Refused  int     `json:"refused,omitempty"`
	Repeated int     `json:"repeated,omitempty"` // requests sent again
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"per_second"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	// ServerMicros and ClientMicros are processor time for each answer.
	ServerMicros float64 `json:"server_us,omitempty"`
	ClientMicros float64 `json:"client_us,omitempty"`
}

// A RowCost is what rows take of a server that was just started.
type RowCost struct {
	Rows          int     `json:"rows"`
	Load          float64 `json:"preload_seconds"` // through the bulk path
	Start         float64 `json:"start_seconds"`   // process to readiness
	Memory        int64   `json:"resident_bytes"`
	MemoryEach    float64 `json:"memory_bytes_per_row"`
	Disk          int64   `json:"disk_bytes"`
	DiskEach      float64 `json:"disk_bytes_per_row"`
	LookupsPerSec float64 `json:"lookups_per_second"`
}

// A Session is what idle sessions take.
type Session struct {
	Sessions   int     `json:"sessions"`
	BytesEach  float64 `json:"memory_bytes_per_session"`
	PerSecond  float64 `json:"handshakes_per_second"`
	ServerEach float64 `json:"server_us_per_handshake"`
}

// names of loads.
const (
	self      = "storing-server"
	register  = "register"
	lookup    = "lookup"
	notice    = "change notice"
	keepAlive = "keep-alive"
	sharedKib = 1 << 10
)

// Run measures all that o asks for. With an error it returns what was measured
// before.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Time: time.Now().UTC(), Machine: machine(o.Dir)}
	err := measure(ctx, o, &r)
	return r, err
}

func measure(ctx context.Context, o Options, r *Report) error {
	if err := ours(ctx, o, r); err != nil {
		return err
	}
	if o.Server == "" {
		for _, n := range o.Rows {
			cost, err := rowCost(ctx, o, n)
			if err != nil {
				return err
			}
			o.Say("  preloaded in %.1f s, read in %.1f s, %.0f bytes of memory and %.0f of disk a row, %.0f lookups a second", cost.Load, cost.Start, cost.MemoryEach, cost.DiskEach, cost.LookupsPerSec)
			r.Rows = append(r.Rows, cost)
		}
	} else if len(o.Rows) > 0 {
		r.Absent = append(r.Absent, "cost of rows: the server was not started here")
	}
	return nil
}

// ours measures the storing server's loads and sessions.
func ours(ctx context.Context, o Options, r *Report) error {
	addr := o.Server
	var p *process
	if addr == "" {
		dir := filepath.Join(o.Dir, "server")
		var err error
		if p, err = startServer(ctx, o, dir); err != nil {
			return err
		}
		defer p.stop()
		addr = p.listen
	}
	f, err := newFleet(ctx, addr, max(1, runtime.NumCPU()/2))
	if err != nil {
		return err
	}
	defer f.close()

	o.Say("%d sessions", max(o.Idle, o.Phones))
	before := p.usage()
	start := time.Now()
	if err := f.handshakes(ctx, 0, max(o.Idle, o.Phones)); err != nil {
		return err
	}
	took := time.Since(start)
	after := p.usage()
	if p != nil {
		n := float64(len(f.phones))
		r.Session = &Session{
			Sessions: len(f.phones), PerSecond: n / took.Seconds(),
			BytesEach:  float64(after.Anonymous-before.Anonymous) / n,
			ServerEach: micros(after.CPU-before.CPU) / n,
		}
	}
	if err := f.announceAll(ctx, f.phones); err != nil {
		return err
	}
	f.targets = len(f.phones)
	phones := f.phones[:o.Phones]
	for _, kind := range []string{register, lookup, keepAlive, notice} {
		o.Say("%s: %d phones, %d at once, %v", kind, len(phones), o.Window, o.Time)
		l, err := f.load(ctx, kind, phones, o.Window, o.Time, p)
		if err != nil {
			return fmt.Errorf("bench: load of kind %s: %w", kind, err)
		}
		o.Say("  %d answers, %.0f a second, p50 %.2f ms, p99 %.2f ms", l.Answers, l.Rate, l.P50, l.P99)
		r.Loads = append(r.Loads, l)
	}
	return nil
}

// rowCost preloads n rows, starts a server with them, and weighs it.
func rowCost(ctx context.Context, o Options, n int) (RowCost, error) {
	dir := filepath.Join(o.Dir, fmt.Sprintf("rows-%d", n))
	defer os.RemoveAll(dir)
	o.Say("%d rows, preloaded", n)
	cost := RowCost{Rows: n}
	empty, err := startServer(ctx, o, dir)
	if err != nil {
		return cost, err
	}
	nothing := empty.settled(ctx)
	empty.stop()
	start := time.Now()
	if err := preload(ctx, dir, n, min(n, o.Phones)); err != nil {
		return cost, err
	}
	cost.Load = time.Since(start).Seconds()
	start = time.Now()
	p, err := startServer(ctx, o, dir)
	if err != nil {
		return cost, err
	}
	defer p.stop()
	cost.Start = time.Since(start).Seconds()
	cost.Memory = p.settled(ctx)
	cost.MemoryEach = float64(cost.Memory-nothing) / float64(n)
	if cost.Disk, err = diskUsage(filepath.Join(dir, "journal")); err != nil {
		return cost, err
	}
	cost.DiskEach = float64(cost.Disk) / float64(n)
	f, err := newFleet(ctx, p.listen, max(1, runtime.NumCPU()/2))
	if err != nil {
		return cost, err
	}
	defer f.close()
	if err := f.enrol(ctx, 0, o.Phones); err != nil {
		return cost, err
	}
	f.targets = n
	l, err := f.load(ctx, lookup, f.phones, o.Window, o.Time, p)
	if err != nil {
		return cost, fmt.Errorf("bench: lookups among %d rows: %w", n, err)
	}
	if l.Refused > 0 {
		return cost, fmt.Errorf("bench: lookups among %d rows: %d were refused", n, l.Refused)
	}
	cost.LookupsPerSec = l.Rate
	return cost, nil
}

var errRefused = errors.New("the server refused it")

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
