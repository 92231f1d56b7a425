package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"flexphone/registry-client/wire"
)

// The unit that is shipped.
const unitName = "storing-server.service"

// nobody is the user that the confined server runs as.
const nobody = "65534"

// unitSettings reads the unit, for which systemd has no word of complaint.
func unitSettings(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unitName)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, l := range strings.Split(string(text), "\n") {
		if k, v, ok := strings.Cut(l, "="); ok && !strings.HasPrefix(l, "#") {
			out[k] = append(out[k], v)
		}
	}
	return out
}

func TestUnitFile(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	text, err := os.ReadFile(unitName)
	if err != nil {
		t.Fatal(err)
	}
	// The program is not installed where the tests run.
	file := filepath.Join(t.TempDir(), unitName)
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("/usr/bin/storing-server"), []byte("/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", file).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: more exposed than 2.0 of 10: %v\n%s", err, out)
	}
}

// allowedCalls returns the system calls that the unit's filter lets pass.
func allowedCalls(t *testing.T) []string {
	t.Helper()
	sets := map[string][]string{}
	out, err := exec.Command("systemd-analyze", "syscall-filter").Output()
	if err != nil {
		t.Skipf("needs systemd-analyze: %v", err)
	}
	set := ""
	for _, l := range strings.Split(string(out), "\n") {
		switch word := strings.TrimSpace(l); {
		case strings.HasPrefix(l, "@"):
			set = word
		case word != "" && !strings.HasPrefix(word, "#"):
			sets[set] = append(sets[set], word)
		}
	}
	var expand func(name string, into map[string]bool)
	expand = func(name string, into map[string]bool) {
		if !strings.HasPrefix(name, "@") {
			into[name] = true
			return
		}
		if sets[name] == nil {
			t.Fatalf("systemd has no set %s", name)
		}
		for _, n := range sets[name] {
			expand(n, into)
		}
	}
	allowed := map[string]bool{}
	expand("@default", allowed) // systemd adds it by itself
	for _, line := range unitSettings(t)["SystemCallFilter"] {
		names, without := strings.CutPrefix(line, "~")
		for _, name := range strings.Fields(names) {
			some := map[string]bool{}
			expand(name, some)
			for n := range some {
				if without {
					delete(allowed, n)
				} else {
					allowed[n] = true
				}
			}
		}
	}
	var all []string
	for n := range allowed {
		all = append(all, "?"+n) // strace need not know it
	}
	slices.Sort(all)
	return all
}

// The server does all of its work under what the unit forbids it, as far as
// that can be had without systemd: as an ordinary user without capabilities,
// where everything is read-only but its data folder, and where a system call
// that is not in the unit's filter fails with EPERM.
func TestUnit(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user in a mount namespace")
	}
	for _, program := range []string{"strace", "setpriv", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	const script = `set -e
mount --make-rprivate /
mount -t tmpfs none /mnt
cp "$0" /mnt/server; chmod 755 /mnt /mnt/server; mkdir /mnt/data
mount -t tmpfs -o mode=700,uid=` + nobody + `,gid=` + nobody + ` none /mnt/data
awk '{print $5}' /proc/self/mountinfo | while read -r m; do [ "$m" = /mnt/data ] || mount -o remount,bind,ro "$m" 2>/dev/null || :; done
cd /
confined="setpriv --reuid=` + nobody + ` --regid=` + nobody + ` --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all
  strace -f -qq --seccomp-bpf -e trace=!$ALLOWED -e inject=!$ALLOWED:error=EPERM -e signal=none"
$confined -o /mnt/data/control nice -n 5 true >&2
exec $confined -D -o /mnt/data/denied /mnt/server`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, os.Args[0])
	args := []string{"run", "--data", "/mnt/data", "--log", "json", "--listen", "127.0.0.1:0", "--sip", "127.0.0.1:0", "--sip-tls", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--zone", "phones.example.net", "--resolve", "anyone"}
	cmd.Env = append(os.Environ(), "ALLOWED="+strings.Join(allowedCalls(t), ","), asServer+"="+strings.Join(args, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	var ready struct{ Msg, Listen, SIP, HTTP, DNS string }
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); ready.Msg != "ready" && lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		_ = json.Unmarshal(lines.Bytes(), &ready) // or it is the shell's
	}
	if ready.Msg != "ready" {
		_ = cmd.Wait()
		if strings.Contains(said.String(), "unshare") || strings.Contains(said.String(), "mount:") {
			t.Skipf("needs a mount namespace: %s", said.String())
		}
		t.Fatalf("confined, the server does not get ready:\n%s", said.String())
	}
	p.log.Go(func() { _, _ = io.Copy(io.Discard, stderr) })
	defer p.kill()
	if !strings.Contains(said.String(), "cannot set niceness") { // setpriority is not in the filter
		t.Errorf("the filter is not in force:\n%s", said.String())
	}
	pid := cmd.Process.Pid
	dir := fmt.Sprintf("/proc/%d/root/mnt/data", pid)

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t" + strings.Repeat(nobody+"\t", 4), "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), strings.TrimSuffix(want, "\t")) {
			t.Errorf("its status has no %q:\n%s", want, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(mounts)), "\n") {
		f := strings.Fields(l)
		if strings.Contains(f[4]+"/", "/dev/") {
			continue // as with ProtectSystem=strict
		}
		if writable := strings.HasPrefix(f[5], "rw"); writable != (f[4] == "/mnt/data") {
			t.Errorf("%s is mounted %s", f[4], f[5])
		}
	}

	c, _ := newPhone(t, t.TempDir(), ready.Listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), wire.Query{Number: "101"}); err != nil {
		t.Error(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("101.phones.example.net.", dns.TypeA)
	if r, err := dns.ExchangeContext(t.Context(), m, ready.DNS); err != nil || len(r.Answer) != 1 {
		t.Errorf("DNS: %v, %v", r, err)
	}
	if answer := invite(t, ready.SIP, "101"); !strings.HasPrefix(answer, "SIP/2.0 302 ") {
		t.Errorf("SIP: %q", answer)
	}
	// Commands of root's, which the server must be able to read the files of.
	setPassword(t, dir)
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).PostForm(ready.HTTP+"/login", url.Values{"password": {testPassword}})
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Errorf("login: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	command(t, "number", "set", "02:00:5e:00:53:01", "555", "--data", dir)
	command(t, "backup", filepath.Join(t.TempDir(), "backup"), "--data", dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Release(ctx, wire.MAC(phoneMAC(1)), 2); err != nil {
		t.Error(err)
	}
	denied, err := os.ReadFile(filepath.Join(dir, "denied"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, l := range strings.Split(strings.TrimSpace(string(denied)), "\n") {
		if _, call, ok := strings.Cut(l, " "); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(call), "(")
			kinds[name]++
		}
	}
	t.Logf("denied, and gone without: %v", kinds)
}
