package netlink

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
)

// needPPPoE skips the test where PPPoE cannot be spoken.
func needPPPoE(t *testing.T) {
	t.Helper()
	for _, name := range []string{"pppd", "pppoe-server"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s (Debian: ppp, pppoe); the guest of qemu-virt has it, see `make test-guest-kernel`", name)
		}
	}
	fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_STREAM, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("this kernel has no PPPoE (CONFIG_PPPOE); that of qemu-virt has, see `make test-guest-kernel`")
	}
	if err == nil {
		unix.Close(fd)
	}
	if f, err := os.OpenFile("/dev/ppp", os.O_RDWR, 0); err != nil {
		t.Skipf("needs PPP: %v", err)
	} else {
		f.Close()
	}
}

// A pppHouse is a folder that a PPP daemon finds at /etc/ppp and /run.
type pppHouse struct {
	t   *testing.T
	dir string
}

func newPPPHouse(t *testing.T) pppHouse {
	t.Helper()
	h := pppHouse{t, t.TempDir()}
	for _, name := range []string{"etc", "run/lock"} {
		if err := os.MkdirAll(filepath.Join(h.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write("options", "")
	h.write("chap-secrets", "phone * pass-word *\n")
	return h
}

func (h pppHouse) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "etc", name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// start starts a daemon in the house until the test ends; its log is the test's
// when it fails.
func (h pppHouse) start(cmd *exec.Cmd) *exec.Cmd {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.dir, filepath.Base(cmd.Args[0])+".log"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	words := append([]string{"sh", "-c", `mount --bind "$0/etc" /etc/ppp && mount --bind "$0/run" /run && exec "$@"`, h.dir}, cmd.Args...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		h.t.Fatal(err)
	}
	cmd.Path, cmd.Args = sh, words
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
		if b, _ := os.ReadFile(log.Name()); h.t.Failed() {
			h.t.Logf("%s:\n%s", log.Name(), b)
		}
	})
	return cmd
}

// hangUp ends the children of a server, one for each who has dialled in.
func hangUp(t *testing.T, server *exec.Cmd) {
	t.Helper()
	ended := 0
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		b, _ := os.ReadFile(name) // it may be gone
		// "PID (NAME) STATE PARENT …", see proc(5).
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) < 2 || f[1] != strconv.Itoa(server.Process.Pid) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && unix.Kill(pid, unix.SIGTERM) == nil {
			ended++
		}
	}
	if ended == 0 {
		t.Error("the provider has nobody on the line")
	}
}

// TestWatchFollowsPPPoE: the classic provider, Debian's pppoe-server, and Debian's
// pppd as the one who dials in and owns the address. The provider hangs up now
// and then, and gives another address each time.
func TestWatchFollowsPPPoE(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	isptest.IP(t, "link", "set", "eth0", "up")
	needPPPoE(t)
	provider, home := newPPPHouse(t), newPPPHouse(t)
	provider.write("pppoe-server-options", "require-chap\nlcp-echo-interval 1\nlcp-echo-failure 3\nnoipv6\nnodefaultroute\n")
	server := i.Command("pppoe-server", "-F", "-I", "isp0", "-L", "100.64.0.1", "-R", "100.64.3.7", "-N", "8",
		"-O", "/etc/ppp/pppoe-server-options")
	provider.start(server)
	cfg := testConfig(t)
	cfg.Interface = "ppp0"
	w, err := Watch(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, w)
	dialler := home.start(exec.Command("pppd", "nodetach", "plugin", "rp-pppoe.so", "eth0", "user", "phone", "noauth",
		"defaultroute", "noipdefault", "noipv6", "persist", "maxfail", "0", "holdoff", "0", "lcp-echo-interval", "1", "lcp-echo-failure", "3"))
	first := s.want(Bound).Lease
	if first.Addr().String() != "100.64.3.7" || first.Interface != "ppp0" || first.Router.IsValid() || first.MAC != (MAC{}) || !first.Expiry.IsZero() {
		t.Errorf("lease is %+v", first)
	}
	if route := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(route, "dev ppp0") || !strings.Contains(route, "src 100.64.3.7") {
		t.Errorf("the way out is %s", route)
	}
	if link := isptest.IP(t, "link", "show", "ppp0"); !strings.Contains(link, "mtu 1492") {
		t.Errorf("the link is %s", link)
	}

	hangUp(t, server) // and give another address to who dials in again
	e := s.Any()
	if e.Kind == Lost { // it took longer than gapGrace
		e = s.Any()
	}
	if e.Kind != Bound || e.Lease.Addr() == first.Addr() || !strings.HasPrefix(e.Lease.Addr().String(), "100.64.3.") {
		t.Errorf("%v of %v after %v", e.Kind, e.Lease.Addr(), first.Addr())
	}

	unix.Kill(dialler.Process.Pid, unix.SIGTERM) // nobody dials in again
	lost := s.want(Lost)
	if lost.Lease.Addr() != e.Lease.Addr() || lost.Reason == "" {
		t.Errorf("lost %v because %q", lost.Lease.Addr(), lost.Reason)
	}
}
