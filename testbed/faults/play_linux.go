package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/testbed/lab"
)

// Who is on the network. The server's own address is also the router's.
var (
	farNet   = netip.MustParsePrefix("192.0.2.1/24")
	router   = farNet.Addr()
	good     = netip.MustParseAddr("192.0.2.50")
	good2    = netip.MustParseAddr("192.0.2.80")
	marked   = netip.MustParseAddr("192.0.2.66") // only a faulty reply offers it
	rogue    = netip.MustParseAddr("192.0.2.9")
	everyone = netip.MustParseAddr("255.255.255.255")
	nobody   = netip.IPv4Unspecified()
)

// A Case is a fault.
type Case struct {
	Name  string
	Does  string // what the server does
	Wants string // what a client should do, and who says so
	play  func(*play) error
}

// attempts is how often a case is tried on a machine that stands still meanwhile.
const attempts = 5

// Try runs the case against a client that start starts on the near end of a
// fresh cable and that the returned function ends. Patience is how long the
// client may take for what it should do at once. The error says how the client
// fails; it is a Broken when the attempt itself failed, of which an ErrStarved
// has been tried again.
func (c Case) Try(patience time.Duration, start func(*lab.Cable) (stop func() error, err error)) error {
	for n := 1; ; n++ {
		err := c.try(patience, start)
		if n == attempts || !errors.Is(err, ErrStarved) {
			return err
		}
	}
}

func (c Case) try(patience time.Duration, start func(*lab.Cable) (stop func() error, err error)) error {
	cable, err := lab.NewCable(farNet)
	if err != nil {
		return Broken{err}
	}
	defer cable.Close()
	s, err := listen(cable)
	if err != nil {
		return Broken{err}
	}
	defer s.close()
	p := &play{cable: cable, server: s, patience: patience}
	p.startClient = func() error {
		stop, err := start(cable)
		if err != nil {
			return Broken{err}
		}
		p.stop = stop
		return nil
	}
	err = c.play(p)
	if p.stop != nil {
		if stopErr := p.stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("the client itself fails: %w", stopErr)
		}
	}
	return err
}

// Broken is an attempt that says nothing about the client.
type Broken struct{ Err error }

func (b Broken) Error() string { return b.Err.Error() }

// Unwrap returns what went wrong.
func (b Broken) Unwrap() error { return b.Err }

// A play is one case with one client.
type play struct {
	cable       *lab.Cable
	server      *server
	patience    time.Duration
	startClient func() error
	stop        func() error
}

// reply is what a decent server says to m: the option code of the kind, and an
// hour's lease of addr.
func reply(m message, kind dhcpv4.MessageType, addr netip.Addr) *dhcpv4.DHCPv4 {
	d, err := dhcpv4.NewReplyFromRequest(m.DHCPv4,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(nobody.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(router.AsSlice())),
	)
	if err != nil {
		panic("faults: build reply: " + err.Error()) // of our own message
	}
	if kind == dhcpv4.MessageTypeNak {
		return d
	}
	d.YourIPAddr = addr.AsSlice()
	set(d, dhcpv4.OptionSubnetMask, []byte{255, 255, 255, 0})
	set(d, dhcpv4.OptionRouter, router.AsSlice())
	set(d, dhcpv4.OptionDomainNameServer, router.AsSlice())
	set(d, dhcpv4.OptionIPAddressLeaseTime, seconds(3600))
	return d
}

func set(d *dhcpv4.DHCPv4, code dhcpv4.OptionCode, v []byte) { d.Options[code.Code()] = v }

