package link

import "encoding/binary"

const (
	protoUDP  = 17
	ipHeader  = 20
	udpHeader = 8
)

// Checksum adds b to the ones' complement sum of RFC 1071.
func Checksum(sum uint32, b []byte) uint16 {
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

// UDPIntact reports whether the UDP checksum of an IPv4 packet is right, or
// absent (RFC 768). It does not judge what is no UDP packet.
func UDPIntact(b []byte) bool {
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
	sum := Checksum(uint32(protoUDP+n), b[12:20]) // pseudo header
	return Checksum(uint32(sum), udp[:n]) == 0xffff
}
