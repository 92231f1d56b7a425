package wire

import (
	"encoding/binary"
	"net/netip"
)

// Voice returns where an IPv4 packet of sound goes from and to; false: it is
// something else. Sound is RTP or SRTP, which nobody has to understand to see
// that: the first bits of the UDP payload are its version (RFC 3550 section 5.1),
// and the second byte is not one of RTCP's (RFC 5761 section 4). Fragments and RTP
// over TCP are not found.
func Voice(packet []byte) (from, to netip.AddrPort, ok bool) {
	const (
		ipHeader, udpHeader, rtpHeader = 20, 8, 12
		udp                            = 17
		fragment                       = 0x3fff // more fragments, and the offset of this one
	)
	if len(packet) < ipHeader || packet[0]>>4 != 4 || packet[9] != udp || binary.BigEndian.Uint16(packet[6:])&fragment != 0 {
		return from, to, false
	}
	options := int(packet[0]&0xf) * 4
	if options < ipHeader || len(packet) < options+udpHeader+rtpHeader {
		return from, to, false
	}
	ports, payload := packet[options:], packet[options+udpHeader:]
	if payload[0]>>6 != 2 || payload[1] >= 192 && payload[1] <= 223 {
		return from, to, false
	}
	src, _ := netip.AddrFromSlice(packet[12:16])
	dst, _ := netip.AddrFromSlice(packet[16:20])
	return netip.AddrPortFrom(src, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ports[2:])), true
}
