package netlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const testMAC = "02:00:5e:00:53:01"

// patience is how long a test waits for what should come, at once or when a client
// asks again on a busy machine; it is no measure of anything.
const patience = 30 * time.Second

// inNamespace runs the calling test again in a user and network namespace of
// its own, so that it needs no root and leaves nothing behind, and beside other
// such tests. It reports whether the caller is the copy inside.
func inNamespace(t testing.TB) bool {
	t.Helper()
	if os.Getenv("FLEXPHONE_TEST_NAMESPACE") != "" {
		return true
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	switch t := t.(type) {
	case *testing.T:
		t.Parallel()
	case *testing.B:
		args = []string{"-test.run=^$", "-test.bench=^" + t.Name() + "$", "-test.benchtime=50x"}
	}
	cmd := exec.Command("/proc/self/exe", args...)
	// The race detector waits a second before it lets a process end.
	cmd.Env = append(os.Environ(), "FLEXPHONE_TEST_NAMESPACE=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this kernel forbids user namespaces")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// run runs a command in this namespace and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// feed runs a command with this on its standard input.
func feed(t testing.TB, in, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "ip", args...)
}

// An isp is the other end of the phone's cable: a network namespace with a
// real dnsmasq in it.
type isp struct {
	t      testing.TB
	holder *exec.Cmd // keeps the namespace
	dns    *exec.Cmd
	dnsIn  string
	mu     sync.Mutex
	log    []string
	news   chan struct{}
}

// newISP makes the cable: eth0 here, isp0 there, the latter with addr.
func newISP(t testing.TB, addr string) *isp {
	t.Helper()
	return newISPOn(t, "eth0", testMAC, addr)
}

// newISPOn is newISP with another interface at this end.
func newISPOn(t testing.TB, name, mac, addr string) *isp {
	t.Helper()
	i := &isp{t: t, dnsIn: t.TempDir(), news: make(chan struct{}, 1)}
	i.holder = exec.Command("cat")
	i.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := i.holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := i.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		i.stopDNS()
		in.Close()
		i.holder.Wait()
	})
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", name, "address", mac, "type", "veth", "peer", "name", "isp0")
	ip(t, "link", "set", "isp0", "netns", strconv.Itoa(i.holder.Process.Pid))
	i.inside("ip", "link", "set", "lo", "up")
	i.inside("ip", "address", "add", addr, "dev", "isp0")
	i.inside("ip", "link", "set", "isp0", "up")
	return i
}

// inside runs a command in the namespace of the ISP.
func (i *isp) inside(args ...string) string {
	i.t.Helper()
	return run(i.t, "nsenter", append([]string{"-t", strconv.Itoa(i.holder.Process.Pid), "-n"}, args...)...)
}

// command prepares a command in the namespace of the ISP.
func (i *isp) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(i.holder.Process.Pid), "-n"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// startDNS starts dnsmasq with a pool such as "10.77.0.50,10.77.0.60,2m".
func (i *isp) startDNS(pool string, more ...string) {
	i.t.Helper()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		i.t.Skip("needs dnsmasq (Debian: dnsmasq-base)")
	}
	leases := filepath.Join(i.dnsIn, "leases")
	i.dns = i.command(append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null",
		"--log-facility=-", "--log-dhcp", "--port=0", "--no-ping", "--dhcp-authoritative", "--no-resolv",
		"--interface=isp0", "--pid-file=", "--dhcp-leasefile=" + leases, "--dhcp-range=" + pool,
		"--dhcp-option=66,storing.example:5684"}, more...)...)
	pipe, err := i.dns.StderrPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := i.dns.Start(); err != nil {
		i.t.Fatal(err)
	}
	go i.read(pipe) // ends with dnsmasq
	i.waitLog("IP range")
}

func (i *isp) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		i.mu.Lock()
		i.log = append(i.log, s.Text())
		i.mu.Unlock()
		select {
		case i.news <- struct{}{}:
		default:
		}
	}
}

// stopDNS stops dnsmasq and forgets its leases and its log.
func (i *isp) stopDNS() {
	if i.dns == nil {
		return
	}
	i.dns.Process.Kill()
	i.dns.Wait()
	i.dns = nil
	os.Remove(filepath.Join(i.dnsIn, "leases"))
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.t.Failed() {
		i.t.Log(strings.Join(i.log, "\n"))
	}
	i.log = nil
}

// waitLog waits until dnsmasq logs a line with these words.
func (i *isp) waitLog(words ...string) string {
	i.t.Helper()
	timeout := time.After(patience)
	for {
		i.mu.Lock()
		for _, l := range i.log {
			found := true
			for _, w := range words {
				found = found && strings.Contains(l, w)
			}
			if found {
				i.mu.Unlock()
				return l
			}
		}
		i.mu.Unlock()
		select {
		case <-i.news:
		case <-timeout:
			i.t.Fatalf("dnsmasq never logged %q:\n%s", words, strings.Join(i.log, "\n"))
		}
	}
}

// A runningSource is a Source under test.
type runningSource struct {
	Source
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
}

// start runs s until the test ends or stop is called.
func start(t testing.TB, s Source) *runningSource {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningSource{Source: s, t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

func (r *runningSource) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		r.t.Error("Run does not end")
	}
}

// any waits for the next event.
func (r *runningSource) any() Event {
	r.t.Helper()
	return r.anyWithin(patience)
}

func (r *runningSource) anyWithin(d time.Duration) Event {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	e, err := r.Next(ctx)
	if err != nil {
		r.t.Fatalf("no event: %v", err)
	}
	return e
}

// want waits for the next event, which must be of this kind.
func (r *runningSource) want(kind EventKind) Event {
	r.t.Helper()
	e := r.any()
	if e.Kind != kind {
		r.t.Fatalf("event %v of %v (%s); want %v", e.Kind, e.Lease.Prefix, e.Reason, kind)
	}
	return e
}

func testConfig(t testing.TB) Config {
	dir := t.TempDir()
	return Config{
		Interface: "eth0", LeaseFile: filepath.Join(dir, "lease"), ResolvConf: filepath.Join(dir, "resolv.conf"),
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// testWriter puts a log beside the test's own.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if _, ok := w.t.(*testing.B); !ok {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func startClient(t testing.TB, cfg Config) *runningSource {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, c)
}

// eventually looks again and again whether ok, for what nobody tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// assertInstalled checks that the kernel agrees with l.
func assertInstalled(t testing.TB, l Lease) {
	t.Helper()
	addrs := ip(t, "-4", "-o", "address", "show", "dev", l.Interface)
	if strings.Count(addrs, "inet ") != 1 || !strings.Contains(addrs, l.Prefix.String()) {
		t.Errorf("addresses are\n%swant only %v", addrs, l.Prefix)
	}
	routes := ip(t, "-4", "route", "show", "default")
	if want := fmt.Sprintf("default via %v dev %s", l.Router, l.Interface); l.Router.IsValid() &&
		(!strings.Contains(routes, want) || !strings.Contains(routes, "src "+l.Addr().String())) {
		t.Errorf("default route is %q; want %q", routes, want)
	}
}
