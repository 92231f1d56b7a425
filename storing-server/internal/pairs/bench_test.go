package pairs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

// served is of the environment: this process is the relay, and gives out so many passes.
const served = "PAIRS_SERVED"

func TestMain(m *testing.M) {
	if os.Getenv(served) == "" {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
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

// BenchmarkRelay says how much of a processor a call takes for a minute: 50 packets a
// second each way of the size of one of Opus. The relay is a process of its own.
func BenchmarkRelay(b *testing.B) {
	for _, calls := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("calls=%d", calls), func(b *testing.B) { relayed(b, calls, 10*time.Second) })
	}
}

func relayed(b *testing.B, calls int, each time.Duration) {
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", served, calls))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var port uint16
	if _, err := fmt.Fscan(out, &port); err != nil {
		b.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	var ends []*net.UDPConn
	for range calls {
		var text string
		if _, err := fmt.Fscan(out, &text); err != nil {
			b.Fatal(err)
		}
		p, ok := pass.Parse(text)
		if !ok {
			b.Fatalf("%q is no pass", text)
		}
		for side := range 2 {
			ends = append(ends, enter(b, p, pass.Side(side), to))
		}
	}
	defer func() {
		for _, c := range ends {
			c.Close()
		}
	}()
	var came atomic.Int64
	var all sync.WaitGroup
	for _, c := range ends {
		all.Go(func() {
			b := make([]byte, 2048)
			for {
				if _, err := c.Read(b); errors.Is(err, net.ErrClosed) {
					return
				} else if err == nil {
					came.Add(1)
				}
			}
		})
	}
	sent, packet := int64(0), append([]byte{0x80}, make([]byte, 107)...)
	idle := processor(b, cmd.Process.Pid) // of its start
	tick := time.NewTicker(20 * time.Millisecond / time.Duration(len(ends)))
	begin := time.Now()
	for b.Loop() {
		for ; time.Since(begin) < each; <-tick.C {
			for due := int64(time.Since(begin).Seconds() * 50 * float64(len(ends))); sent < due; sent++ {
				if _, err := ends[sent%int64(len(ends))].Write(packet); err != nil {
					b.Fatal(err)
				}
			}
		}
		begin = time.Now().Add(-each)
	}
	time.Sleep(50 * time.Millisecond)
	in.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	for _, c := range ends {
		c.Close()
	}
	all.Wait()
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() - idle
	b.ReportMetric(used.Seconds()/(float64(sent)/6000), "cpu-s/call-min")
	b.ReportMetric(100*float64(sent-came.Load())/float64(sent), "lost-%")
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

// processor returns how much of a processor a process has taken, in ticks of 10 ms
// (proc_pid_stat(5), utime and stime).
func processor(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}
