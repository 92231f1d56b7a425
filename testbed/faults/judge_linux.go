package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/testbed/lab"
)

// anyNet has a mask that makes no sense: the good address must be held, with a
// network that is neither everything nor wider than its class's.
func anyNet(f change) func(*play) error {
	return func(p *play) error {
		p.server.serve(func(m message) { p.lease(m, good, f) })
		if err := p.startClient(); err != nil {
			return err
		}
		h, ok := p.cable.Watch.Until(p.patience, func(h lab.Holding) bool { return len(h.Addrs) > 0 })
		if !ok {
			return fmt.Errorf("no address in %v", p.patience)
		}
		for a := range h.Addrs {
			if a.Addr() != good || a.Bits() < 24 {
				return fmt.Errorf("installs %v", a)
			}
		}
		return nil
	}
}

// oddRouted is odd, and there must be a default route by this router.
func oddRouted(bits int, f change, via string) func(*play) error {
	g := func(d *dhcpv4.DHCPv4) []byte {
		set(d, dhcpv4.OptionRouter, parse(via).AsSlice())
		return f(d)
	}
	return func(p *play) error {
		if err := odd(bits, g)(p); err != nil {
			return err
		}
		return p.routedBy(parse(via))
	}
}

// routedBy waits for a default route through via.
func (p *play) routedBy(via netip.Addr) error {
	if _, ok := p.cable.Watch.Until(p.patience, func(h lab.Holding) bool { return !h.Routed.IsZero() }); !ok {
		return errors.New("no default route")
	}
	got, err := p.cable.Router()
	if err != nil {
		return Broken{err}
	}
	if got != via {
		return fmt.Errorf("routes by %v", got)
	}
	return nil
}

// calm has all offers and ACKs changed, and then allows few messages in some
// seconds of being bound, without a gap.
func calm(d time.Duration, atMost int, f change) func(*play) error {
	return func(p *play) error {
		if err := odd(24, f)(p); err != nil {
			return err
		}
		n := p.heardSoFar()
		if err := p.stays(prefix(good, 24), d); err != nil {
			return err
		}
		if seen := p.server.messages(n); len(seen) > atMost {
			return fmt.Errorf("%s in %v", counts(seen), d)
		}
		return nil
	}
}

// sparing has all offers and ACKs changed, and then allows few messages in some
// seconds. The address may be lost meanwhile, on a machine that is busy, but
// must come back.
func sparing(d time.Duration, atMost int, f change) func(*play) error {
	return func(p *play) error {
		if err := odd(24, f)(p); err != nil {
			return err
		}
		if err := p.quiet(d, atMost); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

func parse(a string) netip.Addr { return netip.MustParseAddr(a) }
