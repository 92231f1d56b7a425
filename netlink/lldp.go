package netlink

import (
	"encoding/binary"
	"errors"
	"time"
)

// A voicePolicy is what a switch says about telephones (ANSI/TIA-1057 §10.2.3,
// application type voice).
type voicePolicy struct {
	vlan     uint16 // 0: untagged, or tagged with a priority alone
	priority uint8  // 802.1p
	dscp     uint8
	life     time.Duration // how long it is good for; 0: the switch says farewell
}

// TLVs of IEEE 802.1AB §8.4, and their subtypes.
const (
	lldpEnd          = 0
	lldpChassis      = 1
	lldpPort         = 2
	lldpTTL          = 3
	lldpSystemName   = 5
	lldpCapabilities = 7
	lldpPrivate      = 127
	lldpByMAC        = 4 // chassis; 3 for a port
	lldpTelephone    = 1 << 5
	medCapabilities  = 1
	medPolicy        = 2
	medVoice         = 1
)

// medOUI begins the TLVs of TIA-1057.
const medOUI = "\x00\x12\xbb"

// lldpGroup is where LLDP is sent: bridges do not pass it on.
func lldpGroup() MAC { return MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e} }

var errLLDP = errors.New("netlink: parse LLDP: malformed")

// An lldpSays is what a neighbour says in one LLDPDU.
type lldpSays struct {
	from   string      // its chassis and port
	device uint8       // its class by TIA-1057 §10.2.2; 0: it does not speak LLDP-MED
	voice  bool        // it has a policy for voice
	policy voicePolicy // life alone counts without one
}

// medConnectivity is the class of what telephones are plugged into.
const medConnectivity = 4

// parseLLDP reads an LLDPDU (the payload of the Ethernet frame).
func parseLLDP(b []byte) (says lldpSays, err error) {
	for n := 0; ; n++ {
		if len(b) < 2 {
			return lldpSays{}, errLLDP
		}
		head := binary.BigEndian.Uint16(b)
		kind, size := int(head>>9), int(head&0x1ff)
		if len(b) < 2+size {
			return lldpSays{}, errLLDP
		}
		v := b[2 : 2+size]
		b = b[2+size:]
		switch {
		case n < 3 && kind != n+1: // these three come first, in order
			return lldpSays{}, errLLDP
		case kind == lldpEnd:
			return says, nil
		case kind == lldpChassis && n == 0, kind == lldpPort && n == 1:
			says.from += string(rune(size)) + string(v)
		case kind == lldpTTL && n == 2:
			if size < 2 {
				return lldpSays{}, errLLDP
			}
			says.policy.life = time.Duration(binary.BigEndian.Uint16(v)) * time.Second
		case kind != lldpPrivate || size < 4 || string(v[:3]) != medOUI:
		case v[3] == medCapabilities && size == 7:
			says.device = v[6]
		case v[3] == medPolicy && size == 8 && v[4] == medVoice:
			// Application, then U, T, X, VLAN (12 bits), priority (3), DSCP (6).
			bits := uint32(v[5])<<16 | uint32(v[6])<<8 | uint32(v[7])
			if bits>>23&1 == 1 { // unknown: the switch asks, too
				continue
			}
			says.voice, says.policy.vlan = true, 0
			if tagged := bits>>22&1 == 1; tagged {
				if says.policy.vlan = uint16(bits >> 9 & 0xfff); says.policy.vlan > maxVLAN {
					return lldpSays{}, errLLDP
				}
			}
			says.policy.priority, says.policy.dscp = uint8(bits>>6&7), uint8(bits&0x3f)
		}
	}
}

// voiceLLDP builds the LLDPDU of a telephone, a communication device, endpoint
// class III: a switch says nothing about voice to who does not speak LLDP-MED
// itself. life is told to the second.
func voiceLLDP(mac MAC, name string, life time.Duration, p voicePolicy, known bool) []byte {
	return medLLDP(mac, name, 3, life, p, known)
}

func medLLDP(mac MAC, name string, device uint8, life time.Duration, p voicePolicy, known bool) []byte {
	var b []byte
	put := func(kind int, v ...byte) {
		b = binary.BigEndian.AppendUint16(b, uint16(kind<<9|len(v)))
		b = append(b, v...)
	}
	put(lldpChassis, append([]byte{lldpByMAC}, mac[:]...)...)
	put(lldpPort, append([]byte{3}, mac[:]...)...)
	put(lldpTTL, binary.BigEndian.AppendUint16(nil, uint16(life/time.Second))...)
	if name != "" {
		put(lldpSystemName, []byte(name[:min(len(name), 255)])...)
	}
	put(lldpCapabilities, 0, lldpTelephone, 0, lldpTelephone)
	// Capabilities and network policy.
	put(lldpPrivate, append([]byte(medOUI), medCapabilities, 0, 3, device)...)
	bits := uint32(1) << 23
	if known {
		bits = uint32(p.vlan)<<9 | uint32(p.priority)<<6 | uint32(p.dscp)
		if p.vlan != 0 {
			bits |= 1 << 22
		}
	}
	put(lldpPrivate, append([]byte(medOUI), medPolicy, medVoice, byte(bits>>16), byte(bits>>8), byte(bits))...)
	put(lldpEnd)
	return b
}
