// Package voice keeps a phone on the VLAN where telephones belong (IEEE 802.1Q): that
// of the settings, of a switch that says so by LLDP-MED, or of option 132 of the DHCP
// server of the untagged network. It stands above a Source, which it has made anew on
// each VLAN, and refuses to know how an address comes to be there.
//
//	place.go        where the phone belongs, and since when it is known
//	machine.go      the moves that follow, without I/O and without a clock: (now, input) → actions
//	voice_linux.go  runs the machine; vlan_linux.go makes the interfaces
//
// # Why a VLAN is left
//
// A VLAN has a reason: a switch's policy, which holds for the time that the switch says
// and as long as it repeats it, or option 132 of the server of the untagged network. It
// is left when the reason is gone, or the phone would be dead at the next desk. A cable
// that was out may be plugged in elsewhere, where the switch gets the time of a first
// one to say it again.
package voice
