package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
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

	"flexphone/registry-client/wire"
)

// asMachine says to this test program that it is in namespaces of its own, and
// in which folder it finds the programs to be installed.
const asMachine = "STORING_SERVER_TEST_MACHINE"

// machine makes a root file system in $ROOT and starts systemd there, as the
// first process. /usr is this machine's, but for the units and the programs.
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

// certify gives the server another certificate, whose name is name, as an
// operator's files are: root's, to be read by a group. It is put in place whole.
func (s *systemd) certify(name string) {
	s.t.Helper()
	s.write("etc/ssl/operator.pem", string(operatorsPair(s.t, name)))
	at := filepath.Join(s.root, "etc/ssl/operator.pem")
	if err := errors.Join(os.Chmod(at, 0o640), os.Chown(at, 0, 60900)); err != nil {
		s.t.Fatal(err)
	}
}

// shown is the name of the certificate that a TLS port shows.
func shown(t *testing.T, at string) string {
	t.Helper()
	c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

// The unit that is shipped, under a real systemd: it starts, serves, restarts
// and reloads, and what it forbids is forbidden.
func TestSystemd(t *testing.T) {
	if !apart(t) {
		return
	}
	s := startSystemd(t)
	text, err := os.ReadFile(unitName)
	if err != nil {
		t.Fatal(err)
	}
	const flags = "--listen 127.0.0.1:5684 --http 127.0.0.1:8443 --http-cert /etc/ssl/operator.pem --http-key /etc/ssl/operator.pem " +
		"--sip 127.0.0.1:5060 --sip-tls 127.0.0.1:5061 --sip-cert /etc/ssl/operator.pem --sip-key /etc/ssl/operator.pem --dns 127.0.0.1:5353 --zone phones.example.net"
	s.write("etc/systemd/system/"+unitName, string(text))
	s.write("etc/systemd/system/"+unitName+".d/group.conf", "[Service]\nSupplementaryGroups=certificates\n")
	s.write("etc/default/storing-server", "STORING_SERVER_FLAGS="+flags+"\n")
	probe := regexp.MustCompile(`(?m)^(ExecStart|Type|Restart)=.*$`).ReplaceAllString(string(text), "")
	s.write("etc/systemd/system/confined.service", strings.Replace(probe, "\n[Service]\n", "\n[Service]\nType=oneshot\nExecStart=/usr/bin/confined\nStandardOutput=truncate:/tmp/confined\n", 1))
	s.certify("first")
	s.systemctl("daemon-reload")

	s.systemctl("start", "confined.service")
	tried, err := os.ReadFile(filepath.Join(s.root, "tmp/confined"))
	if err != nil || string(tried) != "tried\n" {
		t.Errorf("confined: %v\n%s", err, tried)
	}

	s.systemctl("start", unitName) // returns when it serves
	c, _ := newPhone(t, t.TempDir(), "127.0.0.1:5684", phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	there := func(when string) {
		t.Helper()
		phone, _ := newPhone(t, t.TempDir(), "127.0.0.1:5684", phoneMAC(2))
		if _, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.2")); err == nil {
			t.Errorf("%s: another key has the MAC", when)
		}
		if row, err := c.Resolve(t.Context(), wire.Query{Number: "101"}); err != nil || row.State != wire.Online || row.Sequence != 1 {
			t.Errorf("%s: the row is %+v, %v", when, row, err)
		}
	}
	there("started")
	s.confined(s.property("MainPID"))

	dir := filepath.Join(s.root, "var/lib/storing-server")
	setPassword(t, filepath.Join(s.root, "var/lib/private/storing-server"))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if resp, err := client.PostForm("https://127.0.0.1:8443/login", url.Values{"password": {testPassword}}); err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Errorf("login: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if link, err := os.Readlink(dir); err != nil || link != "private/storing-server" {
		t.Errorf("its folder is %q, %v", link, err)
	}

	s.reloads()
	there("reloaded")
	s.systemctl("restart", unitName)
	there("restarted")
	// More often than systemd would start it by default.
	for n := range 6 {
		s.systemctl("kill", "--kill-whom=main", "--signal=KILL", unitName)
		until(t, "start after being killed", func() bool {
			return s.property("NRestarts") == fmt.Sprint(n+1) && s.property("ActiveState") == "active"
		})
	}
	there("killed")
	s.systemctl("stop", unitName)
	if result, status := s.property("Result"), s.property("ExecMainStatus"); result != "success" || status != "0" {
		t.Errorf("stopped: %s, exit status %s", result, status)
	}

	s.write("etc/default/storing-server", "STORING_SERVER_FLAGS="+flags+" --frobnicate\n")
	out, err := s.inside("systemctl", "start", unitName)
	if err == nil || s.property("ActiveState") != "failed" || s.property("ExecMainStatus") != fmt.Sprint(exitUsage) {
		t.Errorf("started with a wrong flag: %v, %s: %s, exit status %s", err, out, s.property("ActiveState"), s.property("ExecMainStatus"))
	}
	s.write("etc/default/storing-server", "STORING_SERVER_FLAGS="+flags+"\n")
	s.systemctl("start", unitName)
	there("set right")
}

// reloads gives the server another certificate while it serves, and a file that
// is none.
func (s *systemd) reloads() {
	s.t.Helper()
	ports := []string{"127.0.0.1:8443", "127.0.0.1:5061"}
	want := func(name string) {
		s.t.Helper()
		for _, at := range ports {
			until(s.t, name+" at "+at, func() bool { return shown(s.t, at) == name })
		}
	}
	before := s.property("MainPID")
	want("first")
	s.certify("second")
	for _, at := range ports {
		if got := shown(s.t, at); got != "first" {
			s.t.Errorf("%s shows %s before it is told to", at, got)
		}
	}
	s.systemctl("reload", unitName)
	want("second")
	s.write("etc/ssl/operator.pem", "no certificate")
	s.systemctl("reload", unitName)
	until(s.t, "complaint", func() bool {
		out, _ := s.inside("journalctl", "--no-pager", "-u", unitName) // what is missing is waited for
		return strings.Contains(out, "file not read again") && strings.Contains(out, "failed=2")
	})
	want("second")
	if after := s.property("MainPID"); after != before {
		s.t.Errorf("a reload has made process %s of %s", after, before)
	}
	s.certify("third")
}

// confined wants what the unit says of a process to be in force.
func (s *systemd) confined(pid string) {
	s.t.Helper()
	status, err := s.inside("sh", "-c", "while read -r l; do echo \"$l\"; done < /proc/"+pid+"/status")
	if err != nil {
		s.t.Fatalf("%v: %s", err, status)
	}
	facts := map[string]string{}
	for _, l := range strings.Split(status, "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok {
			facts[k] = strings.TrimSpace(v)
		}
	}
	none := strings.Repeat("0", 16)
	for k, want := range map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"} {
		if facts[k] != want {
			s.t.Errorf("%s is %s; want %s", k, facts[k], want)
		}
	}
	// systemd gives users from 61184 to 65519 (systemd.exec(5), DynamicUser).
	if uid := strings.Fields(facts["Uid"])[0]; len(uid) != 5 || uid < "61184" || uid > "65519" {
		s.t.Errorf("its user is %s", uid)
	}
	for _, name := range []string{"DynamicUser", "NoNewPrivileges", "PrivateUsers", "PrivateDevices", "PrivateTmp", "ProtectSystem", "ProtectHome", "ProtectProc", "ProcSubset", "RestrictNamespaces", "MemoryDenyWriteExecute", "LockPersonality"} {
		if got, want := s.property(name), unitSettings(s.t)[name][0]; got != want {
			s.t.Errorf("systemd has %s=%s; the unit says %s", name, got, want)
		}
	}
	s.descriptors(pid)
}

// descriptors wants the process to have as many as the unit says, or as many as
// this machine lets anybody have.
func (s *systemd) descriptors(pid string) {
	s.t.Helper()
	limits, err := os.ReadFile(filepath.Join(s.root, "proc", pid, "limits"))
	if err != nil {
		s.t.Fatal(err)
	}
	var most syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most); err != nil {
		s.t.Fatal(err)
	}
	want := unitSettings(s.t)["LimitNOFILE"][0]
	got := regexp.MustCompile(`Max open files\s+(\d+)`).FindSubmatch(limits)
	if string(got[1]) != want && string(got[1]) != fmt.Sprint(most.Max) {
		s.t.Errorf("it may open %s files; want %s", got[1], want)
	}
	s.t.Logf("it may open %s files (the unit: %s, this machine: %d)", got[1], want, most.Max)
}
