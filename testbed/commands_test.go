package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exitOf runs one of our programs and returns its exit code and what it said.
func exitOf(t *testing.T, binary string, args ...string) (int, string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err == nil {
		return 0, string(out)
	}
	return exit.ExitCode(), string(out)
}

// Scripts rely on the exit codes, people on what the errors say.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	phone, err := findBinary("flexphone")
	must(t, err)
	server, err := findBinary("storing-server")
	must(t, err)
	settings := filepath.Join(t.TempDir(), "flexphone.toml")
	must(t, os.WriteFile(settings, []byte("board = \"host\"\ncolour = \"red\"\n"), 0o600))
	for _, tt := range []struct {
		name   string
		binary string
		args   []string
		code   int
		says   string
	}{
		{"help", phone, []string{"--help"}, 0, "ctl"},
		{"no such command", phone, []string{"fly"}, 2, "fly"},
		{"nobody answers", phone, []string{"ctl", "--control", filepath.Join(t.TempDir(), "none"), "status"}, 1, "none"},
		{"unknown key in the settings", phone, []string{"run", "--config", settings}, 2, "line 2"},
		{"a trace of nothing that is known", phone, []string{"run", "--trace", "smoke"}, 2, "dhcp"},
		{"server's help", server, []string{"--help"}, 0, "rows"},
		{"no such command of the server", server, []string{"fly"}, 2, "fly"},
		{"no server runs", server, []string{"rows", "--data", t.TempDir()}, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, said := exitOf(t, tt.binary, tt.args...)
			if code != tt.code || !strings.Contains(said, tt.says) {
				t.Errorf("exit %d: %s; want %d and %q", code, said, tt.code, tt.says)
			}
		})
	}
}

// `flexphone ctl events` prints a JSON object a line, each with a time to the
// nanosecond and a name.
func TestEventsForScripts(t *testing.T) {
	ctx, _, phones := town(t, Config{}, 1)
	p := phones[0]
	watch, err := p.host.run(p.dir, command{name: "watch", path: p.binary, args: []string{"ctl", "--control", p.Control(), "events"}})
	must(t, err)
	defer watch.kill()
	// Whoever lifts and lays the handset until it is seen needs no knowledge of
	// when the watching began.
	seen := make(chan string, 1)
	go func() {
		line, _, err := watch.await(ctx, 0, func(line string) bool { return strings.Contains(line, `"state":"dialing"`) })
		if err == nil {
			seen <- line
		}
	}()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		must(t, p.OffHook(ctx))
		must(t, p.OnHook(ctx))
		select {
		case line := <-seen:
			var e struct {
				Time  time.Time
				Event string
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event != "state" || e.Time.IsZero() {
				t.Errorf("event %s: %+v, %v", line, e, err)
			}
			return
		case <-again.C:
		case <-ctx.Done():
			t.Fatal("no event seen")
		}
	}
}

// How a phone is talked into is set, told, and shown, and how loud it is lasts.
func TestDesk(t *testing.T) {
	ctx, _, phones := town(t, Config{}, 1)
	p := phones[0]
	if board() != hostBoard {
		t.Skip("a virtual machine has no shell; what is set is the same on every board")
	}
	// A key is heard of a moment after it was pressed.
	says := func(after, want string) {
		t.Helper()
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for {
			out, err := p.Ctl(bounded, "status")
			if strings.Contains(strings.ReplaceAll(out, " ", ""), want) {
				return
			}
			if err != nil {
				t.Fatalf("after %s the status is %s, %v; want %s", after, out, err, want)
			}
		}
	}
	for _, tt := range []struct{ args, says string }{
		{"volume 3", `"volume":3`}, {"volume 4 ringer", `"volumes":{"handset":3,"loudspeaker":6,"ringer":4}`}, {"press +", `"ringer":5`},
		{"press -", `"ringer4of10"]`}, {"press +", `"ringer5of10"]`}, {"mute on", `"muted,`}, {"mute off", `"muted":false`}, {"mode hands-free", `"mode":"hands-free"`}, {"mute on", `"muted":true`}, {"mute off", `"muted":false`}, {"mode off", `"mode":"off"`},
	} {
		_, err := p.Ctl(ctx, strings.Fields(tt.args)...)
		must(t, err)
		says(tt.args, tt.says)
	}
	_, err := p.Ctl(ctx, "mute", "on")
	must(t, err)
	must(t, p.PowerOff())
	must(t, p.PowerOn(ctx))
	says("a restart", `"volumes":{"handset":3,"loudspeaker":6,"ringer":5},"muted":false`)
	for _, args := range []string{"volume 11", "volume loud", "volume 5 trumpet", "mode loud", "mute perhaps"} {
		if out, err := p.Ctl(ctx, strings.Fields(args)...); err == nil {
			t.Errorf("%s is taken: %s", args, out)
		}
	}
}
