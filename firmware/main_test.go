package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/parts"
	"flexphone/hal"
)

func TestExitCodesAndWhatErrorsSay(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "phone.toml")
	if err := os.WriteFile(wrong, []byte("bord = \"host\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	noBoard, noServer := filepath.Join(t.TempDir(), "board.toml"), filepath.Join(t.TempDir(), "server.toml")
	for path, text := range map[string]string{noBoard: "interface = \"eth0\"\nboard = \"hosst\"\n", noServer: "storing_server = \"tftp://192.0.2.1\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "--help"},
		{"fly", exitUsage, "fly"},
		{"ctl hook sideways", exitUsage, "off"},
		{"run --config /nonexistent.toml", exitUsage, "/nonexistent.toml"},
		{"run --config " + wrong, exitUsage, "line 1"},
		{"run --config " + noBoard, exitUsage, "line 2: board = \"hosst\""},
		{"run --config " + noServer, exitUsage, "line 1: storing_server"},
		{"ctl --control /nonexistent.sock status", exitFailed, "/nonexistent.sock"},
		{"run --trace sip,smoke", exitUsage, `want one of sip, rtp, dhcp, coap, not "smoke"`},
		{"ctl profile lunch", exitUsage, "cpu, heap, goroutines"},
		{"run --log loud", exitUsage, "text, json"},
		{"run fast", exitUsage, "fast"},
		{"ctl", exitUsage, "status"},
		{"ctl fly", exitUsage, "fly"},
		{"ctl dial", exitUsage, "NUMBER"},
		{"ctl dial 1 2", exitUsage, "2"},
		{"ctl volume 3 ringer now", exitUsage, "now"},
		{"ctl volume 3 ringer --control /nonexistent.sock", exitFailed, "/nonexistent.sock"},
		{"ctl status now", exitUsage, "now"},
		{"ctl status --control /nonexistent.sock", exitFailed, "/nonexistent.sock"},
		{"ctl press 12# --control=/nonexistent.sock", exitFailed, "/nonexistent.sock"},
		{"rotate-key --speed 3", exitUsage, "speed"},
		{"rotate-key", exitUsage, "--server"},
		{"--help", exitDone, "Work as a phone"},
		{"run --help", exitDone, "--fallback FILE"},
		{"ctl --help", exitDone, "hook off|on"},
		{"ctl press --help", exitDone, "KEYS"},
	} {
		var out bytes.Buffer
		code := execute(t.Context(), strings.Fields(tt.args), &out, &out)
		if code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("flexphone %s: exit %d, %q; want exit %d and %q", tt.args, code, out.String(), tt.code, tt.says)
		}
	}
}

// A board is a phone's parts, kept as runPhone does.
type kit struct {
	*hardware
	keeper *parts.Keeper
	failed chan string // parts, with why
	works  chan string
}

// PartFailed implements parts.Teller.
func (k kit) PartFailed(_ context.Context, part string, err error) {
	k.failed <- part + ": " + err.Error()
}

// PartWorks implements parts.Teller.
func (k kit) PartWorks(_ context.Context, part string) { k.works <- part }

func newKit(t *testing.T, board string, keypad string) kit {
	t.Helper()
	b, err := boards.Named(board)
	if err != nil {
		t.Fatal(err)
	}
	k := kit{hardware: newHardware(b, config.Config{Keypad: keypad}), failed: make(chan string, 64), works: make(chan string, 64)}
	k.keeper = parts.New(k, func(parts.Panic) {})
	ctx, cancel := context.WithCancel(t.Context())
	half := newHalf(ctx, k.keeper)
	half.group.Go(func() { k.keeper.Tell(ctx) })
	for part, life := range k.lives() {
		half.keep(part, life)
	}
	t.Cleanup(func() {
		cancel()
		half.group.Wait()
	})
	return k
}

// A part that is not there must be told of, and must not keep the rest from
// working.
func TestMissingPartsAreToldOf(t *testing.T) {
	k := newKit(t, "rpi", "") // its GPIO chip is not in the machine that tests
	missing := map[string]bool{}
	for len(missing) < 3 {
		part, why, _ := strings.Cut(<-k.failed, ": ")
		if missing[part] = true; why == "" {
			t.Errorf("%s does not say why", part)
		}
	}
	for _, part := range []string{"keypad", "hook switch", "lamp"} {
		if why, _ := k.keeper.Broken(); why[part] == "" {
			t.Errorf("the %s that is missing is not told of; %v are", part, why)
		}
	}
	if err := k.lamp.SetLamp(hal.LampOn); err != nil {
		t.Errorf("SetLamp() = %v; what cannot be shown now is shown later", err)
	}
}

// Which of a board's keypads is there, a setting says.
func TestKeypadOfSettings(t *testing.T) {
	for _, tt := range []struct {
		keypad    string
		simulated bool
		says      string
	}{
		{"simulated", true, ""},
		{"", false, "GPIO"}, // the first, whose chip is not here
		{"abacus", false, `rpi has no keypad "abacus"; it has matrix, matrix-4x4, simulated`},
	} {
		k := newKit(t, "rpi", tt.keypad)
		if (k.simKeypad != nil) != tt.simulated || (k.simHook != nil) != tt.simulated {
			t.Errorf("keypad %q: simulated keypad %v, hook switch %v; want %v", tt.keypad, k.simKeypad != nil, k.simHook != nil, tt.simulated)
		}
		if tt.simulated {
			if err := k.simKeypad.Press("7"); err != nil {
				t.Fatal(err)
			}
			if e, err := k.hardware.keypad.ReadKey(t.Context()); err != nil || e.Key != '7' {
				t.Errorf("keypad %q: %v, %v", tt.keypad, e, err)
			}
			continue
		}
		for {
			part, why, _ := strings.Cut(<-k.failed, ": ")
			if part == "keypad" {
				if !strings.Contains(why, tt.says) {
					t.Errorf("keypad %q: %s; want it to say %q", tt.keypad, why, tt.says)
				}
				break
			}
		}
	}
}