func seconds(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// say sends payload where a server would, in answer to m.
func (p *play) say(m message, payload []byte) { p.server.send(router, destination(m), payload, 1500) }

func destination(m message) netip.Addr {
	if a, ok := netip.AddrFromSlice(m.ClientIPAddr.To4()); ok && !a.IsUnspecified() {
		return a
	}
	return everyone
}

// A change makes a reply faulty. It may build bytes that the codec would not.
type change func(d *dhcpv4.DHCPv4) []byte

// edit is a change that the codec can write.
func edit(f func(d *dhcpv4.DHCPv4)) change {
	return func(d *dhcpv4.DHCPv4) []byte {
		f(d)
		return d.ToBytes()
	}
}

// patch is a change of the written message; options begin at optsAt.
func patch(f func(b []byte) []byte) change {
	return func(d *dhcpv4.DHCPv4) []byte { return f(d.ToBytes()) }
}

const optsAt = 240

func setOption(code dhcpv4.OptionCode, v ...byte) change {
	return edit(func(d *dhcpv4.DHCPv4) { set(d, code, v) })
}

func dropOption(code dhcpv4.OptionCode) change {
	return edit(func(d *dhcpv4.DHCPv4) { delete(d.Options, code.Code()) })
}

// rawOptions writes the header of a reply and then these bytes.
func rawOptions(d *dhcpv4.DHCPv4, opts ...byte) []byte {
	return append(d.ToBytes()[:optsAt:optsAt], opts...)
}

// decent answers like a server with one address and an hour's lease.
func (p *play) decent(m message) { p.lease(m, good, nil) }

// lease answers like a server that has only addr; change, if any, is done to
// offers and ACKs.
func (p *play) lease(m message, addr netip.Addr, f change) {
	if f == nil {
		f = edit(func(*dhcpv4.DHCPv4) {})
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		p.say(m, f(reply(m, dhcpv4.MessageTypeOffer, addr)))
	case dhcpv4.MessageTypeRequest:
		switch id := m.ServerIdentifier(); {
		case id != nil && !id.Equal(router.AsSlice()):
			return // meant for another
		case m.wants() != addr:
			p.server.send(router, everyone, reply(m, dhcpv4.MessageTypeNak, nobody).ToBytes(), 1500)
		default:
			p.say(m, f(reply(m, dhcpv4.MessageTypeAck, addr)))
		}
	}
}

// only checks what was ever on eth0: nothing but these prefixes, and their addresses
// with the mask of their class, which ifconfig(8) gives them for a moment.
func (p *play) only(allowed ...netip.Prefix) error {
	for _, c := range p.cable.Watch.Changes() {
		fits := func(p netip.Prefix) bool { return c.Prefix == p || c.Prefix == prefix(p.Addr(), 24) }
		if c.Prefix.IsValid() && !slices.ContainsFunc(allowed, fits) {
			return fmt.Errorf("installs %v", c.Prefix)
		}
	}
	return nil
}

// bound waits until eth0 holds p and nothing else.
func (p *play) bound(want netip.Prefix) error {
	h, ok := p.cable.Watch.Until(p.patience, func(h lab.Holding) bool {
		return len(h.Addrs) == 1 && !h.Addrs[want].IsZero()
	})
	if ok {
		return nil
	}
	if len(h.Addrs) > 0 {
		return fmt.Errorf("holds %v", held(h))
	}
	for _, c := range p.cable.Watch.Changes() {
		if c.Prefix.IsValid() && c.Prefix != want {
			return fmt.Errorf("installs %v, and then nothing", c.Prefix)
		}
	}
	return fmt.Errorf("no address in %v (%s)", p.patience, counts(p.server.messages(0)))
}

// boundOnly is bound, and nothing else was held before.
func (p *play) boundOnly(want netip.Prefix) error {
	if err := p.bound(want); err != nil {
		return err
	}
	return p.only(want)
}

// gone waits until eth0 holds nothing.
func (p *play) gone(within time.Duration) error {
	h, ok := p.cable.Watch.Until(within, func(h lab.Holding) bool { return len(h.Addrs) == 0 })
	if !ok {
		return fmt.Errorf("still holds %v", held(h))
	}
	return nil
}

// stays checks that what eth0 holds does not change for so long.
func (p *play) stays(want netip.Prefix, d time.Duration) error {
	h, ok := p.cable.Watch.Until(d, func(h lab.Holding) bool {
		return len(h.Addrs) != 1 || h.Addrs[want].IsZero()
	})
	if ok {
		return fmt.Errorf("holds %v", held(h))
	}
	return nil
}

// heard waits for a message after the n-th of which ok holds.
func (p *play) heard(n int, within time.Duration, what string, ok func(message) bool) error {
	if !p.server.until(within, func(all []message) bool { return slices.ContainsFunc(all[min(n, len(all)):], ok) }) {
		return fmt.Errorf("no %s within %v (%s)", what, within, counts(p.server.messages(n)))
	}
	return nil
}

// quiet waits so long, and allows at most so many messages in that time.
func (p *play) quiet(d time.Duration, atMost int) error {
	n := len(p.server.messages(0))
	p.pause(d)
	if seen := p.server.messages(n); len(seen) > atMost {
		return fmt.Errorf("%s in %v", counts(seen), d)
	}
	return nil
}

// pause lets the server's time pass, in which whatever it set up goes on.
func (p *play) pause(d time.Duration) {
	<-time.After(d)
}

func (p *play) heardSoFar() int { return len(p.server.messages(0)) }

func isKind(kind dhcpv4.MessageType) func(message) bool {
	return func(m message) bool { return m.MessageType() == kind }
}

func held(h lab.Holding) string {
	if len(h.Addrs) == 0 {
		return "nothing"
	}
	var out []string
	for p := range h.Addrs {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return strings.Join(out, " and ")
}

// counts says how many messages of which kind there are.
func counts(all []message) string {
	if len(all) == 0 {
		return "not a message"
	}
	n := map[dhcpv4.MessageType]int{}
	var order []dhcpv4.MessageType
	for _, m := range all {
		if n[m.MessageType()]++; n[m.MessageType()] == 1 {
			order = append(order, m.MessageType())
		}
	}
	var out []string
	for _, k := range order {
		out = append(out, fmt.Sprintf("%d %v", n[k], k))
	}
	return strings.Join(out, ", ")
}

func prefix(a netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(a, bits) }
