// Package config reads the settings of a phone from a TOML file.
//
// It knows which settings there are, their defaults and what makes them wrong,
// and says at which line. It refuses to know what they are for: which boards there
// are, for instance, it is told by Checks.
//
// # Why value by value
//
// A phone whose settings have one mistake must start, and be itself as far as it
// can: with the data folder and the interface that the rest of the file names it
// has the key and the number that it had yesterday. So only a file that is no TOML
// at all is replaced as a whole (Over).
package config

import (
	"net/netip"
	"strconv"
)

// A Config is the settings of a phone. The zero value of a field means that the
// board, or the network, says it.
type Config struct {
	Board         string `toml:"board"`              // name of a board; empty: the one that /proc/device-tree names
	Keypad        string `toml:"keypad"`             // which of the board's keypads is wired; empty: its first
	Interface     string `toml:"interface"`          // network interface; empty: the board's
	Fallback      string `toml:"fallback_interface"` // used while Interface has no address, such as "wlan0"; empty: none
	StoringServer string `toml:"storing_server"`     // one or several, as a person may write them; empty: DHCP option 160 or 66, or DNS SRV
	Token         string `toml:"enrolment_token"`    // shown to a storing server that asks for one, until it has enrolled the phone
	OnlyPrivate   bool   `toml:"only_private"`       // calls whose sound is not private are neither made nor taken
	TellQuality   bool   `toml:"tell_quality"`       // the storing server is told how calls were heard
	Relayed       string `toml:"relayed"`            // whose calls by the storing server are taken: "anybody", or "known", who was called or has called before
	Data          string `toml:"data"`               // folder of key, lease and log
	Control       string `toml:"control"`            // path of the control socket

	Audio   Audio   `toml:"audio"`
	Address Address `toml:"address"`
}

// Audio says where sound comes from and goes to.
type Audio struct {
	Backend  string `toml:"backend"`   // "portaudio" or "wav"; empty: the board's
	Capture  string `toml:"capture"`   // device name, or a WAV file that is spoken
	Playback string `toml:"playback"`  // device name, or a WAV file that is written
	Ringer   string `toml:"ringer"`    // device name of what rings; empty: the board's, or Playback
	Mode     string `toml:"mode"`      // how it is talked into: "handset", "hands-free", or "off"; empty: off with WAV files, else the board's
	Codecs   string `toml:"codecs"`    // by their names, preferred first, with spaces between; empty: as the program does
	SideTone bool   `toml:"side_tone"` // whoever speaks hears himself in the handset
	Volume   int    `toml:"volume"`    // 0 to 10, in steps of 3 dB, until another is set and kept; 6 is as it comes
}

// Address says who gives the phone its address.
type Address struct {
	Source string       `toml:"source"` // "dhcp", "watch" or "static"
	Link   string       `toml:"link"`   // watch: what gets the address, such as "ppp0"; empty: Interface
	Prefix netip.Prefix `toml:"prefix"` // static: "192.0.2.9/24"
	Router netip.Addr   `toml:"router"` // static: default router, or nothing
	DNS    []netip.Addr `toml:"dns"`    // static

	Conflict   string `toml:"conflict"`    // dhcp: "fast" or "full" (RFC 5227) check that nobody else has the address
	LinkLocal  bool   `toml:"link_local"`  // dhcp: an address of our own (RFC 3927) while no server answers
	OnlyIPv6   bool   `toml:"only_ipv6"`   // dhcp: no IPv4 address where the network prefers that (RFC 8925)
	ResolvConf *bool  `toml:"resolv_conf"` // whether the lease's name servers are written to /etc/resolv.conf; nil: the board says it
	VLAN       string `toml:"vlan"`        // for voice: "1" to "4094", "auto" (LLDP-MED, DHCP option 132), or empty: none
}

// Default returns the settings of a phone that was told nothing.
func Default() Config {
	return Config{
		Data:    "/var/lib/flexphone",
		Control: "/run/flexphone/control.sock",
		Relayed: "anybody",
		Audio:   Audio{Volume: 6},
		Address: Address{Source: "dhcp", Conflict: "fast"},
	}
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
