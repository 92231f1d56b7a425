package netlink

import (
	"bytes"
	"embed"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
)

var update = flag.Bool("update", false, "record the exchanges in testdata again")

// Inside of the program, since the tests also run where the source is not.
//
//go:embed testdata/*.pcap
var recorded embed.FS

// A pcap is what was on the wire, as tcpdump and Wireshark read it. A nil one
// records nothing.
type pcap struct {
	file    bytes.Buffer
	packets [][]byte
}

func newPcap() *pcap {
	p := &pcap{}
	for _, v := range []uint32{0xa1b23c4d, 2 | 4<<16, 0, 0, 1 << 16, 1} { // nanoseconds, version 2.4, Ethernet
		p.file.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
	return p
}

func (p *pcap) frame(at time.Time, dst, src MAC, kind uint16, payload []byte) {
	if p == nil {
		return
	}
	b := binary.BigEndian.AppendUint16(append(append([]byte{}, dst[:]...), src[:]...), kind)
	b = append(b, payload...)
	for _, v := range []uint32{uint32(at.Unix()), uint32(at.Nanosecond()), uint32(len(b)), uint32(len(b))} {
		p.file.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
	p.file.Write(b)
	p.packets = append(p.packets, b)
}

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

var simRouterMAC = MAC{2, 0, 0x5e, 0, 0x53, 0xfe}

// sent records what the client sends.
func (p *pcap) sent(now time.Time, a any) {
	if p == nil {
		return
	}
	switch a := a.(type) {
	case sendMessage:
		to, b := link.Everybody(), wrap(a.msg.ToBytes(), a.from)
		if a.to.IsValid() { // the kernel's work, for a UDP socket
			to, b = simRouterMAC, udpPacket(a.from, a.to, portClient, portServer, a.msg.ToBytes())
		}
		p.frame(now, to, simMAC, etherIPv4, b)
	case sendProbe:
		p.frame(now, link.Everybody(), simMAC, etherARP, arp.Packet(simMAC, a.addr, false))
	case sendAnnounce:
		p.frame(now, link.Everybody(), simMAC, etherARP, arp.Packet(simMAC, a.addr, true))
	case sendAsk:
		p.frame(now, link.Everybody(), simMAC, etherARP, arp.Query(simMAC, a.from, a.addr))
	case send6:
		b := udpPacket(simLocal, addrFrom(dhcpv6.AllDHCPRelayAgentsAndServers), dhcpv6.DefaultClientPort, dhcpv6.DefaultServerPort, a.msg.ToBytes())
		p.frame(now, MAC{0x33, 0x33, 0, 1, 0, 2}, simMAC, etherIPv6, b)
	}
}

var simLocal = netip.MustParseAddr("fe80::5eff:fe00:5301")

// udpPacket builds an IP packet, IPv4 or IPv6.
func udpPacket(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	n := uint16(udpHeader + len(payload))
	var b []byte
	if src.Is4() {
		b = wrap(payload, src)[:ipHeader]
		copy(b[16:], dst.AsSlice())
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^link.Checksum(0, b))
	} else {
		b = append([]byte{0x6c, 0, 0, 0, byte(n >> 8), byte(n), protoUDP, 64}, src.AsSlice()...) // class CS6
		b = append(b, dst.AsSlice()...)
	}
	udp := binary.BigEndian.AppendUint16(nil, from)
	udp = binary.BigEndian.AppendUint16(udp, to)
	udp = binary.BigEndian.AppendUint16(udp, n)
	udp = append(append(udp, 0, 0), payload...)
	sum := link.Checksum(uint32(protoUDP)+uint32(n), append(src.AsSlice(), dst.AsSlice()...)) // pseudo header
	if sum = ^link.Checksum(uint32(sum), udp); sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return append(b, udp...)
}

// An arriving packet is on the wire once the machine has done what it was at.
type arriving func() (input any)

// answer puts a server's reply on the wire, where the client reads it.
func (s *simulation) answer(r reply) any {
	if s.wire == nil {
		return received{r}
	}
	return arriving(func() any { return s.arrive(r) })
}

func (s *simulation) arrive(r reply) received {
	s.t.Helper()
	b := udpPacket(r.server, netip.AddrFrom4([4]byte{255, 255, 255, 255}), portServer, portClient, encodeReply(r, simMAC))
	s.wire.frame(s.now, link.Everybody(), simRouterMAC, etherIPv4, b)
	payload, err := unwrap(b)
	if err != nil {
		s.t.Fatalf("the reply is lost: %v", err)
	}
	got, err := parseReply(payload, simMAC)
	if err != nil {
		s.t.Fatalf("the reply is refused: %v", err)
	}
	return received{got}
}

// answer does the same for DHCPv6.
func (s *simulation6) answer(d *dhcpv6.Message) any {
	if s.wire == nil {
		return received6{d}
	}
	return arriving(func() any { return s.arrive(d) })
}

func (s *simulation6) arrive(d *dhcpv6.Message) received6 {
	s.t.Helper()
	b := d.ToBytes()
	s.wire.frame(s.now, simMAC, simRouterMAC, etherIPv6, udpPacket(simRouter, simLocal, dhcpv6.DefaultServerPort, dhcpv6.DefaultClientPort, b))
	got, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		s.t.Fatalf("the reply is refused: %v", err)
	}
	return received6{got}
}

