// Package lldp is what switches and telephones say to each other about where
// telephones belong: LLDP (IEEE 802.1AB) with the TLVs of LLDP-MED (ANSI/TIA-1057). It
// reads and writes; whom to believe is not known here.
package lldp

import (
	"encoding/binary"
	"errors"
	"time"

	"flexphone/internal/mac"
)

// A Policy is what a switch says about telephones (ANSI/TIA-1057 §10.2.3,
// application type voice).
type Policy struct {
	VLAN     uint16 // 0: untagged, or tagged with a priority alone
	Priority uint8  // 802.1p
	DSCP     uint8
	Life     time.Duration // how long it is good for; 0: the switch says farewell
}

// TLVs of IEEE 802.1AB §8.4, and their subtypes.
const (
	end             = 0
	chassis         = 1
	port            = 2
	lifetime        = 3
	systemName      = 5
	capabilities    = 7
	private         = 127
	byMAC           = 4 // chassis; 3 for a port
	telephone       = 1 << 5
	medCapabilities = 1
	medPolicy       = 2
	medVoice        = 1
)

// OUI begins the TLVs of TIA-1057.
const OUI = "\x00\x12\xbb"

// EtherType is the EtherType of LLDP (IEEE 802.1AB §8.3).
const EtherType = 0x88cc

// MaxVLAN is the highest number of a VLAN (IEEE 802.1Q §9.6).
const MaxVLAN = 4094

// Group is where LLDP is sent: bridges do not pass it on.
func Group() mac.Address { return mac.Address{0x01, 0x80, 0xc2, 0, 0, 0x0e} }

var errMalformed = errors.New("netlink: parse LLDP: malformed")

// A Message is what a neighbour says in one LLDPDU.
type Message struct {
	From   string // its chassis and port
	Device uint8  // its class by TIA-1057 §10.2.2; 0: it does not speak LLDP-MED
	Voice  bool   // it has a policy for voice
	Policy Policy // life alone counts without one
}

// Connectivity is the class of what telephones are plugged into.
const Connectivity = 4

// Parse reads an LLDPDU (the payload of the Ethernet frame).
func Parse(b []byte) (says Message, err error) {
	for n := 0; ; n++ {
		if len(b) < 2 {
			return Message{}, errMalformed
		}
		head := binary.BigEndian.Uint16(b)
		kind, size := int(head>>9), int(head&0x1ff)
		if len(b) < 2+size {
			return Message{}, errMalformed
		}
		v := b[2 : 2+size]
		b = b[2+size:]
		switch {
		case n < 3 && kind != n+1: // these three come first, in order
			return Message{}, errMalformed
		case kind == end:
			return says, nil
		case kind == chassis && n == 0, kind == port && n == 1:
			says.From += string(rune(size)) + string(v)
		case kind == lifetime && n == 2:
			if size < 2 {
				return Message{}, errMalformed
			}
			says.Policy.Life = time.Duration(binary.BigEndian.Uint16(v)) * time.Second
		case kind != private || size < 4 || string(v[:3]) != OUI:
		case v[3] == medCapabilities && size == 7:
			says.Device = v[6]
		case v[3] == medPolicy && size == 8 && v[4] == medVoice:
			// Application, then U, T, X, VLAN (12 bits), priority (3), DSCP (6).
			bits := uint32(v[5])<<16 | uint32(v[6])<<8 | uint32(v[7])
			if bits>>23&1 == 1 { // unknown: the switch asks, too
				continue
			}
			says.Voice, says.Policy.VLAN = true, 0
			if tagged := bits>>22&1 == 1; tagged {
				if says.Policy.VLAN = uint16(bits >> 9 & 0xfff); says.Policy.VLAN > MaxVLAN {
					return Message{}, errMalformed
				}
			}
			says.Policy.Priority, says.Policy.DSCP = uint8(bits>>6&7), uint8(bits&0x3f)
		}
	}
}

// Telephone builds the LLDPDU of a telephone, a communication device, endpoint
// class III: a switch says nothing about voice to who does not speak LLDP-MED
// itself. life is told to the second.
func Telephone(mac mac.Address, name string, life time.Duration, p Policy, known bool) []byte {
	return Build(mac, name, 3, life, p, known)
}

func Build(mac mac.Address, name string, device uint8, life time.Duration, p Policy, known bool) []byte {
	var b []byte
	put := func(kind int, v ...byte) {
		b = binary.BigEndian.AppendUint16(b, uint16(kind<<9|len(v)))
		b = append(b, v...)
	}
	put(chassis, append([]byte{byMAC}, mac[:]...)...)
	put(port, append([]byte{3}, mac[:]...)...)
	put(lifetime, binary.BigEndian.AppendUint16(nil, uint16(life/time.Second))...)
	if name != "" {
		put(systemName, []byte(name[:min(len(name), 255)])...)
	}
	put(capabilities, 0, telephone, 0, telephone)
	// Capabilities and network policy.
	put(private, append([]byte(OUI), medCapabilities, 0, 3, device)...)
	bits := uint32(1) << 23
	if known {
		bits = uint32(p.VLAN)<<9 | uint32(p.Priority)<<6 | uint32(p.DSCP)
		if p.VLAN != 0 {
			bits |= 1 << 22
		}
	}
	put(private, append([]byte(OUI), medPolicy, medVoice, byte(bits>>16), byte(bits>>8), byte(bits))...)
	put(end)
	return b
}
