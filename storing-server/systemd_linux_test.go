package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"flexphone/registry-client/wire"
)

// certify gives the server another certificate, whose name is name, as an
// operator's files are: root's, to be read by a group.
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
	// What root does meanwhile the server can use afterwards.
	command(t, "phone", "add", "lobby", "--data", filepath.Join(s.root, "var/lib/private/storing-server"))

	s.write("etc/default/storing-server", "STORING_SERVER_FLAGS="+flags+" --frobnicate\n")
	out, err := s.inside("systemctl", "start", unitName)
	if err == nil || s.property("ActiveState") != "failed" || s.property("ExecMainStatus") != fmt.Sprint(exitUsage) {
		t.Errorf("started with a wrong flag: %v, %s: %s, exit status %s", err, out, s.property("ActiveState"), s.property("ExecMainStatus"))
	}
	s.write("etc/default/storing-server", "STORING_SERVER_FLAGS="+flags+"\n")
	s.systemctl("start", unitName)
	there("set right")
	another, _ := newPhone(t, t.TempDir(), "127.0.0.1:5684", phoneMAC(3))
	if _, err := another.Register(t.Context(), announcement(phoneMAC(3), 1, "192.0.2.3")); err != nil {
		t.Errorf("after a command of root's nobody enrols: %v", err)
	}
	if strange, err := exec.Command("find", filepath.Join(s.root, "var/lib/private/storing-server"), "-user", "root").CombinedOutput(); err != nil || len(strange) > 0 {
		t.Errorf("files of root's in its folder: %s, %v", strange, err)
	}
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
		if got, want := []string{s.property(name)}, unitSettings(s.t)[name]; !slices.Equal(got, want) {
			s.t.Errorf("systemd has %s=%s; the unit says %s", name, got, want)
		}
	}
	s.descriptors(pid)
}

// descriptors wants the process to have as many as the unit says, as far as this
// machine lets anybody have so many: by default the machine gives fewer.
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
	want, err := strconv.ParseUint(unitSettings(s.t)["LimitNOFILE"][0], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	got := regexp.MustCompile(`Max open files\s+(\d+)`).FindSubmatch(limits)
	if least := fmt.Sprint(min(want, most.Max)); got == nil || string(got[1]) != least {
		s.t.Errorf("it may open %s files; want %s", got, least)
	}
	s.t.Logf("it may open %s files (the unit: %d, this machine: %d)", got[1], want, most.Max)
}
