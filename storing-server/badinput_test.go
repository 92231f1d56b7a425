package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/trust"
)

// asClock names a file with the seconds by which the command's clock is wrong.
const asClock = "STORING_SERVER_TEST_CLOCK"

// settable is the clock of a command under test.
func settable() func() time.Time {
	path := os.Getenv(asClock)
	if path == "" {
		return nil
	}
	return func() time.Time {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		by, err := strconv.Atoi(string(text))
		if err != nil {
			panic(err)
		}
		return time.Now().Add(time.Duration(by) * time.Second)
	}
}

// A clock that jumps takes phones off the net, or leaves them on it for too
// long. It loses no row, turns away no phone, and is forgotten
// once it is right and the phone has renewed.
func TestClockJump(t *testing.T) {
	clock := filepath.Join(t.TempDir(), "clock")
	set := func(by time.Duration) {
		t.Helper()
		// Whole at any moment, since the server reads it.
		if err := os.WriteFile(clock+"~", []byte(strconv.Itoa(int(by/time.Second))), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(clock+"~", clock); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	t.Setenv(asClock, clock)
	dir := t.TempDir()
	p := startProcess(t, dir, ownAddress())
	defer func() { p.kill() }()
	c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	sequence := uint64(0)
	announce := func(addr string) {
		t.Helper()
		sequence++
		if _, err := c.Register(t.Context(), announcement(phoneMAC(1), sequence, addr)); err != nil {
			t.Errorf("announcing %s: %v", addr, err)
		}
	}
	want := func(what string, state wire.State, addr string) {
		t.Helper()
		row, err := c.Resolve(t.Context(), wire.Query{Number: "101"})
		if err != nil || row.State != state || row.Addrs[0].String() != addr || row.Sequence != sequence {
			t.Errorf("%s: %+v, %v; want it %s at %s", what, row, err, state, addr)
		}
	}
	announce("192.0.2.1")
	for _, by := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour, 0} {
		set(by)
		before := fmt.Sprintf("192.0.2.%d", sequence)
		switch {
		case by > 0:
			want("a year ahead", wire.Offline, before)
		case by < 0:
			want("a year behind", wire.Online, before)
		default:
			want("right again", wire.Offline, before) // its end was said by the slow clock
		}
		announce(fmt.Sprintf("192.0.2.%d", sequence+1))
		want(fmt.Sprintf("renewed with a clock that is wrong by %v", by), wire.Online, fmt.Sprintf("192.0.2.%d", sequence))
		p.kill()
		p = startProcess(t, dir, p.listen)
		want("restarted", wire.Online, fmt.Sprintf("192.0.2.%d", sequence))
	}
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.99")); err == nil {
		t.Error("an announcement of before the jumps is taken")
	}
}

// A port that is taken is an error that names it and says what to do, whichever
// port it is, and nothing is left half started.
func TestOccupiedPorts(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, flags := range [][]string{
		{"--listen", udp.LocalAddr().String()}, {"--sip", udp.LocalAddr().String()}, {"--zone", "phones.example.net", "--dns", udp.LocalAddr().String()},
	} {
		refusesPort(t, udp.LocalAddr().String(), flags)
	}
	taken := tcp.Addr().String()
	for _, flags := range [][]string{
		{"--http", taken}, {"--sip", taken}, {"--sip-tls", taken}, {"--dns", taken, "--zone", "phones.example.net"},
		{"--http", "127.0.0.1:0", "--sip", "127.0.0.1:0", "--dns", taken, "--zone", "phones.example.net"},
	} {
		refusesPort(t, taken, flags)
	}
}

func refusesPort(t *testing.T, taken string, flags []string) {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if !slices.Contains(flags, "--listen") {
		flags = append(flags, "--listen", "127.0.0.1:0")
	}
	code := run(t.Context(), append([]string{"run", "--data", dir}, flags...), &out, &errs)
	if said := errs.String(); code != exitFailed || !strings.Contains(said, taken) || !strings.Contains(said, "is something else there?") || strings.Contains(said, "msg=ready") {
		t.Errorf("%v: exit %d: %s", flags, code, said)
	}
	startProcess(t, dir, "127.0.0.1:0").kill() // the folder is free, and whole
}

