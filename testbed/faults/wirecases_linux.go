package faults

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

func wireCases() []Case {
	return []Case{
		{"fragmented reply", "sends 1,400 bytes in IP fragments of 576", "put them together (RFC 1122 §3.3.2)", fragmented},
		{"20,000 junk packets", "floods the link with noise and half-right replies before each of its own", "find the right ones", junk},
		{"every reply three times", "repeats itself", "take the first, send no REQUEST twice", thrice},
		{"replies unicast to yiaddr", "sends to the address that nobody has yet", "hear it, or set the broadcast flag (RFC 2131 §4.1)", unicast},
		{"no UDP checksum", "sends a checksum of 0", "take it: none was computed (RFC 768)",
			packetFault(true, func(b []byte) []byte { b[ipHeader+6], b[ipHeader+7] = 0, 0; return b })},
		{"wrong UDP checksum", "sends a checksum that is wrong", "discard it (RFC 1122 §4.1.3.4)",
			packetFault(false, func(b []byte) []byte { b[ipHeader+6] ^= 0x55; return b })},
		{"IP header with options", "adds a record route option", "skip it (RFC 1122 §3.2.1.8)",
			packetFault(true, withIPOption)},
		{"UDP longer than its packet", "claims 2,000 bytes of UDP", discard,
			packetFault(false, func(b []byte) []byte {
				binary.BigEndian.PutUint16(b[ipHeader+4:], 2000)
				b[ipHeader+6], b[ipHeader+7] = 0, 0
				return b
			})},
		{"IP longer than its frame", "claims 2,000 bytes of IP", discard,
			packetFault(false, func(b []byte) []byte { binary.BigEndian.PutUint16(b[2:], 2000); return mendIP(b) })},
		{"reply of no length", "sends empty packets to port 68 before each of its own", discard, empties},
	}
}

func fragmented(p *play) error {
	p.server.serve(func(m message) {
		switch {
		case m.MessageType() == discover:
			p.server.send(router, everyone, stuffed(reply(m, offer, good), 1400), 576)
		case m.MessageType() == request && m.wants() == good:
			p.server.send(router, everyone, stuffed(reply(m, ack, good), 1400), 576)
		}
	})
	if err := p.startClient(); err != nil {
		return err
	}
	return p.boundOnly(prefix(good, 24))
}

// junk: a quarter is for our client and our exchange, and malformed. What the
// client repeats while the noise lasts is answered without more of it, else a busy
// machine would never come to an end.
func junk(p *play) error {
	const each = 10000 // before the first offer and before the first ACK
	noise := rand.New(rand.NewPCG(1, 2))
	flooded := map[dhcpv4.MessageType]bool{}
	p.server.serve(func(m message) {
		if flooded[m.MessageType()] {
			p.decent(m)
			return
		}
		flooded[m.MessageType()] = true
		for i := range each {
			var b []byte
			switch i % 4 {
			case 0:
				b = make([]byte, noise.IntN(500))
				for k := range b {
					b[k] = byte(noise.Uint32())
				}
			case 1:
				d := reply(m, offer, marked)
				binary.BigEndian.PutUint32(d.TransactionID[:], noise.Uint32())
				b = d.ToBytes()
			case 2:
				d := reply(m, ack, marked)
				d.ClientHWAddr = otherHost[:]
				b = d.ToBytes()
			case 3:
				b = reply(m, offer, marked).ToBytes()
				b = b[:optsAt+noise.IntN(2)] // no message type
			}
			p.server.send(router, everyone, b, 1500)
			if i%100 == 99 {
				// The kernel holds a thousand packets for all cables of the machine
				// (netdev_max_backlog): more at once would be lost on the way, and the
				// packets of every other case with them.
				p.pause(time.Millisecond)
			}
		}
		p.decent(m)
	})
	if err := p.startClient(); err != nil {
		return err
	}
	p.patience *= 2 // the noise itself takes its time
	return p.boundOnly(prefix(good, 24))
}

func thrice(p *play) error {
	p.server.serve(func(m message) {
		p.decent(m)
		p.decent(m)
		p.decent(m)
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	if err := p.stays(prefix(good, 24), time.Second); err != nil {
		return err
	}
	requests := 0
	for _, m := range p.server.messages(0) {
		if m.MessageType() == request {
			requests++
		}
	}
	if requests > 2 {
		return fmt.Errorf("%d REQUESTs", requests)
	}
	return nil
}

func unicast(p *play) error {
	p.server.serve(func(m message) {
		to := good
		if m.IsBroadcast() {
			to = everyone
		}
		switch {
		case m.MessageType() == discover:
			p.server.send(router, to, reply(m, offer, good).ToBytes(), 1500)
		case m.MessageType() == request && m.wants() == good:
			p.server.send(router, to, reply(m, ack, good).ToBytes(), 1500)
		}
	})
	if err := p.startClient(); err != nil {
		return err
	}
	return p.boundOnly(prefix(good, 24))
}

// packetFault changes the IP packets of offers. Those that a client must not
// take offer the marked address, and decent ones follow.
func packetFault(take bool, f func([]byte) []byte) func(*play) error {
	return func(p *play) error {
		p.server.serve(func(m message) {
			addr := good
			if !take {
				addr = marked
			}
			kind := offer
			if m.MessageType() == request {
				kind = ack
			}
			if kind == offer || m.wants() == addr {
				p.server.sendPacket(f(p.server.packet(router, everyone, reply(m, kind, addr).ToBytes())))
			}
			if !take {
				p.decent(m)
			}
		})
		if err := p.startClient(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

// withIPOption lengthens the IP header by eight bytes of options.
func withIPOption(b []byte) []byte {
	out := append([]byte{}, b[:ipHeader]...)
	out = append(out, 7, 7, 4, 0, 0, 0, 0, 0) // record route, with room for one
	out = append(out, b[ipHeader:]...)
	out[0] = 0x47
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	return mendIP(out)
}

// mendIP writes the IP header's checksum again.
func mendIP(b []byte) []byte {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^checksum(0, b[:int(b[0]&15)*4]))
	return b
}

// packet builds the unfragmented packet that send would send.
func (s *server) packet(from, dst netip.Addr, payload []byte) []byte {
	return ipPacket(from, dst, 1, 0, false, datagram(from, dst, payload))
}

func (s *server) sendPacket(b []byte) { s.put(s.ip, unix.ETH_P_IP, broadcastMAC, b) }

func empties(p *play) error {
	p.server.serve(func(m message) {
		for range 50 {
			p.server.send(router, everyone, nil, 1500)
		}
		p.decent(m)
	})
	if err := p.startClient(); err != nil {
		return err
	}
	return p.boundOnly(prefix(good, 24))
}
