package pairs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

// served is of the environment: this process is the relay, and gives out so many passes, or
// it is the plain loop.
const (
	served    = "PAIRS_SERVED"
	plainLoop = "loop"
	loopInC   = "loop in C" // a program of its own
)

func TestMain(m *testing.M) {
	if os.Getenv(served) == "" {
		os.Exit(m.Run())
	}
	serving := serve
	if os.Getenv(served) == plainLoop {
		serving = loop
	}
	if err := serving(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is a relay on its own, until its input ends.
func serve() error {
	l := DefaultLimits()
	relay := New(l)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := Listen(ctx, relay, Options{Listen: "127.0.0.1:0", Count: func(Verdict, int) {}})
	if err != nil {
		return err
	}
	var calls int
	if _, err := fmt.Sscan(os.Getenv(served), &calls); err != nil {
		return err
	}
	fmt.Println(s.Port())
	for i := range calls {
		p, err := relay.Issue(wire.Fingerprint{byte(i), byte(i >> 8)}, time.Now())
		if err != nil {
			return err
		}
		fmt.Println(p.Text())
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return s.Serve(ctx)
}

// loop is the peer that the relay is measured beside: it forwards between two sockets that
// have said which pair they are of, and does nothing else. It has no passes, no quotas and
// no counters.
func loop() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	fmt.Println(c.LocalAddr().(*net.UDPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		c.Close()
	}()
	first, to := map[string]netip.AddrPort{}, map[netip.AddrPort]netip.AddrPort{}
	b := make([]byte, longest)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if other, ok := to[from]; ok {
			if _, err := c.WriteToUDPAddrPort(b[:n], other); err != nil {
				return err
			}
			continue
		}
		if other, ok := first[string(b[:n])]; ok {
			to[from], to[other] = other, from
		}
		first[string(b[:n])] = from
		if _, err := c.WriteToUDPAddrPort(b[:n], from); err != nil { // it is known now
			return err
		}
	}
}

// BenchmarkRelay says how much of a processor a call takes for a minute: 50 packets a
// second each way of the size of one of Opus. The relay is a process of its own, and so are
// the peers beside it, which have as many calls at the same time: the plain loop, and the same
// in C, which is what the kernel takes for waking a thread and for two calls.
func BenchmarkRelay(b *testing.B) {
	for _, calls := range []int{1, 4, 20, 100} {
		b.Run(fmt.Sprintf("calls=%d", calls), func(b *testing.B) { relayed(b, calls, 10*time.Second) })
	}
}

// A relaying is a process that relays calls.
type relaying struct {
	cmd  *exec.Cmd
	in   io.Closer
	ends []*net.UDPConn
	came atomic.Int64
}

// startRelay starts a relay, or the plain loop, and enters both ends of each call.
func startRelay(b *testing.B, what string, calls int) *relaying {
	r := &relaying{cmd: exec.CommandContext(b.Context(), os.Args[0])}
	if what == loopInC {
		r.cmd = exec.CommandContext(b.Context(), compiled(b))
	}
	r.cmd.Env = append(os.Environ(), served+"="+what)
	in, err := r.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	r.in = in
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var port uint16
	if _, err := fmt.Fscan(out, &port); err != nil {
		b.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	for i := range calls {
		if what == plainLoop || what == loopInC {
			for range 2 {
				r.ends = append(r.ends, introduce(b, i, to))
			}
			continue
		}
		var text string
		if _, err := fmt.Fscan(out, &text); err != nil {
			b.Fatal(err)
		}
		p, ok := pass.Parse(text)
		if !ok {
			b.Fatalf("%q is no pass", text)
		}
		for side := range 2 {
			r.ends = append(r.ends, enter(b, p, pass.Side(side), to))
		}
	}
	return r
}

// compiled makes the program of the loop in C.
func compiled(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "loop")
	if out, err := exec.CommandContext(b.Context(), "cc", "-O2", "-o", path, "testdata/loop.c").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return path
}

// introduce says to the plain loop of which call a socket is.
func introduce(b *testing.B, call int, to netip.AddrPort) *net.UDPConn {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "call %d", call); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		b.Fatal(err)
	}
	return c
}

func relayed(b *testing.B, calls int, each time.Duration) {
	both := []*relaying{startRelay(b, strconv.Itoa(calls), calls), startRelay(b, plainLoop, calls), startRelay(b, loopInC, calls)}
	var all sync.WaitGroup
	for _, r := range both {
		for _, c := range r.ends {
			all.Go(func() {
				b := make([]byte, 2048)
				for {
					if _, err := c.Read(b); errors.Is(err, net.ErrClosed) {
						return
					} else if err == nil {
						r.came.Add(1)
					}
				}
			})
		}
	}
	n := int64(2 * calls)
	sent, packet := int64(0), append([]byte{0x80}, make([]byte, 107)...)
	var before, used [3]time.Duration
	for i, r := range both {
		before[i] = processor(b, r.cmd.Process.Pid) // of its start
	}
	tick := time.NewTicker(20 * time.Millisecond / time.Duration(n))
	begin := time.Now()
	for b.Loop() {
		for ; time.Since(begin) < each; <-tick.C {
			for due := int64(time.Since(begin).Seconds() * 50 * float64(n)); sent < due; sent++ {
				for _, r := range both {
					if _, err := r.ends[sent%n].Write(packet); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		begin = time.Now().Add(-each)
	}
	time.Sleep(50 * time.Millisecond)
	for i, r := range both {
		used[i] = processor(b, r.cmd.Process.Pid) - before[i]
		r.in.Close()
		if i == 2 { // which knows no end
			if err := r.cmd.Process.Kill(); err != nil {
				b.Fatal(err)
			}
		}
		if err := r.cmd.Wait(); err != nil && i != 2 {
			b.Fatal(err)
		}
		for _, c := range r.ends {
			c.Close()
		}
	}
	all.Wait()
	minutes := float64(sent) / 6000
	b.ReportMetric(used[0].Seconds()/minutes, "cpu-s/call-min")
	b.ReportMetric(used[1].Seconds()/minutes, "loop-cpu-s/call-min")
	b.ReportMetric(used[2].Seconds()/minutes, "c-cpu-s/call-min")
	b.ReportMetric(used[0].Seconds()/used[1].Seconds(), "ratio")
	b.ReportMetric(used[0].Seconds()/used[2].Seconds(), "c-ratio")
	b.ReportMetric(100*float64(sent-both[0].came.Load())/float64(sent), "lost-%")
	b.ReportMetric(0, "ns/op")
}

// enter shows a pass by a socket of its own.
func enter(b *testing.B, p pass.Pass, s pass.Side, to netip.AddrPort) *net.UDPConn {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		b.Fatal(err)
	}
	var m stun.Message
	var nonce []byte
	buffer := make([]byte, 2048)
	for range 2 {
		if err := p.Show(&m, [12]byte{}, s, nonce); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write(m.Raw); err != nil {
			b.Fatal(err)
		}
		n, err := c.Read(buffer)
		if err != nil {
			b.Fatal(err)
		}
		var mapped netip.AddrPort
		if nonce, mapped, err = p.Answer(&m, buffer[:n], [12]byte{}); err != nil {
			b.Fatal(err)
		}
		if mapped.IsValid() {
			return c
		}
	}
	b.Fatal("the pass is not taken")
	return nil
}

// processor returns how much of a processor a process has taken, all its threads together
// (the kernel's documentation, scheduler/sched-stats, /proc/PID/schedstat).
func processor(b *testing.B, pid int) time.Duration {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		b.Fatal("no threads", err)
	}
	var sum time.Duration
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ran)
	}
	return sum
}
