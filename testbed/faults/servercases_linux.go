package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func serverCases() []Case {
	return []Case{
		{"NAK to everything", "offers, and refuses every REQUEST for five seconds", "begin again, ever more slowly (RFC 2131 §4.1)", nakToAll},
		{"NAK from a rogue", "has a rogue refuse what it is about to acknowledge", "ignore it: not from the server that was chosen (RFC 2131 §3.1.5)",
			nakBefore(edit(func(d *dhcpv4.DHCPv4) { set(d, dhcpv4.OptionServerIdentifier, rogue.AsSlice()) }))},
		{"NAK without server id", "refuses without its identifier, then acknowledges", "ignore it: the identifier is a MUST (RFC 2131 table 3)",
			nakBefore(dropOption(dhcpv4.OptionServerIdentifier))},
		{"NAK with another xid", "refuses another exchange, then acknowledges", discard,
			nakBefore(edit(func(d *dhcpv4.DHCPv4) { d.TransactionID[0] ^= 1 }))},
		{"NAK to another host", "refuses another hardware address, then acknowledges", discard,
			nakBefore(edit(func(d *dhcpv4.DHCPv4) { d.ClientHWAddr = otherHost[:] }))},
		{"rogue NAK at renewal", "has a rogue refuse each renewal before it acknowledges", "keep the address (RFC 2131 §4.4.5)", nakAtRenewal},
		{"NAK out of the blue", "refuses when nothing was asked", "ignore it in BOUND (RFC 2131 figure 5)", blue(nak)},
		{"ACK out of the blue", "acknowledges another address when nothing was asked", "ignore it in BOUND (RFC 2131 figure 5)", blue(ack)},
		{"FORCERENEW of a stranger", "sends FORCERENEW without authentication", "ignore it (RFC 3203 §6, RFC 6704)", blue(forceRenew)},
		{"rogue that is faster", "has a rogue offer first, and never acknowledge", "take another server's offer in the end (RFC 2131 §3.1.5)", rogueOffers(false)},
		{"rogue that takes it back", "has a rogue offer first, and then refuse", "take another server's offer (RFC 2131 §3.1.5)", rogueOffers(true)},
		{"pool exhausted", "is silent for four seconds, until an address is free", "go on asking, ever more slowly (RFC 2131 §4.1)", exhausted},
		{"slow server", "takes 1.5 seconds for every reply", "wait for it", slow},
		{"first DISCOVER lost", "hears only the second message", "ask again (RFC 2131 §4.1)", loses(discover)},
		{"first REQUEST lost", "does not hear the first REQUEST", "ask again (RFC 2131 §3.1.5)", loses(request)},
		{"relay agent", "answers through a relay, itself in another network", "renew by unicast, through the router (RFC 2131 §4.4.5)", relayed},
	}
}