// Wrong flags and files are errors that say what is wanted, and start nothing.
func TestWrongFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("not what is wanted"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags string
		code  int
		want  string
	}{
		{"--frobnicate", exitUsage, "unknown flag --frobnicate"},
		{"--numbers 12-99", exitUsage, "want FIRST-LAST from 100 to 99999999"},
		{"--numbers 300-200", exitUsage, "want FIRST-LAST from 100 to 99999999"},
		{"--number-rest yesterday", exitUsage, "--number-rest"},
		{"--log xml", exitUsage, `"text","json"`},
		{"--enrol ca", exitUsage, "--ca=FILE"},
		{"--enrol ca --ca " + file, exitFailed, "no PEM block CERTIFICATE"},
		{"--enrol ca --ca " + file + "x", exitFailed, "no such file"},
		{"--enrol list", exitUsage, "--expected=FILE"},
		{"--expected " + file, exitUsage, "of use only with --enrol=list"},
		{"--enrol list --expected " + file, exitFailed, "line 1: want a MAC"},
		{"--enrol list --expected " + file + "x", exitFailed, "no such file"},
		{"--resolve friends", exitUsage, `"enrolled","anyone","nobody"`},
		{"--lookups=-1", exitUsage, "want 0 to 1000000"},
		{"--dns 127.0.0.1:0", exitUsage, "want both or neither"},
		{"--dns 127.0.0.1:0 --zone a..b", exitUsage, "a..b"},
		{"--dns 127.0.0.1:0 --zone a.example --name-server ns.a.example", exitUsage, "want a name outside of a.example"},
		{"--name-server ns.example", exitUsage, "of use only with --dns"},
		{"--ns-address 192.0.2.1", exitUsage, "of use only with --dns"},
		{"--dns 127.0.0.1:0 --zone a.example --ns-address ns", exitUsage, "--ns-address"},
		{"--dns 127.0.0.1:0 --zone a.example --ns-address 192.0.2.1 --name-server ns.b.example", exitUsage, "want one of them"},
		{"--sessions=-1", exitUsage, "--sessions=-1: want 1 to"},
		{"--handshakes=-1", exitUsage, "--handshakes=-1: want 1 to"},
		{"--requests 0", exitUsage, "--requests=0: want more than 0"},
		{"--enrolments=-1", exitUsage, "--enrolments=-1: want 0 to"},
		{"--exempt 192.0.2.0/24,x", exitUsage, `--exempt: "x" is no network`},
		{"--health 8080", exitUsage, "want [HOST]:PORT"},
		{"--http 127.0.0.1", exitUsage, "want [HOST]:PORT"},
		{"--listen 127.0.0.1:70000", exitUsage, "want [HOST]:PORT"},
		{"--sip :sip", exitUsage, "want [HOST]:PORT"},
		{"--http-proxy", exitUsage, "of use only with --http"},
		{"--number-rest=-1s", exitUsage, "want 0s or more"},
		{"--replicas 0", exitUsage, "want 1 to 5"},
		{"--http 127.0.0.1:0 --http-cert " + file + " --http-key " + file, exitFailed, "--http-cert"},
		{"--sip-tls 127.0.0.1:0 --sip-cert " + file + " --sip-key " + file, exitFailed, "--sip-cert"},
		{"--http 192.0.2.1:0", exitFailed, "no interface has this address"},
		{"--data " + file + "/data", exitFailed, "name a folder with --data"},
		{"--partitions=-1", exitFailed, "want 1 to 256"},
		{"--nats nats://127.0.0.1:1", exitFailed, "NATS"},
	} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		code := run(ctx, append([]string{"run", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data")}, strings.Fields(tt.flags)...), &out, &errs)
		if code != tt.code || !strings.Contains(errs.String(), tt.want) || strings.Contains(errs.String(), "msg=ready") || ctx.Err() != nil {
			t.Errorf("run %s: exit %d: %s; want exit %d and %q", tt.flags, code, errs.String(), tt.code, tt.want)
		}
		cancel()
	}
}

// What this user may not do is an error that says who may.
func TestBarred(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	dir, err := os.MkdirTemp("/tmp", "storing-server-test-") // where another user comes to
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, text, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	serveFor(t, data)
	setPassword(t, data)
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"rows", "password", "api-token list", "forget 02:00:5e:00:53:01"} {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), asServer+"="+strings.Join(append(strings.Fields(command), "--data", data), "\n"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "be root, or the user that the server runs as") {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
	if err := hint(&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}); !strings.Contains(err.Error(), "CAP_NET_BIND_SERVICE") {
		t.Errorf("a port that is not to be had: %v", err)
	}
}

// Files of the data folder that were overwritten are errors that name them.
func TestCorruptFolder(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0", "--http", "0.0.0.0:0")
	c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	setPassword(t, dir)
	p.kill()
	// A log that nobody can write to would turn every new phone away.
	log := filepath.Join(dir, trust.AuditName)
	if err := errors.Join(os.Remove(log), os.Mkdir(log, 0o700)); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"run", "--data", dir, "--listen", "127.0.0.1:0"}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "let this user write there, or move it away") {
		t.Errorf("no audit log: exit %d: %s", code, errs.String())
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "journal", "*.journal"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("files of rows: %v, %v", blocks, err)
	}
	for _, tt := range []struct{ name, want string }{
		{keyName, "restore it from a copy"}, {"http.pem", "http.pem"}, {blocks[0][len(dir)+1:], "restore a backup"},
	} {
		path := filepath.Join(dir, tt.name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte{0x5a}, len(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"run", "--data", dir, "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%s overwritten: exit %d: %s; want %q", tt.name, code, errs.String(), tt.want)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Numbers are given out from the range that the operator has set, never to two
// phones, and a freed one rests.
func TestNumbers(t *testing.T) {
	dir := t.TempDir()
	p := serveFor(t, dir, "--numbers", "500-501")
	enrol := func(n byte) string {
		t.Helper()
		c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(n))
		receipt, err := c.Register(t.Context(), announcement(phoneMAC(n), 1, "192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		return receipt.Number
	}
	if one, two, three := enrol(1), enrol(2), enrol(3); one != "500" || two != "501" || three != "" {
		t.Errorf("numbers %q, %q and %q; want 500, 501 and none", one, two, three)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "--data", dir), &out, &errs); code != exitFailed || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit %d: %s; want %q", args, code, errs.String(), want)
		}
	}
	refused("02:00:5e:00:53:01 has it", "number", "set", "02:00:5e:00:53:03", "500")
	command(t, "forget", "02:00:5e:00:53:01", "--data", dir)
	if four := enrol(4); four != "" {
		t.Errorf("a number that rests is given out: %q", four)
	}
	refused("rests", "number", "set", "02:00:5e:00:53:03", "500")
	command(t, "number", "free", "500", "--data", dir)
	if five := enrol(5); five != "500" {
		t.Errorf("a number that was freed is not given out: %q", five)
	}
	other, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(5))
	if _, err := other.Register(t.Context(), announcement(phoneMAC(5), 9, "192.0.2.9")); err == nil {
		t.Error("another key has a MAC that is owned")
	}
}
