package faults

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/testbed/lab"
)

// ShiftingNet is the far end's address where a Shifting serves.
var ShiftingNet = netip.MustParsePrefix("10.0.0.1/8")

// A Shifting is a decent server that gives another address to every DISCOVER,
// and refuses all others: what a client has after a link came back is never
// what it had before.
type Shifting struct {
	server *server
	mu     sync.Mutex
	next   uint32
	acked  netip.Addr
}

// NewShifting serves at the far end of c, which must have the address
// ShiftingNet.
func NewShifting(c *lab.Cable) (*Shifting, error) {
	s, err := listen(c)
	if err != nil {
		return nil, err
	}
	first := netip.MustParseAddr("10.0.1.0").As4()
	sh := &Shifting{server: s, next: binary.BigEndian.Uint32(first[:])}
	s.forgetful = true
	s.serve(sh.answer)
	return sh, nil
}

func (s *Shifting) answer(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.MessageType() {
	case discover:
		s.next++
		s.send(m, offer)
	case request:
		if m.wants() == s.addr() && s.acked != s.addr() {
			s.acked = s.addr()
			s.send(m, ack)
			return
		}
		d := reply(m, nak, nobody)
		set(d, dhcpv4.OptionServerIdentifier, ShiftingNet.Addr().AsSlice())
		s.server.send(ShiftingNet.Addr(), everyone, d.ToBytes(), 1500)
	}
}

func (s *Shifting) send(m message, kind dhcpv4.MessageType) {
	d := reply(m, kind, s.addr())
	set(d, dhcpv4.OptionServerIdentifier, ShiftingNet.Addr().AsSlice())
	set(d, dhcpv4.OptionSubnetMask, []byte{255, 0, 0, 0})
	set(d, dhcpv4.OptionRouter, ShiftingNet.Addr().AsSlice())
	s.server.send(ShiftingNet.Addr(), everyone, d.ToBytes(), 1500)
}

func (s *Shifting) addr() netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, s.next)))
}

// Acked returns the address that was acknowledged last.
func (s *Shifting) Acked() netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// Close ends the server.
func (s *Shifting) Close() { s.server.close() }
