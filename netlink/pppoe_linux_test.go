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
	for _, name := range []string{"etc/plugins", "run/lock"} {
		if err := os.MkdirAll(filepath.Join(h.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write("options", "")
	h.write("chap-secrets", "phone * pass-word *\n")
	// Where Debian's pppoe-server looks for it.
	plugins, _ := filepath.Glob("/usr/lib/pppd/*/rp-pppoe.so")
	if len(plugins) == 0 {
		t.Skip("needs the plug-in rp-pppoe.so (Debian: ppp)")
	}
	if err := os.Symlink(plugins[0], filepath.Join(h.dir, "etc/plugins/rp-pppoe.so")); err != nil {
		t.Fatal(err)
	}
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

// kill ends the pppd of a house, or all of them.
func (h pppHouse) hangUp() {
	h.t.Helper()
	files, _ := filepath.Glob(filepath.Join(h.dir, "run", "ppp*.pid"))
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			unix.Kill(pid, unix.SIGTERM)
		}
	}
}

// TestWatchFollowsPPPoE: the classic provider, Debian's pppoe-server, and Debian's
// pppd as the one who dials in and owns the address. The provider hangs up now
// and then, and gives another address each time.
func TestWatchFollowsPPPoE(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	i := newISP(t, ispAddr)
	ip(t, "link", "set", "eth0", "up")
	needPPPoE(t)
	provider, home := newPPPHouse(t), newPPPHouse(t)
	provider.write("pppoe-server-options", "require-chap\nlcp-echo-interval 1\nlcp-echo-failure 3\nnoipv6\nnodefaultroute\n")
	server := i.command("pppoe-server", "-F", "-k", "-I", "isp0", "-L", "100.64.0.1", "-R", "100.64.3.7", "-N", "8",
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
	if route := ip(t, "route", "get", "192.0.2.7"); !strings.Contains(route, "dev ppp0") || !strings.Contains(route, "src 100.64.3.7") {
		t.Errorf("the way out is %s", route)
	}
	if link := ip(t, "link", "show", "ppp0"); !strings.Contains(link, "mtu 1492") {
		t.Errorf("the link is %s", link)
	}

	provider.hangUp() // and give another address to who dials in again
	e := s.any()
	if e.Kind == Lost { // it took longer than gapGrace
		e = s.any()
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