// A driver that fails is opened again; what is to be shown then is the newest, and
// the state of the hook is told once.
func TestADriverIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kit{failed: make(chan string, 64), works: make(chan string, 64)}
		k.keeper = parts.New(k, func(parts.Panic) {})
		ctx, cancel := context.WithCancel(t.Context())
		half := newHalf(ctx, k.keeper)
		var shown []hal.LampState
		away := errors.New("unplugged")
		var l lamp
		half.keep("lamp", l.run(func() (func(hal.LampState) error, io.Closer, error) {
			if len(shown) == 1 {
				shown = append(shown, -1)
				return nil, nil, away
			}
			return func(s hal.LampState) error {
				if shown = append(shown, s); s == hal.LampBlink && len(shown) == 1 {
					return away
				}
				return nil
			}, nothing{}, nil
		}))
		h := hook{input: newInput[hal.HookState]()}
		lives := 0
		half.keep("hook switch", h.run(func(context.Context) (func(context.Context) (hal.HookState, error), io.Closer, error) {
			lives++
			reads := 0
			return func(ctx context.Context) (hal.HookState, error) {
				switch reads++; {
				case reads == 1:
					return hal.OffHook, nil // the present state
				case lives < 3:
					return 0, away
				case reads == 2:
					return hal.OnHook, nil
				}
				<-ctx.Done()
				return 0, ctx.Err()
			}, nothing{}, nil
		}))
		l.SetLamp(hal.LampBlink)
		synctest.Wait()
		l.SetLamp(hal.LampOff)
		l.SetLamp(hal.LampOn)
		var states []hal.HookState
		for range 2 {
			s, err := h.ReadHook(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, s)
		}
		time.Sleep(time.Minute)
		cancel()
		half.group.Wait()
		if want := []hal.HookState{hal.OffHook, hal.OnHook}; !slices.Equal(states, want) || lives != 3 {
			t.Errorf("hook states %v in %d lives; want %v in 3", states, lives, want)
		}
		if want := []hal.LampState{hal.LampBlink, -1, hal.LampOn}; !slices.Equal(shown, want) {
			t.Errorf("shown %v; want %v", shown, want)
		}
		if why, _ := k.keeper.Broken(); len(why) != 0 {
			t.Errorf("still broken: %v", why)
		}
	})
}

// A phone whose settings were spoiled must start with others, and know why.
func TestWrongSettingsFallBack(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, spoiled := write("good", "board = \"host\"\ndata = \"/good\"\n"), write("spoiled", "boa\x00rd = ")
	for _, tt := range []struct {
		name, config, fallback string
		board, data, server    string
		says                   string // of what is wrong; empty: nothing is
	}{
		{"right settings", good, spoiled, "host", "/good", "", ""},
		{"spoiled settings", spoiled, good, "host", "/good", "", "spoiled: line 1"},
		{"no settings", filepath.Join(dir, "none"), good, "host", "/good", "", "none"},
		{"both spoiled", spoiled, spoiled, "unknown", "/var/lib/flexphone", "", "spoiled"},
		{"none asked for", "", good, "host", "/good", "", ""},
		{"a board that does not exist", write("board", "board = \"hosst\"\ndata = \"/own\"\n"), good, "host", "/own", "", `line 1: board = "hosst"`},
		{"a server of another kind", write("server", "data = \"/own\"\nstoring_server = \"http://x/\"\n"), good, "host", "/own", "", "line 2: storing_server"},
		{"a URL", write("url", "storing_server = \"coaps://192.0.2.2:5684\"\n"), good, "host", "/good", "coaps://192.0.2.2:5684", ""},
	} {
		s, b, wrong := settingsOf(tt.config, tt.fallback)
		if b.Name != tt.board || s.Data != tt.data || s.StoringServer != tt.server || s.Interface == "" {
			t.Errorf("%s: board %q, data %q, server %q, interface %q", tt.name, b.Name, s.Data, s.StoringServer, s.Interface)
		}
		if (wrong != nil) != (tt.says != "") || wrong != nil && !strings.Contains(wrong.Error(), tt.says) {
			t.Errorf("%s: %v; want %q", tt.name, wrong, tt.says)
		}
	}
}

// The file of name servers is a machine's own, unless its image is ours or the
// settings say so.
func TestWhoseNameServers(t *testing.T) {
	for _, board := range boards.All() {
		for setting, want := range map[string]string{
			"":                    map[bool]string{true: "/etc/resolv.conf"}[board.Name != "host"],
			"resolv_conf = true":  "/etc/resolv.conf",
			"resolv_conf = false": "",
		} {
			path := filepath.Join(t.TempDir(), "flexphone.toml")
			text := fmt.Sprintf("board = %q\n[address]\n%s\n", board.Name, setting)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _, err := settingsOf(path, "")
			if err != nil {
				t.Fatal(err)
			}
			if got := resolvConf(s.Address); got != want {
				t.Errorf("%s with %q writes %q; want %q", board.Name, setting, got, want)
			}
		}
	}
}
