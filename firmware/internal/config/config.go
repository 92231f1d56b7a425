// Package config reads the settings of a phone from a TOML file.
//
// It knows which settings there are, their defaults and what makes them wrong,
// and says at which line. It refuses to know what they are for.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Config is the settings of a phone. The zero value of a field means that the
// board, or the network, says it.
type Config struct {
	Board         string `toml:"board"`              // name of a board; empty: the one that /proc/device-tree names
	Keypad        string `toml:"keypad"`             // which of the board's keypads is wired; empty: its first
	Interface     string `toml:"interface"`          // network interface; empty: the board's
	Fallback      string `toml:"fallback_interface"` // used while Interface has no address, such as "wlan0"; empty: none
	StoringServer string `toml:"storing_server"`     // host or host:port; empty: DHCP option 66 or 160, or DNS SRV
	Token         string `toml:"enrolment_token"`    // shown to a storing server that asks for one, until it has enrolled the phone
	Data          string `toml:"data"`               // folder of key, lease and log
	Control       string `toml:"control"`            // path of the control socket

	Audio   Audio   `toml:"audio"`
	Address Address `toml:"address"`
}

// Audio says where sound comes from and goes to.
type Audio struct {
	Backend  string `toml:"backend"`  // "portaudio" or "wav"; empty: the board's
	Capture  string `toml:"capture"`  // device name, or a WAV file that is spoken
	Playback string `toml:"playback"` // device name, or a WAV file that is written
}

// Address says who gives the phone its address.
type Address struct {
	Source string       `toml:"source"` // "dhcp", "watch" or "static"
	Link   string       `toml:"link"`   // watch: what gets the address, such as "ppp0"; empty: Interface
	Prefix netip.Prefix `toml:"prefix"` // static: "192.0.2.9/24"
	Router netip.Addr   `toml:"router"` // static: default router, or nothing
	DNS    []netip.Addr `toml:"dns"`    // static

	Conflict  string `toml:"conflict"`   // dhcp: "fast" or "full" (RFC 5227) check that nobody else has the address
	LinkLocal bool   `toml:"link_local"` // dhcp: an address of our own (RFC 3927) while no server answers
	OnlyIPv6  bool   `toml:"only_ipv6"`  // dhcp: no IPv4 address where the network prefers that (RFC 8925)
	VLAN      string `toml:"vlan"`       // for voice: "1" to "4094", "auto" (LLDP-MED, DHCP option 132), or empty: none
}

// Default returns the settings of a phone that was told nothing.
func Default() Config {
	return Config{
		Data:    "/var/lib/flexphone",
		Control: "/run/flexphone/control.sock",
		Address: Address{Source: "dhcp", Conflict: "fast"},
	}
}

// Load reads the settings at path over the defaults.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	c, err := Parse(string(text))
	if err != nil {
		return Config{}, fmt.Errorf("config: %s: %w", path, err)
	}
	return c, nil
}

// Parse reads text over the defaults. A key that it does not know is an error
// that names the line.
func Parse(text string) (Config, error) {
	c := Default()
	meta, err := toml.Decode(text, &c)
	if err != nil {
		if at, ok := errors.AsType[toml.ParseError](err); ok {
			return Config{}, fmt.Errorf("line %d: %s", at.Position.Line, strings.TrimPrefix(at.Message, "toml: "))
		}
		return Config{}, fmt.Errorf("%w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return Config{}, fmt.Errorf("line %d: unknown setting %q; known are %s", lineOf(text, key), key, known)
	}
	return c, c.check()
}

const known = "board, keypad, interface, fallback_interface, storing_server, enrolment_token, data, control, [audio] backend, capture, playback, [address] source, link, prefix, router, dns, conflict, link_local, only_ipv6, vlan"

func (c Config) check() error {
	switch {
	case !slices.Contains([]string{"", "portaudio", "wav"}, c.Audio.Backend):
		return fmt.Errorf(`[audio] backend = %q: want "portaudio" or "wav"`, c.Audio.Backend)
	case !slices.Contains([]string{"dhcp", "watch", "static"}, c.Address.Source):
		return fmt.Errorf(`[address] source = %q: want "dhcp", "watch" or "static"`, c.Address.Source)
	case c.Address.Source == "static" && !c.Address.Prefix.IsValid():
		return errors.New(`[address] source = "static" wants prefix, such as "192.0.2.9/24"`)
	case c.Address.Source != "static" && (c.Address.Prefix.IsValid() || c.Address.Router.IsValid() || c.Address.DNS != nil):
		return errors.New(`[address] prefix, router and dns go with source = "static" only`)
	case c.Address.Source != "watch" && c.Address.Link != "":
		return errors.New(`[address] link goes with source = "watch" only`)
	case c.Address.Conflict != "fast" && c.Address.Conflict != "full":
		return fmt.Errorf(`[address] conflict = %q: want "fast" or "full"`, c.Address.Conflict)
	case c.Address.LinkLocal && c.Address.OnlyIPv6:
		return errors.New("[address] link_local and only_ipv6: one gives what the other does without")
	case !c.Address.vlanValid():
		return fmt.Errorf(`[address] vlan = %q: want "auto", or a number from "1" to "4094"`, c.Address.VLAN)
	case c.Fallback != "" && c.Fallback == c.Interface:
		return fmt.Errorf("fallback_interface = %q: want another than interface", c.Fallback)
	case c.Data == "":
		return errors.New("data: want a folder")
	case c.Control == "":
		return errors.New("control: want the path of a socket")
	}
	return nil
}

// VLANID returns the number of the fixed VLAN, 0 when VLAN is empty or "auto".
func (a Address) VLANID() int {
	n, _ := strconv.Atoi(a.VLAN) // checked
	return n
}

func (a Address) vlanValid() bool {
	if a.VLAN == "" || a.VLAN == "auto" {
		return true
	}
	n, err := strconv.Atoi(a.VLAN)
	return err == nil && n >= 1 && n <= 4094
}

// lineOf returns the line on which key is set, counted from 1. The decoder does
// not tell it, so this looks for the last part of the key behind its table.
func lineOf(text string, key toml.Key) int {
	table, name := strings.Join(key[:len(key)-1], "."), key[len(key)-1]
	current := ""
	first := 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			current = strings.Trim(strings.SplitN(line, "#", 2)[0], "[] \t")
			if current == strings.Join(key, ".") {
				return i + 1
			}
			continue
		}
		left, _, set := strings.Cut(line, "=")
		left = strings.ReplaceAll(strings.TrimSpace(left), " ", "")
		left = strings.Trim(left, `"'`)
		if !set {
			continue
		}
		if current == table && left == name || left == strings.Join(key, ".") {
			return i + 1
		}
		if first == 0 && strings.Contains(left, name) {
			first = i + 1
		}
	}
	return max(first, 1)
}
