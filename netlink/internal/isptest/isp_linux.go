// Package isptest runs tests at one end of a cable, in a network namespace of their
// own; at the other end is an ISP with a real dnsmasq. It knows how that is set up and
// asked, and refuses to know what is tried: any source of events will do.
package isptest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MAC is the phone's.
	MAC = "02:00:5e:00:53:01"
	// Addr is the ISP's own address, and FirstPool the one that it has to give.
	Addr      = "10.77.0.1/24"
	FirstPool = "10.77.0.50,10.77.0.50,2m"
)

// Patience is how long a test waits for what should come, at once or when a client
// asks again on a busy machine; it is no measure of anything.
const Patience = 30 * time.Second

// InNamespace runs the calling test again in a user and network namespace of
// its own, so that it needs no root and leaves nothing behind, and beside other
// such tests. It reports whether the caller is the copy inside.
func InNamespace(t testing.TB) bool {
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

// Run runs a command in this namespace and returns what it prints.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Feed runs a command with this on its standard input.
func Feed(t testing.TB, in, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// IP runs ip(8) in this namespace and returns what it prints.
func IP(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, "ip", args...)
}

// An ISP is the other end of the phone's cable: a network namespace with a
// real dnsmasq in it.
type ISP struct {
	t      testing.TB
	holder *exec.Cmd // keeps the namespace
	dns    *exec.Cmd
	dnsIn  string
	mu     sync.Mutex
	log    []string
	news   chan struct{}
}

// New makes the cable: eth0 here, isp0 there, the latter with addr.
func New(t testing.TB, addr string) *ISP {
	t.Helper()
	return NewOn(t, "eth0", MAC, addr)
}

// NewOn is New with another interface at this end.
func NewOn(t testing.TB, name, mac, addr string) *ISP {
	t.Helper()
	i := &ISP{t: t, dnsIn: t.TempDir(), news: make(chan struct{}, 1)}
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
		i.StopDNS()
		in.Close()
		i.holder.Wait()
	})
	IP(t, "link", "set", "lo", "up")
	IP(t, "link", "add", name, "address", mac, "type", "veth", "peer", "name", "isp0")
	IP(t, "link", "set", "isp0", "netns", strconv.Itoa(i.holder.Process.Pid))
	i.Inside("ip", "link", "set", "lo", "up")
	i.Inside("ip", "address", "add", addr, "dev", "isp0")
	i.Inside("ip", "link", "set", "isp0", "up")
	return i
}

// Inside runs a command in the namespace of the ISP.
func (i *ISP) Inside(args ...string) string {
	i.t.Helper()
	return Run(i.t, "nsenter", append([]string{"-t", strconv.Itoa(i.holder.Process.Pid), "-n"}, args...)...)
}

// Command prepares a command in the namespace of the ISP.
func (i *ISP) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(i.holder.Process.Pid), "-n"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// StartDNS starts dnsmasq with a pool such as "10.77.0.50,10.77.0.60,2m".
func (i *ISP) StartDNS(pool string, more ...string) {
	i.t.Helper()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		i.t.Skip("needs dnsmasq (Debian: dnsmasq-base)")
	}
	leases := filepath.Join(i.dnsIn, "leases")
	i.dns = i.Command(append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null",
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
	i.WaitLog("IP range")
}

func (i *ISP) read(r io.Reader) {
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

// StopDNS stops dnsmasq and forgets its leases and its log.
func (i *ISP) StopDNS() {
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

// WaitLog waits until dnsmasq logs a line with these words.
func (i *ISP) WaitLog(words ...string) string {
	i.t.Helper()
	timeout := time.After(Patience)
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

// testWriter puts a log beside the test's own.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if _, ok := w.t.(*testing.B); !ok {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// Eventually looks again and again whether ok, for what nobody tells of.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.After(Patience); !ok(); {
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// Logged returns what dnsmasq has logged since it was started.
func (i *ISP) Logged() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return strings.Join(i.log, "\n")
}

// Cable makes the phone's end of the cable anew, under this name, after it was deleted.
func (i *ISP) Cable(name, mac string) {
	i.t.Helper()
	IP(i.t, "link", "add", name, "address", mac, "type", "veth", "peer", "name", "isp0")
	IP(i.t, "link", "set", "isp0", "netns", strconv.Itoa(i.holder.Process.Pid))
}

// Log returns a log beside the test's own.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// AssertAddress checks that the kernel has this address on an interface, and no other
// of IPv4, and leaves by router from there; the zero Addr is any.
func AssertAddress(t testing.TB, name string, prefix netip.Prefix, router netip.Addr) {
	t.Helper()
	addrs := IP(t, "-4", "-o", "address", "show", "dev", name)
	if strings.Count(addrs, "inet ") != 1 || !strings.Contains(addrs, prefix.String()) {
		t.Errorf("addresses are\n%swant only %v", addrs, prefix)
	}
	routes := IP(t, "-4", "route", "show", "default")
	if want := fmt.Sprintf("default via %v dev %s", router, name); router.IsValid() &&
		(!strings.Contains(routes, want) || !strings.Contains(routes, "src "+prefix.Addr().String())) {
		t.Errorf("default route is %q; want %q", routes, want)
	}
}

// Do runs f in the namespace of the ISP; what sockets f opens stay there.
func (i *ISP) Do(f func() error) {
	i.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	enter := func(path string) (back func()) {
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			i.t.Fatal(err)
		}
		there, err := os.Open(path)
		if err != nil {
			i.t.Fatal(err)
		}
		defer there.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			i.t.Fatal(err)
		}
		return func() {
			defer home.Close()
			if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
				panic(err) // this thread is of no use to other tests
			}
		}
	}
	back := enter("/proc/" + strconv.Itoa(i.holder.Process.Pid) + "/ns/net")
	err := f()
	back()
	if err != nil {
		i.t.Fatal(err)
	}
}
