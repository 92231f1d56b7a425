// Package arp is how IPv4 addresses are asked for, claimed and announced on an
// Ethernet: the packets of RFC 826, and what RFC 5227 makes of them to find out
// whether an address is another's. It refuses to know what is done about that.
package arp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"

	"flexphone/internal/mac"
)

// A Claim is what somebody says of an address: that he has it or, when he probes,
// that he is about to take it.
type Claim struct {
	Addr  netip.Addr
	From  mac.Address
	Probe bool // he is about to take it
}

// Intervals and numbers of RFC 5227. The probes of its §2.1.1 are those of whoever
// does not use an address before all are sent; FastProbeGap is for who does.
const (
	// Probes is how often an address is asked for, PROBE_NUM.
	Probes = 3
	// FastProbeGap is between the probes for an address that is used already.
	FastProbeGap = 100 * time.Millisecond
	// ProbeWait is the longest before the first probe, PROBE_WAIT.
	ProbeWait = time.Second
	// ProbeGap is the least between probes, PROBE_MIN; PROBE_MAX is twice that.
	ProbeGap = time.Second
	// AnnounceWait is from the last probe to the first announcement, ANNOUNCE_WAIT.
	AnnounceWait = 2 * time.Second
	// Announcements is how often an address is announced, ANNOUNCE_NUM (§2.3), and
	// AnnounceGap how far apart.
	Announcements = 2
	AnnounceGap   = 2 * time.Second
	// DefendInterval: a second conflict within it gives the address up (§2.4 b).
	DefendInterval = 10 * time.Second
)

const size = 28 // of a packet for IPv4 on Ethernet

// Packet builds an ARP request of RFC 5227 from the interface ours: a probe when
// announce is false, an announcement of addr when it is true.
func Packet(ours mac.Address, addr netip.Addr, announce bool) []byte {
	b := make([]byte, size)
	copy(b, []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[8:], ours[:])
	if announce {
		copy(b[14:], addr.AsSlice())
	}
	copy(b[24:], addr.AsSlice())
	return b
}

// Query builds a request for addr from the address from at the interface ours.
func Query(ours mac.Address, from, addr netip.Addr) []byte {
	b := Packet(ours, addr, false)
	copy(b[14:], from.AsSlice())
	return b
}

// Parse reads who says that it has, or wants, which address. What is not for IPv4 on
// Ethernet is an error.
func Parse(b []byte) (Claim, error) {
	if len(b) < size || string(b[:6]) != "\x00\x01\x08\x00\x06\x04" || b[6] != 0 || b[7] != 1 && b[7] != 2 {
		return Claim{}, errors.New("netlink: parse ARP: not for IPv4 on Ethernet")
	}
	a := Claim{From: mac.Address(b[8:14]), Addr: netip.AddrFrom4([4]byte(b[14:18]))}
	if a.Addr.IsUnspecified() {
		a.Probe, a.Addr = true, netip.AddrFrom4([4]byte(b[24:28]))
	}
	return a, nil
}

// Filter lets through what says that addr is another's: ARP with addr as
// the sender's, and probes for it, unless from ours; and what the others say.
func Filter(ours mac.Address, addr netip.Addr, others ...netip.Addr) []bpf.Instruction {
	number := func(addr netip.Addr) uint32 {
		if !addr.IsValid() {
			return 0 // of nobody: matches probes for 0.0.0.0 only
		}
		b := addr.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	a, n := number(addr), uint8(len(others))
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 10, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(ours[2:]), SkipTrue: 2},
		bpf.LoadAbsolute{Off: 8, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(ours[:])), SkipTrue: 6 + n}, // drop
		bpf.LoadAbsolute{Off: 14, Size: 4},
	}
	for i, other := range others {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(other), SkipTrue: 3 + n - uint8(i)}) // pass
	}
	return append(prog,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: a, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 24, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: a, SkipTrue: 1},
		bpf.RetConstant{Val: size},
		bpf.RetConstant{Val: 0})
}
