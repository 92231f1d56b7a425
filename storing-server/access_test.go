package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// Roles and ends of tokens and passwords are given by commands, while the server
// runs and while it does not.
func TestLimitedAccess(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	defer p.kill()
	for _, running := range []bool{true, false} {
		if !running {
			p.kill()
		}
		command(t, "password", "--valid", "2160h", "--data", dir)
		if text := command(t, "password", "--role", "read", "--data", dir); len(strings.TrimSpace(text)) < 12 {
			t.Errorf("running %v: the reader's password is %q", running, text)
		}
		command(t, "password", "--role", "read", "--remove", "--data", dir)
		command(t, "api-token", "new", "monitor", "--role", "read", "--valid", "1h", "--data", dir)
		command(t, "api-token", "new", "all", "--data", dir)
		var got []admin.APIToken
		for line := range strings.Lines(command(t, "api-token", "list", "--json", "--data", dir)) {
			var one admin.APIToken
			if err := json.Unmarshal([]byte(line), &one); err != nil {
				t.Fatal(err)
			}
			got = append(got, one)
		}
		for _, one := range got {
			left := time.Until(one.Expires)
			switch one.Name {
			case "monitor":
				if one.Role != store.RoleRead || left > time.Hour || left < 30*time.Minute {
					t.Errorf("running %v: %+v", running, one)
				}
			default:
				if one.Role != store.RoleAll || !one.Expires.IsZero() {
					t.Errorf("running %v: %+v", running, one)
				}
			}
			command(t, "api-token", "revoke", one.ID, "--data", dir)
		}
		if len(got) != 2 {
			t.Errorf("running %v: %d tokens; want 2", running, len(got))
		}
	}
	for _, args := range []string{"password --valid=-1h", "password --role king", "password --remove --stdin", "password --remove --valid=1h", "api-token new x --valid=-1h", "api-token new x --role king"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(args), "--data", dir), &out, &errs); code != exitUsage || out.Len() > 0 {
			t.Errorf("%s: exit %d: %s%s; want exit %d", args, code, out.String(), errs.String(), exitUsage)
		}
	}
}

// A phone is called something by a command, while the server runs and while it
// does not.
func TestPhoneName(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	defer p.kill()
	command(t, "phone", "add", "02:00:5e:00:53:01", "--data", dir)
	phone, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(2))
	if _, err := phone.Register(t.Context(), announcement(phoneMAC(2), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{true, false} {
		if !running {
			p.kill()
		}
		name := fmt.Sprintf("Zoë, running %v", running)
		command(t, "phone", "name", "02:00:5e:00:53:01", "not on the net yet", "--data", dir)
		command(t, "phone", "name", "02:00:5e:00:53:02", name, "--label", "lobby", "--label", "2", "--data", dir)
		var row admin.Row
		if err := json.Unmarshal([]byte(command(t, "rows", "--json", "--data", dir)), &row); err != nil || row.Name != name || !slices.Equal(row.Labels, []string{"2", "lobby"}) {
			t.Errorf("running %v: %+v, %v", running, row, err)
		}
		command(t, "phone", "name", "02:00:5e:00:53:02", "--data", dir)
		if text := command(t, "rows", "--json", "--data", dir); strings.Contains(text, "name") {
			t.Errorf("running %v: after the name was taken away: %s", running, text)
		}
	}
	for _, args := range [][]string{{"a\nb"}, {strings.Repeat("x", 65)}, {"x", "--label", "\x1b[2J"}} {
		var out, errs bytes.Buffer
		args = append([]string{"phone", "name", "02:00:5e:00:53:02", "--data", dir}, args...)
		if code := run(t.Context(), args, &out, &errs); code != exitUsage || strings.Contains(errs.String(), "\x1b") {
			t.Errorf("%q: exit %d: %s; want exit %d", args, code, errs.String(), exitUsage)
		}
	}
}

// A phone that is not expected waits, is listed, and is let in by a command.
func TestWaitingCommand(t *testing.T) {
	dir := t.TempDir()
	p := serveFor(t, dir, "--enrol", "approve")
	phone, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	announce := func() error {
		_, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1"))
		return err
	}
	if err := announce(); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("before it is let in: %v", err)
	}
	var w admin.Waiter
	if err := json.Unmarshal([]byte(command(t, "waiting", "list", "--json", "--data", dir)), &w); err != nil || w.MAC != wire.MAC(phoneMAC(1)) || !w.From.IsLoopback() {
		t.Fatalf("waiting: %+v, %v", w, err)
	}
	fails := func(says string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append(append([]string{"waiting", "approve"}, args...), "--data", dir)
		if code := run(t.Context(), args, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), says) {
			t.Errorf("%q: exit %d: %s; want %q", args, code, errs.String(), says)
		}
	}
	fails("does not wait here", "02:00:5e:00:53:09")
	fails("does not wait here", w.MAC.String(), "--key", strings.Repeat("0", 63)+"1")
	// Another key claims the same MAC: the operator has to say which is meant.
	other, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := other.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.66")); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("another key: %v", err)
	}
	fails("2 keys wait", w.MAC.String())
	command(t, "waiting", "approve", w.MAC.String(), "--key", w.Key.String(), "--data", dir)
	if _, err := other.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.66")); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("another key, after one was let in: %v", err)
	}
	if err := announce(); err != nil {
		t.Errorf("after it was let in: %v", err)
	}
}
