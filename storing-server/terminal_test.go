package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/admin"
)

// onTerminal runs a command with a terminal as its standard output, and returns
// what is seen there.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"="+strings.Join(args, "\n"))
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = slave, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	out, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, syscall.EIO) { // the other end is closed
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// Lists are tables to people and JSON to programs.
func TestPeopleAndPrograms(t *testing.T) {
	dir := t.TempDir()
	p := serveFor(t, dir)
	c, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	command(t, "token", "new", "--data", dir)
	command(t, "phone", "add", "lobby", "--data", dir)
	command(t, "api-token", "new", "monitor", "--data", dir)
	for list, want := range map[string]string{
		"rows": "MAC                NUMBER  STATE   SINCE ", "token list": "ID        MAC  EXPIRES", "phone list": "USER   MAC ", "api-token list": "ID        FOR ",
	} {
		args := append(strings.Fields(list), "--data", dir)
		if seen := onTerminal(t, args...); !strings.HasPrefix(seen, want) || strings.Count(seen, "\n") != 2 {
			t.Errorf("%s on a terminal is\n%s\nwant %q", list, seen, want)
		}
		if seen := onTerminal(t, append(args, "--json")...); !json.Valid([]byte(seen)) {
			t.Errorf("%s --json on a terminal is\n%s", list, seen)
		}
		if got := command(t, args...); !json.Valid([]byte(got)) {
			t.Errorf("%s to a program is\n%s", list, got)
		}
	}
	if seen := onTerminal(t, "rows", "--data", dir); !strings.Contains(seen, "\n02:00:5e:00:53:01  101     online  ") || !strings.Contains(seen, "  192.0.2.1  ") {
		t.Errorf("rows on a terminal are\n%s", seen)
	}
	var row admin.Row
	if err := json.Unmarshal([]byte(command(t, "rows", "--data", dir)), &row); err != nil || row.Number != "101" || row.Addrs[0] != "192.0.2.1" {
		t.Errorf("rows to a program are %+v, %v", row, err)
	}
}

// --version says what the program is, and does nothing else.
func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"run", "--version"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != 0 || errs.Len() > 0 || !strings.HasPrefix(out.String(), "storing-server ") || !strings.Contains(out.String(), runtime.Version()) {
			t.Errorf("%s: exit %d: %s%s", strings.Join(args, " "), code, out.String(), errs.String())
		}
	}
}
