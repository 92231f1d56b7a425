package faults

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/testbed/lab"
)

func lifeCases() []Case {
	return []Case{
		{"asleep past T1", "does not hear renewals for two seconds", "keep the address, and ask again or rebind (RFC 2131 §4.4.5)", hasty(asleep(1, 4, 8, 2*time.Second))},
		{"asleep past T2", "hears no unicast; another server hears broadcasts", "rebind with any server (RFC 2131 §4.4.5)", hasty(rebound)},
		{"asleep past expiry", "is silent until the lease is over", "take the address away at once, and begin again (RFC 2131 §4.4.5)", hasty(expired)},
		{"renewal refused", "refuses the renewal, and offers another address", "leave the address, take the other (RFC 2131 §4.4.5)", renewalRefused},
		{"flap before the offer", "the cable is replugged after DISCOVER", "begin again", flap(discover)},
		{"flap between OFFER and ACK", "the cable is replugged after REQUEST", "begin again", flap(request)},
		{"flap with a lost address", "the cable is replugged; the address is another's now", "ask for it, and take another (RFC 2131 §3.2)", replugged},
		{"the same within a millisecond", "the cable is back before anybody looks", "ask for the address again (RFC 2131 §3.7), and take another", blinked},
		{"offered address in use", "offers an address that another host has", "decline it, take another (RFC 2131 §3.1.5, RFC 5227)", conflictOnOffer},
		{"the only address in use", "offers one address alone, which another host has", "decline, and wait ten seconds between attempts (RFC 2131 §3.1.5)", conflictAlways},
		{"conflict, once", "another host says once that it has the address", "defend it (RFC 5227 §2.4 b)", conflictAfter(false)},
		{"conflict, again and again", "another host keeps saying that it has the address", "defend it now and then, and keep it: a spoofer must not silence a phone (RFC 5227 §2.4 c)", conflictAfter(true)},
	}
}

// asleep is silent for a while after the first ACK.
func asleep(t1, t2, lease uint32, d time.Duration) func(*play) error {
	return func(p *play) error {
		var sleeping atomic.Bool
		p.server.serve(func(m message) {
			if !sleeping.Load() {
				p.lease(m, good, leaseTimes(lease, t1, t2))
			}
		})
		if err := p.startClient(); err != nil {
			return err
		}
		if err := p.boundOnly(prefix(good, 24)); err != nil {
			return err
		}
		sleeping.Store(true)
		n := p.heardSoFar()
		if err := p.heard(n, time.Duration(t1+2)*time.Second, "renewal", isRenewal); err != nil {
			return err
		}
		if err := p.stays(prefix(good, 24), d); err != nil {
			return err
		}
		sleeping.Store(false)
		return p.stays(prefix(good, 24), time.Duration(lease)*time.Second)
	}
}

