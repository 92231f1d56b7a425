package netlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/net/bpf"

	"flexphone/netlink/internal/link"
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
	binary.BigEndian.PutUint16(b[10:], ^link.Checksum(0, b[:ipHeader]))
	udp := b[ipHeader:]
	binary.BigEndian.PutUint16(udp[0:], portClient)
	binary.BigEndian.PutUint16(udp[2:], portServer)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	sum := link.Checksum(protoUDP+uint32(udpHeader+len(payload)), b[12:20]) // pseudo header
	if sum = ^link.Checksum(uint32(sum), b[ipHeader:]); sum == 0 {
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
