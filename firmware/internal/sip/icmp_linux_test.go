package sip_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/firmware/internal/sip"
)

// unreachable is an ICMP message that a packet from one end has not reached the
// other, as anybody can write it who has not seen the packet.
func unreachable(from, to netip.AddrPort) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = append(udp, 1, 0, 0, 0)
	ip := []byte{0x45, 0, 1, 20, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(append(ip, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	icmp := []byte{3, 3, 0, 0, 0, 0, 0, 0} // destination unreachable, port unreachable
	icmp = append(append(append(icmp, ip...), udp...), "OPTIONS sip:peer@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKguess"...)
	sum := uint32(0)
	for i := 0; i < len(icmp); i += 2 {
		pair := [2]byte{}
		copy(pair[:], icmp[i:])
		sum += uint32(binary.BigEndian.Uint16(pair[:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum>>16+sum))
	return icmp
}

// TestForgedICMP: a third host that says by ICMP that the peer is gone, while it
// speaks for it, is not believed; who only calls believes it, and tries no longer.
func TestForgedICMP(t *testing.T) {
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		t.Skipf("needs raw sockets: %v", err)
	}
	defer unix.Close(raw)
	forge := func(from, to netip.AddrPort) {
		t.Helper()
		must(t, unix.Sendto(raw, unreachable(from, to), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	}
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	o := p.beside("127.0.0.2")
	o.sends("BYE", "")
	p.expects("OPTIONS") // which the peer is late to answer
	forge(b.SIPAddr(), p.at)
	o.expects("403")
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)

	p = calls(t, b) // nor does it end a call whose peer is asked whether it lives
	p.callID += "-again"
	c = established(t, p, b)
	alive := probes(t, c)
	asked := p.expects("OPTIONS")
	forge(b.SIPAddr(), p.at)
	p.sends("INFO", "") // after which the phone has read what came before
	p.expects("200")
	p.answersOptions(asked)
	must(t, <-alive)

	p, c, _ = called(t, b)
	forge(b.SIPAddr(), p.at)
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}
