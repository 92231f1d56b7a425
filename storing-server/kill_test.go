package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/testbed/natsnode"
)

// asServer makes the test binary be the command, as a process to be killed.
const asServer = "STORING_SERVER_TEST_ARGS"

func TestMain(m *testing.M) {
	natsnode.RunIfAsked()
	if args := os.Getenv(asServer); args != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(runIn(&edges{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: settable()}, strings.Split(args, "\n")))
	}
	os.Exit(m.Run())
}

// A process is the real command, in a process of its own.
type process struct {
	cmd    *exec.Cmd
	listen string
	http   string // URL
	dns    string
	sip    string
	log    sync.WaitGroup
}

// ports are those that ownAddress gave out.
var ports atomic.Uint32

// ownAddress returns an address that nobody else takes between two uses of it:
// its host is this process's own in the loopback network, its port is none that
// the kernel gives to whoever asks for any.
func ownAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 64|pid>>16&63, pid>>8&255, pid&255, 20000+ports.Add(1))
}

func startProcess(t *testing.T, dir, listen string, more ...string) *process {
	t.Helper()
	return startTelling(t, func(string) {}, dir, listen, more...)
}

// startTelling is startProcess that tells each message that is logged until the
// server is ready.
func startTelling(t *testing.T, tell func(message string), dir, listen string, more ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), asServer+"="+strings.Join(append([]string{"run", "--data", dir, "--listen", listen, "--log", "json"}, more...), "\n"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		var line struct{ Msg, Listen, HTTP, DNS, SIP string }
		_ = json.Unmarshal(lines.Bytes(), &line) // an error of the start is plain text
		tell(line.Msg)
		if line.Msg == "ready" {
			p.listen, p.http, p.dns, p.sip = line.Listen, line.HTTP, line.DNS, line.SIP
			break
		}
	}
	if p.listen == "" {
		_ = p.cmd.Wait()
		t.Fatalf("server did not get ready:\n%s", said.String())
	}
	p.log.Go(func() { _, _ = io.Copy(io.Discard, stderr) })
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.log.Wait()
	_ = p.cmd.Wait() // says that it was killed
}

// rounds is how often TestKill kills.
var rounds = flag.Int("rounds", 10, "how often TestKill kills the server")