func nakToAll(p *play) error {
	const span = 5 * time.Second
	var well atomic.Bool
	p.server.serve(func(m message) {
		if m.MessageType() == request && !well.Load() {
			p.say(m, reply(m, nak, nobody).ToBytes())
			return
		}
		p.decent(m)
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.heard(0, p.patience, "REQUEST", isKind(request)); err != nil {
		return err
	}
	if err := p.quiet(span, 20); err != nil {
		return err
	}
	well.Store(true)
	return p.boundOnly(prefix(good, 24))
}

// nakBefore has a NAK that must be ignored before every ACK.
func nakBefore(f change) func(*play) error {
	return func(p *play) error {
		p.server.serve(func(m message) {
			if m.MessageType() == request && m.wants() == good {
				p.say(m, f(reply(m, nak, nobody)))
			}
			p.decent(m)
		})
		if err := p.startClient(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

func isRenewal(m message) bool {
	return m.MessageType() == request && !m.ClientIPAddr.IsUnspecified()
}

func nakAtRenewal(p *play) error {
	p.server.serve(func(m message) {
		if isRenewal(m) {
			d := reply(m, nak, nobody)
			set(d, dhcpv4.OptionServerIdentifier, rogue.AsSlice())
			p.server.send(rogue, destination(m), d.ToBytes(), 1500)
			p.server.send(rogue, everyone, d.ToBytes(), 1500)
		}
		p.lease(m, good, leaseTimes(6, 2, 4))
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	n := p.heardSoFar()
	if err := p.heard(n, 6*time.Second, "renewal", isRenewal); err != nil {
		return err
	}
	return p.stays(prefix(good, 24), 5*time.Second)
}

const forceRenew = dhcpv4.MessageType(9)

// blue sends a message that nothing asked for to a client that is BOUND, with
// what a stranger on the link could have seen.
func blue(kind dhcpv4.MessageType) func(*play) error {
	return func(p *play) error {
		if err := p.wellBound(); err != nil {
			return err
		}
		all := p.server.messages(0)
		m := all[len(all)-1]
		d := reply(m, kind, marked)
		d.UpdateOption(dhcpv4.OptMessageType(kind))
		for range 5 {
			p.server.send(router, everyone, d.ToBytes(), 1500)
			p.server.send(router, good, d.ToBytes(), 1500)
		}
		n := p.heardSoFar()
		if err := p.stays(prefix(good, 24), 2*time.Second); err != nil {
			return err
		}
		if seen := p.server.messages(n); len(seen) > 0 {
			return fmt.Errorf("answers with %s", counts(seen))
		}
		return p.only(prefix(good, 24))
	}
}

// rogueOffers has a rogue before the decent server: its offer leads to nothing.
func rogueOffers(refuses bool) func(*play) error {
	return func(p *play) error {
		as := func(d *dhcpv4.DHCPv4) []byte {
			set(d, dhcpv4.OptionServerIdentifier, rogue.AsSlice())
			return d.ToBytes()
		}
		p.server.serve(func(m message) {
			switch {
			case m.MessageType() == discover:
				p.server.send(rogue, everyone, as(reply(m, offer, marked)), 1500)
			case m.MessageType() == request && refuses && m.ServerIdentifier().Equal(rogue.AsSlice()):
				p.server.send(rogue, everyone, as(reply(m, nak, nobody)), 1500)
			}
			p.decent(m)
		})
		if err := p.startClient(); err != nil {
			return err
		}
		p.patience *= 2 // RFC 2131 allows a minute
		return p.boundOnly(prefix(good, 24))
	}
}

func exhausted(p *play) error {
	const span = 4 * time.Second
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.heard(0, p.patience, "DISCOVER", isKind(discover)); err != nil {
		return err
	}
	if err := p.quiet(span, 8); err != nil {
		return err
	}
	p.server.serve(p.decent)
	return p.boundOnly(prefix(good, 24))
}

func slow(p *play) error {
	p.server.serve(func(m message) {
		time.AfterFunc(1500*time.Millisecond, func() { p.decent(m) })
	})
	if err := p.startClient(); err != nil {
		return err
	}
	return p.boundOnly(prefix(good, 24))
}

func loses(kind dhcpv4.MessageType) func(*play) error {
	return func(p *play) error {
		lost := false
		p.server.serve(func(m message) {
			if m.MessageType() == kind && !lost {
				lost = true
				return
			}
			p.decent(m)
		})
		if err := p.startClient(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

func relayed(p *play) error {
	far := netip.MustParseAddr("198.51.100.1")
	f := edit(func(d *dhcpv4.DHCPv4) {
		d.GatewayIPAddr = router.AsSlice()
		set(d, dhcpv4.OptionServerIdentifier, far.AsSlice())
		set(d, dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'g', '7'})
		set(d, dhcpv4.OptionIPAddressLeaseTime, seconds(40))
		set(d, dhcpv4.OptionRenewTimeValue, seconds(2))
		set(d, dhcpv4.OptionRebindingTimeValue, seconds(35))
	})
	p.server.serve(func(m message) {
		switch {
		case m.MessageType() == discover:
			p.say(m, f(reply(m, offer, good)))
		case isRenewal(m):
			p.server.send(far, good, f(reply(m, ack, good)), 1500)
		case m.MessageType() == request && m.wants() == good:
			p.say(m, f(reply(m, ack, good)))
		}
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	if err := p.heard(0, p.patience, "renewal", isRenewal); err != nil {
		return err
	}
	for _, m := range p.server.messages(0) {
		if isRenewal(m) && m.to != far {
			return fmt.Errorf("renews at %v", m.to)
		}
	}
	if err := p.stays(prefix(good, 24), 3*time.Second); err != nil {
		return errors.Join(errors.New("does not hear the ACK"), err)
	}
	return nil
}
