package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// asMachine says to this test program that it is in namespaces of its own, and
// in which folder it finds the programs to be installed.
const asMachine = "STORING_SERVER_TEST_MACHINE"

// machine makes a root file system in $ROOT and starts systemd there, as the
// first process. /usr is this machine's, but for the units and the programs. A
// service that does not say otherwise has few descriptors.
const machine = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$ROOT"
echo 0 > "$CGROUP/cgroup.procs"
cd "$ROOT"
mkdir -p usr/bin etc/default etc/systemd/system var/lib var/log var/tmp home run tmp root mnt proc sys dev
chmod 1777 tmp var/tmp
for d in bin sbin lib lib32 lib64 libx32; do
  [ ! -L /$d ] || ln -s "$(readlink /$d)" $d
  [ -L /usr/$d ] || [ ! -d /usr/$d ] || [ $d = bin ] || { mkdir usr/$d; mount --bind /usr/$d usr/$d; mount -o remount,bind,ro usr/$d; }
done
for p in sh umount systemctl journalctl; do cp "$(command -v $p)" usr/bin; done
cp "$PROGRAMS"/* usr/bin
for f in passwd group ld.so.cache; do cp /etc/$f etc; done
echo 'certificates:x:60900:' >> etc/group
echo 5f1e0c53a8dd4c8fb1f9f0cd4b1e9a02 > etc/machine-id
printf '[Manager]\nDefaultLimitNOFILE=512\n' > etc/systemd/system.conf
mkdir mnt/units
for u in basic sysinit sockets local-fs multi-user network network-online shutdown slices paths timers umount final; do
  cp usr/lib/systemd/system/$u.target mnt/units
done
cp usr/lib/systemd/system/systemd-journald.service usr/lib/systemd/system/systemd-journald.socket usr/lib/systemd/system/systemd-journald-dev-log.socket mnt/units
mkdir mnt/units/sockets.target.wants
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket mnt/units/sockets.target.wants
ln -s multi-user.target mnt/units/default.target
mount --bind mnt/units usr/lib/systemd/system
mount -t tmpfs -o mode=755 none dev
for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for secret in dev/kmsg home/diary; do echo secret > $secret; done
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
exec unshare --cgroup sh -e -c '
mount -t cgroup2 cgroup2 sys/fs/cgroup
pivot_root . mnt
cd /
umount -l /mnt
exec /lib/systemd/systemd --log-target=journal-or-kmsg --show-status=no'
`

// A systemd is a real one, the first process of a small machine that shares
// the network of this test.
type systemd struct {
	t    *testing.T
	pid  int
	root string // its root, from here
}

// installed builds the programs, as they are shipped.
func installed(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, source := range map[string]string{"storing-server": ".", "confined": "./testdata/confined"} {
		if out, err := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), source).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", source, err, out)
		}
	}
	return dir
}

// apart runs the test again in namespaces of its own. It returns false outside.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(asMachine) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: systemd makes users and namespaces")
	}
	for _, program := range []string{"/lib/systemd/systemd", "systemctl", "unshare", "nsenter", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := exec.Command("unshare", "--mount", "--net", "true").Run(); err != nil {
		t.Skipf("no namespaces may be made here: %v", err)
	}
	cmd.Env = append(os.Environ(), asMachine+"="+installed(t))
	out, err := cmd.CombinedOutput()
	switch skipped := regexp.MustCompile(`_test\.go:\d+: (.*)\n--- SKIP`).FindSubmatch(out); {
	case err != nil:
		t.Errorf("in namespaces: %v\n%s", err, out)
	case skipped != nil:
		t.Skip(string(skipped[1]))
	default:
		t.Logf("%s", out)
	}
	return false
}

// cgroup makes a control group below this process's own, for as long as the
// test.
func cgroup(t *testing.T) string {
	t.Helper()
	all := t.TempDir()
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("cgroup2", all, "cgroup2", 0, "")); err != nil {
		t.Skipf("no control groups may be made here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(all, unix.MNT_DETACH) }) // or it goes with the namespace
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own := ""
	for _, l := range strings.Split(string(text), "\n") {
		if path, ok := strings.CutPrefix(l, "0::"); ok {
			own = path
		}
	}
	dir := filepath.Join(all, own, fmt.Sprintf("storing-server-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control groups may be made here: %v", err)
	}
	t.Cleanup(func() {
		var groups []string
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for i := range groups { // the lowest first
			if err := os.Remove(groups[len(groups)-1-i]); err != nil {
				t.Errorf("remove control group: %v", err)
			}
		}
	})
	return dir
}

// startSystemd starts the machine, and waits until it is up.
func startSystemd(t *testing.T) *systemd {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	group := cgroup(t)
	var said bytes.Buffer
	cmd := exec.Command("sh", "-c", machine)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=other", "ROOT=" + t.TempDir(), "CGROUP=" + group, "PROGRAMS=" + os.Getenv(asMachine)}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("no namespaces may be made here: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s := &systemd{t: t, pid: cmd.Process.Pid, root: fmt.Sprintf("/proc/%d/root", cmd.Process.Pid)}
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := s.inside("journalctl", "--no-pager") // said in vain, if it is gone
			t.Logf("journal:\n%s", journal)
		}
		_ = cmd.Process.Kill() // and all of its processes
		<-ended
	})
	until(t, "systemd", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("no machine may be made here: %v: %s", err, bytes.TrimSpace(said.Bytes()))
		default:
		}
		state, _ := s.inside("systemctl", "is-system-running") // fails until it is
		return state == "running" || state == "degraded"
	})
	return s
}

// inside runs a program in the machine.
func (s *systemd) inside(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute) // also of a test that ends
	defer cancel()
	enter := []string{"-t", fmt.Sprint(s.pid), "-m", "-p", "-C", "-u"}
	out, err := exec.CommandContext(ctx, "nsenter", append(enter, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// systemctl wants it to work.
func (s *systemd) systemctl(args ...string) {
	s.t.Helper()
	if out, err := s.inside(append([]string{"systemctl"}, args...)...); err != nil {
		s.t.Fatalf("systemctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// property is what systemd says of a unit.
func (s *systemd) property(name string) string {
	s.t.Helper()
	out, err := s.inside("systemctl", "show", "--value", "-p", name, unitName)
	if err != nil {
		s.t.Fatalf("systemctl show %s: %v\n%s", name, err, out)
	}
	return out
}

// write makes a file of the machine's.
func (s *systemd) write(path, text string) {
	s.t.Helper()
	at := filepath.Join(s.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}
