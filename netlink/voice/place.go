package voice

import (
	"time"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/moment"
)

// A place says on which VLAN a telephone belongs, and why.
type place struct {
	fixed int           // by the settings; 0: none
	wait  time.Duration // how long a switch is listened to first

	index int       // of the interface below; 0: it is not there
	up    bool      // and has a carrier
	away  time.Time // since when there is no carrier; zero: there is one

	policy lldp.Policy
	by     string    // whose policy it is; empty: there is none
	until  time.Time // it holds
	again  time.Time // by then it must be said again; zero: no need

	patience time.Time // until then nothing but a switch decides
	byServer int       // option 132; 0: nothing
	entered  time.Time // the VLAN of option 132 is waited for since; zero: it need not be
	barren   int       // a VLAN of option 132 on which nothing is leased
	cannot   int       // the VLAN that this kernel cannot make, on this interface
}

// barrenWait is how long a VLAN that option 132 named may be without a lease: a
// port of a spanning tree forwards by then.
const barrenWait = time.Minute

// due does what time asks for.
func (p *place) due(now time.Time) {
	if moment.Passed(now, p.until) || moment.Passed(now, p.again) {
		p.withdraw()
	}
	if moment.Passed(now, moment.Later(p.entered, barrenWait)) && p.up && p.by == "" {
		p.barren, p.byServer, p.entered = p.byServer, 0, time.Time{}
	}
}

// below follows the interface below.
func (p *place) below(now time.Time, index int, up bool) {
	if index != p.index {
		p.cannot = 0
	}
	switch {
	case !up && p.away.IsZero():
		p.away = now
	case up && !p.away.IsZero():
		if now.Sub(p.away) >= link.Grace || index != p.index { // perhaps another switch
			p.byServer, p.barren, p.entered = 0, 0, time.Time{}
			if p.by != "" {
				p.again = now.Add(p.wait)
			}
		}
		p.away = time.Time{}
	}
	p.index, p.up = index, up
}

// hear takes what a neighbour says. Only a network connectivity device sets a
// policy (ANSI/TIA-1057 §10.2.3): another telephone repeats the one it has.
func (p *place) hear(now time.Time, says lldp.Message) {
	if says.Device != lldp.Connectivity {
		return
	}
	switch {
	case says.Voice && says.Policy.Life > 0 && (p.by == "" || p.by == says.From || !p.again.IsZero()):
		p.policy, p.by, p.again = says.Policy, says.From, time.Time{}
		p.until = now.Add(says.Policy.Life)
		p.patience = now
	case says.From == p.by:
		p.withdraw()
	}
}

func (p *place) withdraw() {
	p.policy, p.by, p.until, p.again = lldp.Policy{}, "", time.Time{}, time.Time{}
}

// serverSays takes option 132 of the untagged network, 0 for none.
func (p *place) serverSays(now time.Time, vlan int) {
	switch vlan {
	case p.byServer: // as before
	case 0:
		p.byServer, p.entered = 0, time.Time{}
	case p.barren: // it was tried
	default:
		p.byServer, p.entered = vlan, now
	}
}

// bears takes that there is a lease on the VLAN in use.
func (p *place) bears() { p.entered = time.Time{} }

// vlan returns where to be, 0 for the untagged network; ok is false while it is
// too early to say, or there is nothing to be on.
func (p *place) vlan(now time.Time) (n int, ok bool) {
	switch {
	case p.fixed != 0:
		n, ok = p.fixed, true
	case p.by != "":
		n, ok = int(p.policy.VLAN), true
	default:
		n, ok = p.byServer, !now.Before(p.patience)
	}
	if n == p.cannot {
		n = 0
	}
	return n, ok && (n == 0 || p.index != 0)
}

// deadline returns when time asks for something; zero: never.
func (p *place) deadline(now time.Time) time.Time {
	first := moment.Earliest(p.until, p.again, moment.Later(p.entered, barrenWait))
	if p.patience.After(now) {
		first = moment.Earliest(first, p.patience)
	}
	if !first.IsZero() && !first.After(now) { // it waits for the carrier
		return time.Time{}
	}
	return first
}
