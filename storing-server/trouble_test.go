package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// startConfined starts the real command in a mount namespace of its own, after
// a shell command there; $DIR is its data folder. It returns the folder as it
// is seen from here, and what the server said when it did not get ready.
func startConfined(t *testing.T, before string, more ...string) (p *process, inside, said string) {
	t.Helper()
	dir := t.TempDir()
	p = &process{cmd: exec.Command("unshare", "-Urm", "sh", "-c", before+` && exec "$0"`, os.Args[0])}
	p.cmd.Env = append(os.Environ(), "DIR="+dir,
		asServer+"="+strings.Join(append([]string{"run", "--data", dir, "--listen", "127.0.0.1:0", "--log", "json"}, more...), "\n"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Skipf("needs unshare: %v", err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		said += lines.Text() + "\n"
		var line struct{ Msg, Listen, SIP, HTTP string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			p.listen, p.sip, p.http = line.Listen, line.SIP, line.HTTP
			p.log.Go(func() { _, _ = io.Copy(io.Discard, stderr) })
			return p, fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir), said
		}
	}
	_ = p.cmd.Wait()
	if strings.Contains(said, "unshare") || strings.Contains(said, "mount:") {
		t.Skipf("needs a mount namespace: %s", said)
	}
	return nil, "", said
}

// until repeats try until it is content, for a minute at the most, and at a
// rate that no server refuses.
func until(t *testing.T, what string, try func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	most := time.After(time.Minute)
	for !try() {
		select {
		case <-tick.C:
		case <-most:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// A full disk turns announcements away with 5.03, while lookups go on, and is
// forgotten when there is room again.
func TestDiskFull(t *testing.T) {
	p, dir, said := startConfined(t, `mount -t tmpfs -o size=40m none "$DIR"`, "--sip", "127.0.0.1:0", "--resolve", "anyone", "--http", "127.0.0.1:0")
	if p == nil {
		t.Fatalf("server did not get ready:\n%s", said)
	}
	defer p.kill()
	c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	sequence := uint64(0)
	announce := func() error {
		sequence++
		_, err := c.Register(t.Context(), announcement(phoneMAC(1), sequence, "192.0.2.1"))
		return err
	}
	if err := announce(); err != nil {
		t.Fatal(err)
	}
	ready := func() (int, string) {
		t.Helper()
		resp, err := http.Get(p.http + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if status, text := ready(); status != http.StatusOK {
		t.Errorf("/readyz with room: %d %s", status, text)
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	var refused error
	until(t, "refusal", func() bool { refused = announce(); return refused != nil })
	if !errors.Is(refused, registry.ErrUnreachable) || !strings.Contains(refused.Error(), "5.03") {
		t.Errorf("announced on a full disk: %v; want 5.03", refused)
	}
	until(t, "/readyz to name the disk", func() bool {
		status, text := ready()
		return status == http.StatusServiceUnavailable && strings.Contains(text, "the disk is full")
	})
	row, err := c.Resolve(t.Context(), wire.Query{Number: "101"})
	if err != nil || row.Sequence == 0 || row.Sequence >= sequence {
		t.Errorf("lookup on a full disk: %+v, %v", row, err)
	}
	if answer := invite(t, p.sip, "101"); !strings.HasPrefix(answer, "SIP/2.0 302 ") {
		t.Errorf("called by SIP on a full disk: %q", answer)
	}
	for _, change := range []string{"password", "phone add lobby", "number set 02:00:5e:00:53:01 555", "forget 02:00:5e:00:53:01"} {
		// The disk is asked for room a few times a second.
		until(t, change+" to be refused for it", func() bool {
			var out, errs bytes.Buffer
			if code := run(t.Context(), append(strings.Fields(change), "--data", dir), &out, &errs); code != exitFailed || out.Len() > 0 {
				t.Errorf("%s on a full disk: exit %d: %s%s", change, code, out.String(), errs.String())
			}
			return strings.Contains(errs.String(), "the disk is full")
		})
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "room", func() bool { return announce() == nil })
	until(t, "/readyz to be well again", func() bool { status, _ := ready(); return status == http.StatusOK })
	if row, err := c.Resolve(t.Context(), wire.Query{Number: "101"}); err != nil || row.Sequence != sequence {
		t.Errorf("lookup after that: %+v, %v; want sequence %d", row, err, sequence)
	}
}

// A data folder that cannot be written is an error that says what to do.
func TestReadOnlyFolder(t *testing.T) {
	p, _, said := startConfined(t, `mount -t tmpfs none "$DIR" && mount -o remount,ro "$DIR"`)
	if p != nil {
		p.kill()
		t.Fatal("the server serves from a folder that it cannot write to")
	}
	for _, want := range []string{"read-only file system", "let this user write there, or name another folder"} {
		if !strings.Contains(said, want) {
			t.Errorf("said %q; want %q in it", said, want)
		}
	}
}

// A disk that is full before the start is an error that says so.
func TestStartOnFullDisk(t *testing.T) {
	p, _, said := startConfined(t, `mount -t tmpfs -o size=4m none "$DIR" && { cat /dev/zero > "$DIR/filler" || :; }`)
	if p != nil {
		p.kill()
		t.Fatal("the server serves from a folder that takes nothing")
	}
	if !strings.Contains(said, "is full: make room there") {
		t.Errorf("said %q", said)
	}
}

// Every error of a start says what to do, and leaves the rows as they were.
func TestBadStarts(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	try := func(code int, want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), args, &out, &errs); got != code || !strings.Contains(out.String()+errs.String(), want) {
			t.Errorf("%s: exit %d: %s%s; want exit %d, %q", strings.Join(args, " "), got, out.String(), errs.String(), code, want)
		}
	}
	try(exitFailed, "stop that one, or give this one another folder", "run", "--data", dir, "--listen", "127.0.0.1:0")
	try(exitUsage, "no such file", "restore", file+"x", "--data", t.TempDir())
	try(0, "entries in", "backup", file, "--data", dir) // while it serves
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup has mode %v, %v; want 0600, since it holds the key", info.Mode(), err)
	}
	try(exitFailed, "stop that one", "restore", file, "--data", dir)
	p.kill()
	try(exitFailed, "name another folder with --data", "restore", file, "--data", dir)
	try(0, "entries in", "backup", file, "--data", dir) // when it does not run

	if err := os.RemoveAll(filepath.Join(dir, "journal")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		try(exitFailed, "restore a backup", "run", "--data", dir, "--listen", "127.0.0.1:0")
		try(exitFailed, "restore a backup", "rows", "--data", dir)
	}
	try(0, "restored to", "restore", file, "--data", dir)
	try(0, `{"mac":"02:00:5e:00:53:01","digits":"002200600335105","number":"101"`, "rows", "--data", dir)

	// Without the key that the phones have pinned it does not start as if nothing
	// was lost.
	key := filepath.Join(dir, keyName)
	kept, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		try(exitFailed, "is missing beside 1 rows, whose phones know this server by it: put it back", "run", "--data", dir, "--listen", "127.0.0.1:0")
		if _, err := os.Lstat(key); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("another key was made, or none can be: %v", err)
		}
	}
	startProcess(t, dir, "127.0.0.1:0", "--new-server-key").kill()
	if made, err := os.ReadFile(key); err != nil || bytes.Equal(made, kept) {
		t.Errorf("a new key was asked for: %q, %v", made, err)
	}
	if err := os.WriteFile(key, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	startProcess(t, dir, "127.0.0.1:0").kill()

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text[:len(text)-7], 0o600); err != nil {
		t.Fatal(err)
	}
	try(exitFailed, "nothing was changed", "restore", file, "--data", t.TempDir())
	if err := os.WriteFile(filepath.Join(dir, keyName), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	try(exitFailed, "restore it from a copy", "run", "--data", dir, "--listen", "127.0.0.1:0")
	if _, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, keyName, "x")}); err == nil {
		t.Error("opened a folder in a file")
	}
}
