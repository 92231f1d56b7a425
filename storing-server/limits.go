package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/trust"
)

// LimitFlags say how much of this machine its clients may take.
type LimitFlags struct {
	Sessions   int      `help:"Sessions of phones at a time. A phone more is told to wait, or to try another server. By default what half of the memory holds." placeholder:"N"`
	Handshakes int      `help:"Handshakes that are not finished; the oldest gives way to a new one. By default what a 32nd of the memory holds." placeholder:"N"`
	Requests   float64  `help:"Requests that a session may make each second in the long run, four seconds' worth at once; ${default} by default." default:"50" placeholder:"N"`
	MostRows   int      `help:"Rows that there may be: then no phone enrols any more. By default what a quarter of the memory holds." placeholder:"N"`
	Enrolments float64  `help:"New phones that one network may enrol each hour, an hour's worth at once; 0: as many as it likes; ${default} by default." default:"1000" placeholder:"N"`
	Links      int      `help:"Relayed links between phones at a time, for those that cannot reach each other; 0: nothing is relayed; ${default} by default." default:"10000" placeholder:"N"`
	Exempt     []string `help:"Networks or addresses that no limit by source holds for, with commas between: a PBX, a proxy, a public resolver." placeholder:"NETWORK"`
}

// rowCost is a row's in memory, in bytes, with its number and its history.
const rowCost = 1 << 10

// limits returns what the flags say, on a machine with so many bytes of memory.
func (f LimitFlags) limits(memory uint64) (l exchange.Limits, err error) {
	l = exchange.LimitsFor(memory)
	for _, one := range []struct {
		flag string
		n    int
		to   *int
	}{{"--sessions", f.Sessions, &l.Sessions}, {"--handshakes", f.Handshakes, &l.Handshakes}, {"--most-rows", f.MostRows, new(int)}} {
		if one.n < 0 || one.n > 1e9 {
			return l, &usageError{fmt.Sprintf("%s=%d: want 1 to 1000000000", one.flag, one.n)}
		}
		if one.n > 0 {
			*one.to = one.n
		}
	}
	if !(f.Requests > 0 && f.Requests <= 1e6) {
		return l, &usageError{fmt.Sprintf("--requests=%v: want more than 0, and at most 1000000", f.Requests)}
	}
	l.Rate, l.Burst = f.Requests, max(1, 4*f.Requests)
	return l, nil
}

// links returns what the flags say of relayed links.
func (f LimitFlags) links() (l links.Limits, err error) {
	if f.Links < 0 || f.Links > 1e9 {
		return l, &usageError{fmt.Sprintf("--links=%d: want 0 to 1000000000", f.Links)}
	}
	l = links.DefaultLimits()
	l.All = f.Links
	return l, nil
}

// policy adds to p what the flags say.
func (f LimitFlags) policy(p *trust.Policy, memory uint64) (err error) {
	if p.Exempt, err = trust.ParseExempt(f.Exempt); err != nil {
		return &usageError{"--exempt: " + err.Error()}
	}
	if !(f.Enrolments >= 0 && f.Enrolments <= 1e9) {
		return &usageError{fmt.Sprintf("--enrolments=%v: want 0 to 1000000000", f.Enrolments)}
	}
	if f.Enrolments > 0 {
		here, err := trust.ParseExempt([]string{"127.0.0.0/8", "::1"}) // who is on this machine could do worse
		if err != nil {
			return err
		}
		p.Enrolments = trust.NewEnrolments(f.Enrolments, append(here, p.Exempt...))
	}
	p.MostRows = f.MostRows
	if p.MostRows == 0 {
		p.MostRows = int(min(memory/4/rowCost, math.MaxInt32))
	}
	return nil
}

// memory returns how many bytes of memory this process may use: of the
// machine's, of its control groups' limits, and of GOMEMLIMIT the least.
func memory() uint64 {
	least := uint64(1 << 30)
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) == nil {
		least = uint64(machine.Totalram) * uint64(machine.Unit)
	}
	if limit := debug.SetMemoryLimit(-1); limit > 0 {
		least = min(least, uint64(limit))
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return least
	}
	return min(least, groupLimit("/sys/fs/cgroup", string(own)))
}

// groupLimit returns the lowest limit of the control groups (version 2) that a
// process is in, as its /proc/PID/cgroup names them.
func groupLimit(root, own string) uint64 {
	least := uint64(math.MaxUint64)
	for line := range strings.Lines(own) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
			text, err := os.ReadFile(filepath.Join(root, path, "memory.max"))
			if n, bad := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil { // else "max"
				least = min(least, n)
			}
			if path == "/" {
				break
			}
		}
	}
	return least
}