// rebound: after the first ACK the server is gone, and another knows its
// leases.
func rebound(p *play) error {
	var gone atomic.Bool
	f := leaseTimes(7, 1, 3)
	p.server.serve(func(m message) {
		switch {
		case !gone.Load():
			p.lease(m, good, f)
		case isRenewal(m) && m.to == everyone && m.wants() == good:
			d := reply(m, ack, good)
			set(d, dhcpv4.OptionServerIdentifier, rogue.AsSlice())
			p.server.send(rogue, good, f(d), 1500)
		}
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	gone.Store(true)
	return p.stays(prefix(good, 24), 9*time.Second)
}

func expired(p *play) error {
	const lease = 4
	p.server.serve(func(m message) { p.lease(m, good, leaseTime(lease)) })
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	p.server.serve(nil)
	// The lease counts from the sending of the last REQUEST; the kernel's own
	// clock of an address has whole seconds.
	if err := p.gone((lease + 2) * time.Second); err != nil {
		return err
	}
	p.server.serve(func(m message) { p.lease(m, good2, nil) })
	if err := p.bound(prefix(good2, 24)); err != nil {
		return err
	}
	return p.only(prefix(good, 24), prefix(good2, 24))
}

func renewalRefused(p *play) error {
	p.server.serve(func(m message) { p.lease(m, good, leaseTimes(60, 2, 50)) })
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.boundOnly(prefix(good, 24)); err != nil {
		return err
	}
	p.server.serve(func(m message) { p.lease(m, good2, nil) })
	return p.bound(prefix(good2, 24))
}

// flap replugs the cable when it first hears kind, and answers well from then
// on.
func flap(kind dhcpv4.MessageType) func(*play) error {
	return func(p *play) error {
		var once sync.Once
		pulled := make(chan struct{})
		p.server.serve(func(m message) {
			lost := false
			if m.MessageType() == kind {
				once.Do(func() { lost = true })
			}
			if lost {
				close(pulled)
				return
			}
			p.decent(m)
		})
		if err := p.startClient(); err != nil {
			return err
		}
		select {
		case <-pulled:
		case <-time.After(p.patience):
			return fmt.Errorf("no %v in %v", kind, p.patience)
		}
		if err := p.replug(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

// replug takes the cable out for a third of a second.
func (p *play) replug() error {
	if err := p.cable.Unplug(); err != nil {
		return Broken{err}
	}
	p.pause(300 * time.Millisecond)
	if err := p.cable.Plug(); err != nil {
		return Broken{err}
	}
	return nil
}

func replugged(p *play) error {
	if err := p.wellBound(); err != nil {
		return err
	}
	p.server.serve(func(m message) { p.lease(m, good2, nil) })
	if err := p.replug(); err != nil {
		return err
	}
	return p.bound(prefix(good2, 24))
}

func blinked(p *play) error {
	if err := p.wellBound(); err != nil {
		return err
	}
	p.server.serve(func(m message) { p.lease(m, good2, nil) })
	if err := p.cable.Blink(); err != nil {
		return Broken{err}
	}
	return p.bound(prefix(good2, 24))
}

func conflictOnOffer(p *play) error {
	p.server.take(marked)
	var declined atomic.Bool
	p.server.serve(func(m message) {
		switch {
		case m.MessageType() == decline && m.wants() == marked:
			declined.Store(true)
		case declined.Load():
			p.decent(m)
		default:
			p.lease(m, marked, nil)
		}
	})
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.bound(prefix(good, 24)); err != nil {
		return err
	}
	if !declined.Load() {
		return errors.New("sends no DECLINE")
	}
	return nil
}

func conflictAlways(p *play) error {
	p.server.take(good)
	p.server.serve(p.decent)
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.heard(0, p.patience, "DECLINE", isKind(decline)); err != nil {
		return err
	}
	if err := p.quiet(5*time.Second, 9); err != nil { // three attempts
		return err
	}
	if h, held := p.cable.Watch.Until(0, func(h lab.Holding) bool { return len(h.Addrs) > 0 }); held {
		for a, since := range h.Addrs {
			if time.Since(since) > time.Second {
				return fmt.Errorf("keeps %v, which another host has", a)
			}
		}
	}
	return nil
}

func conflictAfter(stubborn bool) func(*play) error {
	return func(p *play) error {
		p.server.serve(p.decent)
		if err := p.startClient(); err != nil {
			return err
		}
		if err := p.boundOnly(prefix(good, 24)); err != nil {
			return err
		}
		p.pause(time.Second) // the client's own probes are over
		p.server.sayARP(good, [6]byte(lab.NearMAC), good)
		if !stubborn {
			return p.stays(prefix(good, 24), 2*time.Second)
		}
		for range 8 {
			if err := p.stays(prefix(good, 24), 500*time.Millisecond); err != nil {
				return err
			}
			p.server.sayARP(good, [6]byte(lab.NearMAC), good)
		}
		return p.stays(prefix(good, 24), time.Second)
	}
}
