package netlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/net/bpf"
)

const (
	portServer = 67
	portClient = 68
	protoUDP   = 17
	ipHeader   = 20
	udpHeader  = 8
	dscpCS6    = 0xc0 // network control (RFC 4594 §3.1)
)

var errNotDHCP = errors.New("not a DHCP packet")

// wrap puts payload into an IPv4 and UDP packet from src to all hosts of the
// link.
func wrap(payload []byte, src netip.Addr) []byte {
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b[0], b[1] = 0x45, dscpCS6
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	b[8], b[9] = 64, protoUDP
	if src.IsValid() {
		copy(b[12:], src.AsSlice())
	}
	copy(b[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(b[10:], ^checksum(0, b[:ipHeader]))
	udp := b[ipHeader:]
	binary.BigEndian.PutUint16(udp[0:], portClient)
	binary.BigEndian.PutUint16(udp[2:], portServer)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	sum := checksum(protoUDP+uint32(udpHeader+len(payload)), b[12:20]) // pseudo header
	if sum = ^checksum(uint32(sum), b[ipHeader:]); sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[ipHeader+6:], sum)
	return b
}

// unwrap returns the payload of an IPv4 UDP packet to the client's port.
func unwrap(b []byte) ([]byte, error) {
	if len(b) < ipHeader || b[0]>>4 != 4 || b[9] != protoUDP {
		return nil, errNotDHCP
	}
	hlen, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if hlen < ipHeader || total < hlen+udpHeader || total > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return nil, errNotDHCP
	}
	udp := b[hlen:total]
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != portClient || n < udpHeader || n > len(udp) {
		return nil, errNotDHCP
	}
	return udp[udpHeader:n], nil
}

// udpIntact reports whether the UDP checksum of an IPv4 packet is right, or
// absent (RFC 768). It does not judge what is no UDP packet.
func udpIntact(b []byte) bool {
	if len(b) < ipHeader || b[0]>>4 != 4 || b[9] != protoUDP {
		return true
	}
	hlen := int(b[0]&15) * 4
	if hlen < ipHeader || len(b) < hlen+udpHeader {
		return true
	}
	udp := b[hlen:]
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if n < udpHeader || n > len(udp) || binary.BigEndian.Uint16(udp[6:]) == 0 {
		return true
	}
	sum := checksum(uint32(protoUDP+n), b[12:20]) // pseudo header
	return checksum(uint32(sum), udp[:n]) == 0xffff
}

// routerFilter lets through IPv6 packets with a router advertisement.
func routerFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipv6Header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeRA, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}

// checksum adds b to the ones' complement sum of RFC 1071.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// replyFilter lets through BOOTP replies to mac in transaction xid. Packets
// begin at the IP header.
func replyFilter(mac MAC, xid transaction) []bpf.Instruction {
	conds := []struct {
		load bpf.Instruction
		want uint32
	}{
		{bpf.LoadAbsolute{Off: 9, Size: 1}, protoUDP},
		{bpf.LoadIndirect{Off: 2, Size: 2}, portClient},
		{bpf.LoadIndirect{Off: udpHeader, Size: 1}, 2}, // BOOTREPLY
		{bpf.LoadIndirect{Off: udpHeader + 4, Size: 4}, binary.BigEndian.Uint32(xid[:])},
		{bpf.LoadIndirect{Off: udpHeader + 28, Size: 2}, uint32(binary.BigEndian.Uint16(mac[:]))},
		{bpf.LoadIndirect{Off: udpHeader + 30, Size: 4}, binary.BigEndian.Uint32(mac[2:])},
	}
	prog := []bpf.Instruction{bpf.LoadMemShift{Off: 0}}
	for i, c := range conds {
		skip := uint8(2*(len(conds)-i-1) + 1) // to the end
		prog = append(prog, c.load, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: c.want, SkipTrue: skip})
	}
	return append(prog, bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0})
}

const arpLen = 28

// arpPacket builds an ARP request of RFC 5227: a probe when announce is false,
// an announcement of addr when it is true.
func arpPacket(mac MAC, addr netip.Addr, announce bool) []byte {
	b := make([]byte, arpLen)
	copy(b, []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[8:], mac[:])
	if announce {
		copy(b[14:], addr.AsSlice())
	}
	copy(b[24:], addr.AsSlice())
	return b
}

// arpQuery builds a request for addr by from.
func arpQuery(mac MAC, from, addr netip.Addr) []byte {
	b := arpPacket(mac, addr, false)
	copy(b[14:], from.AsSlice())
	return b
}

// parseARP reads who says that it has, or wants, which address.
func parseARP(b []byte) (arpSeen, error) {
	if len(b) < arpLen || string(b[:6]) != "\x00\x01\x08\x00\x06\x04" || b[6] != 0 || b[7] != 1 && b[7] != 2 {
		return arpSeen{}, errors.New("netlink: parse ARP: not for IPv4 on Ethernet")
	}
	a := arpSeen{from: MAC(b[8:14]), addr: netip.AddrFrom4([4]byte(b[14:18]))}
	if a.addr.IsUnspecified() {
		a.probe, a.addr = true, netip.AddrFrom4([4]byte(b[24:28]))
	}
	return a, nil
}

// arpFilter lets through what says that addr is another's: ARP with addr as
// the sender's, and probes for it, unless from mac; and what the others say.
func arpFilter(mac MAC, addr netip.Addr, others ...netip.Addr) []bpf.Instruction {
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
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac[2:]), SkipTrue: 2},
		bpf.LoadAbsolute{Off: 8, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(mac[:])), SkipTrue: 6 + n}, // drop
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
		bpf.RetConstant{Val: arpLen},
		bpf.RetConstant{Val: 0})
}
