package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/phone"
	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

func TestExitCodesAndWhatErrorsSay(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "phone.toml")
	if err := os.WriteFile(wrong, []byte("bord = \"host\"\n"), 0o600); err != nil {
		t.Fatal(err)
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
		{"ctl --control /nonexistent.sock status", exitFailed, "/nonexistent.sock"},
		{"--help", exitDone, "Work as a phone"},
	} {
		var out bytes.Buffer
		code := execute(t.Context(), strings.Fields(tt.args), &out, &out)
		if code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("flexphone %s: exit %d, %q; want exit %d and %q", tt.args, code, out.String(), tt.code, tt.says)
		}
	}
}

func TestAMissingInterfaceIsNamed(t *testing.T) {
	s := config.Default()
	s.Board, s.Interface, s.Data = "host", "nosuch0", t.TempDir()
	err := runPhone(t.Context(), s, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "nosuch0") || !strings.Contains(err.Error(), "ip link") {
		t.Errorf("runPhone() = %v; want what is missing and what to do", err)
	}
}

func TestThePhoneOwnsItsNumbersAlone(t *testing.T) {
	s := newSelf(netlink.MAC{0x02, 0, 0x5e, 0, 0x53, 0xab})
	s.renumber("101")
	for user, want := range map[string]bool{
		"02005e0053ab": true, "02005E0053AB": true, "02:00:5e:00:53:ab": true, "02-00-5e-00-53-ab": true,
		s.mac.Digits(): true, "101": true, "": true,
		"102": false, "02005e0053ac": false, "1": false, "000000000000101": false,
	} {
		if got := s.owns(user); got != want {
			t.Errorf("owns(%q) = %v; want %v", user, got, want)
		}
	}
}

// rows answers every query with one row or error.
type rows struct {
	registry.Server
	row wire.Row
	err error
}

func (r rows) Resolve(context.Context, wire.Query) (wire.Row, error) { return r.row, r.err }

func TestDirectory(t *testing.T) {
	row := wire.Row{
		MAC: wire.MAC{2, 0, 0, 0, 0x53, 1}, Number: "102", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")},
		Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Fingerprint: wire.Fingerprint{1}, State: wire.Online,
	}
	ask := func(r rows) (phone.Peer, error) {
		return directory{r}.Resolve(t.Context(), phone.Destination{Number: "102"})
	}
	p, err := ask(rows{row: row})
	if err != nil || p.Name != "102" || p.Target.User != "020000005301" || p.Target.Addr.String() != "192.0.2.9:5061" || p.Target.Pin != row.Fingerprint {
		t.Errorf("Resolve() = %+v, %v; want TLS to the key of the row", p, err)
	}
	plain := row
	plain.Ports.SIPS = 0
	if p, _ := ask(rows{row: plain}); p.Target.Addr.Port() != 5060 || p.Target.Pin != [32]byte{} {
		t.Errorf("a phone without TLS: %+v", p)
	}
	away := row
	away.State = wire.Offline
	if _, err := ask(rows{row: away}); !errors.Is(err, phone.ErrOffline) {
		t.Errorf("Resolve() of an offline phone = %v", err)
	}
	if _, err := ask(rows{err: registry.ErrUnknown}); !errors.Is(err, phone.ErrUnknown) {
		t.Errorf("Resolve() of an unknown number = %v", err)
	}
	if _, err := ask(rows{err: registry.ErrUnreachable}); errors.Is(err, phone.ErrUnknown) || errors.Is(err, phone.ErrOffline) {
		t.Errorf("Resolve() without a server = %v; want neither unknown nor offline", err)
	}
	at, err := directory{rows{err: registry.ErrUnreachable}}.Resolve(t.Context(), phone.Destination{Addr: netip.MustParseAddr("10.77.0.9")})
	if err != nil || at.Target.Addr.String() != "10.77.0.9:5060" || at.Target.User != "10.77.0.9" {
		t.Errorf("an address was resolved to %+v, %v; it needs no server", at, err)
	}
}

// A part that is not there must be told of, and must not keep the rest from
// working.
func TestMissingPartsStayAbsent(t *testing.T) {
	b, err := boards.Named("rpi") // its GPIO chip is not in the machine that tests
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := openHardware(t.Context(), b, config.Config{Audio: config.Audio{Backend: "wav"}}, newLog(&log, "json", false))
	defer h.close(slog.New(slog.DiscardHandler))
	if _, err := h.keypad.ReadKey(t.Context()); err == nil {
		t.Error("ReadKey() of a missing keypad gave a key")
	}
	if d, err := h.openSound(); err != nil {
		t.Errorf("the sound that is there was not opened: %v", err)
	} else {
		d.Close()
	}
	if got := log.String(); !strings.Contains(got, `"part":"keypad"`) || !strings.Contains(got, `"part":"hook switch"`) {
		t.Errorf("the log does not name the parts:\n%s", got)
	}
}

// Which of a board's keypads is there, a setting says.
func TestKeypadOfSettings(t *testing.T) {
	b, err := boards.Named("rpi")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		keypad    string
		simulated bool
		says      string
	}{
		{"simulated", true, ""},
		{"", false, "GPIO"}, // the first, whose chip is not here
		{"abacus", false, `rpi has no keypad "abacus"; it has matrix, simulated`},
	} {
		h := openHardware(t.Context(), b, config.Config{Keypad: tt.keypad, Audio: config.Audio{Backend: "wav"}}, quiet)
		if (h.simKeypad != nil) != tt.simulated || (h.simHook != nil) != tt.simulated {
			t.Errorf("keypad %q: simulated keypad %v, hook switch %v; want %v", tt.keypad, h.simKeypad != nil, h.simHook != nil, tt.simulated)
		}
		if a, missing := h.keypad.(absent); missing == tt.simulated || missing && tt.says != "" && !strings.Contains(a.err.Error(), tt.says) {
			t.Errorf("keypad %q: %+v; want it to say %q", tt.keypad, h.keypad, tt.says)
		}
		h.close(quiet)
	}
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
	good, spoiled := write("good", "board = \"host\"\n"), write("spoiled", "boa\x00rd = ")
	for _, tt := range []struct {
		name, config, fallback, board string
		wrong                         bool
	}{
		{"right settings", good, spoiled, "host", false},
		{"spoiled settings", spoiled, good, "host", true},
		{"no settings", filepath.Join(dir, "none"), good, "host", true},
		{"both spoiled", spoiled, spoiled, "", true},
		{"none asked for", "", good, "", false},
	} {
		r := runCommand{Config: tt.config, Fallback: tt.fallback}
		s, wrong := r.load()
		if s.Board != tt.board || (wrong != nil) != tt.wrong || s.Data == "" {
			t.Errorf("%s: board %q, data %q, %v", tt.name, s.Board, s.Data, wrong)
		}
	}
}