// No acknowledged row is lost or turned older when the server is killed at any
// moment under load.
func TestKill(t *testing.T) {
	const phones = 8
	dir := t.TempDir()
	p := startProcess(t, dir, ownAddress())
	defer func() { p.kill() }()
	listen := p.listen

	var acknowledged [phones]atomic.Uint64
	var total atomic.Int64
	progress := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range phones {
		c, _ := newHastyPhone(t, t.TempDir(), listen, phoneMAC(byte(i+1)), 200*time.Millisecond)
		load.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				try, cancel := context.WithTimeout(ctx, 20*time.Second)
				receipt, err := c.Register(try, announcement(phoneMAC(byte(i+1)), n, netip.AddrFrom4([4]byte{10, byte(i), byte(n >> 8), byte(n)}).String()))
				cancel()
				if err != nil {
					continue // it may be written or not; nothing was promised
				}
				acknowledged[i].Store(receipt.Sequence)
				total.Add(1)
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for round := range *rounds {
		// Somewhere within the next few acknowledgements.
		for range 1 + rand.N(70) {
			select {
			case <-progress:
			case <-time.After(time.Minute):
				t.Fatal("no registration was acknowledged for a minute")
			}
		}
		p.kill()
		var least [phones]uint64
		for i := range least {
			least[i] = acknowledged[i].Load()
		}
		p = startProcess(t, dir, listen)
		rows, err := admin.NewClient(dir).List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		have := map[wire.MAC]admin.Row{}
		for _, r := range rows {
			have[r.MAC] = r
		}
		for i, want := range least {
			r, ok := have[wire.MAC(phoneMAC(byte(i+1)))]
			if want > 0 && (!ok || r.Sequence < want || r.Number == "" || r.State != wire.Online) {
				t.Errorf("round %d: row %d is %+v; acknowledged was sequence %d", round, i+1, r, want)
			}
		}
	}
	stop()
	load.Wait()
	t.Logf("%d registrations acknowledged over %d kills", total.Load(), *rounds)
}

// The operator's commands act on a running server and on its folder alike, and
// their errors say what to do.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	running := true
	defer func() {
		if running {
			p.kill()
		}
	}()
	for i := range 2 {
		c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(byte(i+1)))
		if _, err := c.Register(t.Context(), announcement(phoneMAC(byte(i+1)), 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{"running", "stopped"} {
		t.Run(state, func(t *testing.T) {
			if state == "stopped" {
				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				p.log.Wait()
				if err := p.cmd.Wait(); err != nil {
					t.Errorf("server ended with %v after SIGTERM; want exit 0", err)
				}
				running = false
			}
			for _, tt := range []struct {
				args   string
				code   int
				stdout string
				stderr string
			}{
				{"rows", 0, `{"mac":"02:00:5e:00:53:01","digits":"002200600335105","number":"101"`, ""},
				{"rows --json", 0, `{"mac":"02:00:5e:00:53:01","digits":"002200600335105","number":"101","state":"online"`, ""},
				{"number set 02:00:5e:00:53:02 101", 1, "", "02:00:5e:00:53:01 has it"},
				{"number set 02:00:5e:00:53:09 555", 1, "", "was never registered"},
				{"number set 02:00:5e:00:53:02 5", 2, "", "want 3 to 8 digits"},
				{"number set 02:00:5e:00:53 555", 2, "", "such as 02:00:5e:00:53:01"},
				{"number set 02:00:5e:00:53:02 555", 0, "", ""},
				{"rows", 0, `"number":"555"`, ""},
				{"number set 02:00:5e:00:53:02 102", 1, "", "the number rests"},
				{"number free 102", 0, "", ""},
				{"number set 02:00:5e:00:53:02 102", 0, "", ""},
				{"number free 555", 0, "", ""},
				{"forget 02:00:5e:00:53:09", 1, "", "was never registered"},
				{"frobnicate", 2, "", "frobnicate"},
				{"run --numbers 5-1", 2, "", "FIRST-LAST"},
				{"--help", 0, "Commands:", ""},
			} {
				var out, errs bytes.Buffer
				args := strings.Fields(tt.args)
				if args[0] != "frobnicate" && args[0] != "--help" {
					args = append(args, "--data", dir)
				}
				code := run(t.Context(), args, &out, &errs)
				if code != tt.code || !strings.Contains(out.String(), tt.stdout) || !strings.Contains(errs.String(), tt.stderr) {
					t.Errorf("%s: exit %d, output %q, errors %q; want %d, %q, %q", tt.args, code, out.String(), errs.String(), tt.code, tt.stdout, tt.stderr)
				}
			}
		})
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"forget", "02:00:5e:00:53:01", "--data", dir}, &out, &errs); code != 0 {
		t.Errorf("forget: exit %d, %s", code, errs.String())
	}
	if code := run(t.Context(), []string{"rows", "--data", t.TempDir()}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "--data") {
		t.Errorf("rows of an empty folder: exit %d, %s", code, errs.String())
	}
}

// A port that is taken is an error that says so, and leaves no half server.
func TestOccupiedPort(t *testing.T) {
	p := startProcess(t, t.TempDir(), "127.0.0.1:0")
	defer p.kill()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"run", "--data", t.TempDir(), "--listen", p.listen}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "address already in use") {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	if _, err := admin.NewClient(t.TempDir()).List(t.Context()); !errors.Is(err, admin.ErrNotRunning) {
		t.Errorf("List() = %v; want ErrNotRunning", err)
	}
}