// claim has another host say that it has an address.
func (s *simulation) claim(a netip.Addr) {
	s.t.Helper()
	b := arp.Query(otherMAC, a, a)
	b[7] = 2 // a reply
	s.wire.frame(s.now, link.Everybody(), otherMAC, etherARP, b)
	seen, err := arp.Parse(b)
	if err != nil {
		s.t.Fatalf("the claim is refused: %v", err)
	}
	s.give(seen)
}

// Whole exchanges of DHCPv4, packet by packet: each change of what is on the
// wire, or when, shows as a change of a file that Wireshark reads.
func TestExchanges(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(s *simulation)
	}{
		{"fresh-lease", func(s *simulation) {
			s.server = pool(simAddr)
			s.plug()
			s.run(10 * time.Second)
		}},
		{"rapid-commit", func(s *simulation) {
			s.server = func(*dhcpv4.DHCPv4) []reply {
				r := goodReply(dhcpv4.MessageTypeAck, simAddr)
				r.rapid = true
				return []reply{r}
			}
			s.plug()
			s.run(10 * time.Second)
		}},
		{"renewal", func(s *simulation) {
			l := s.bind()
			s.wire = newPcap()
			s.run(l.Renew.Sub(s.now) + time.Second)
		}},
		{"rebinding", func(s *simulation) {
			l := s.bind()
			s.wire, s.server = newPcap(), nil
			s.run(l.Rebind.Sub(s.now) - time.Second)
			s.server = pool(simAddr)
			s.run(2 * time.Second)
		}},
		{"reboot-refused", func(s *simulation) {
			l := s.bind()
			fresh := newSimulation(s.t) // as after a power cut
			fresh.now, fresh.wire, fresh.server = s.now, newPcap(), pool(simNext)
			*s = *fresh
			s.m.start(l)
			s.plug()
			s.run(10 * time.Second)
		}},
		{"decline", func(s *simulation) {
			s.server = pool(simAddr)
			s.plug()
			s.server = pool(simNext)
			s.claim(simAddr)
			s.run(10 * time.Second)
		}},
		{"release", func(s *simulation) {
			s.bind()
			s.wire = newPcap()
			s.give(stopped{})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			s.wire = newPcap()
			tt.play(s)
			s.wire.compare(t, "dhcpv4-"+tt.name)
		})
	}
}

// And of DHCPv6.
func TestExchanges6(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(s *simulation6)
	}{
		{"fresh-lease", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(managed6)
			s.run(time.Minute)
		}},
		{"renewal", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(managed6)
			s.wire = newPcap()
			s.run(s.m.held.renew.Sub(s.now) + time.Second)
		}},
		{"confirm-refused", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(managed6)
			s.wire, s.server = newPcap(), pool6(simNext6)
			s.give(linkSays{})
			s.give(managed6)
			s.run(time.Minute)
		}},
		{"decline", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(managed6)
			s.wire, s.server = newPcap(), pool6(simNext6)
			s.give(duplicate{simAddr6})
			s.run(time.Minute)
		}},
		{"release", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(managed6)
			s.wire = newPcap()
			s.give(stopped{})
		}},
		{"information", func(s *simulation6) {
			s.server = pool6(simAddr6)
			s.give(linkSays{ready: true, mac: simMAC, other: true})
			s.run(time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation6(t)
			s.wire = newPcap()
			tt.play(s)
			s.wire.compare(t, "dhcpv6-"+tt.name)
		})
	}
}

// compare compares with the file of this name in testdata, byte for byte.
func (p *pcap) compare(t *testing.T, name string) {
	t.Helper()
	path := "testdata/" + name + ".pcap"
	if *update {
		if err := os.WriteFile(path, p.file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := recorded.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want, p.file.Bytes()) {
		return
	}
	at := 24
	for i, got := range p.packets {
		was := []byte("nothing")
		if at+16 <= len(want) {
			was = want[at+16 : min(at+16+int(binary.LittleEndian.Uint32(want[at+8:])), len(want))]
		}
		if head := p.file.Bytes()[at : at+16]; !bytes.Equal(was, got) || !bytes.Equal(head, want[at:at+16]) {
			t.Fatalf("%s: packet %d differs, or its time; -update records it again\nis  %s\nwas %s", path, i+1, describe(got), describe(was))
		}
		at += 16 + len(got)
	}
	t.Fatalf("%s holds more than %d packets; -update records it again", path, len(p.packets))
}

func describe(b []byte) string { return fmt.Sprintf("%d bytes %x", len(b), b) }
