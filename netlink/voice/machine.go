package voice

import (
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/moment"
)

// A phone introduces itself lldpFastMany times, lldpFast apart, and then now and
// then (ANSI/TIA-1057 §11.2.1, IEEE 802.1AB §9.2.5).
const (
	lldpFast     = time.Second
	lldpFastMany = 4
	lldpSlow     = 30 * time.Second
)

// untold is the VLAN in use while there is none, not even the untagged network.
const untold = -1

// What can happen to a machine, beside lldp.Message.
type (
	// below is what the interface below is like.
	below struct {
		index   int // 0: there is none
		up      bool
		changes uint32 // how often its carrier came or went
	}
	// vanished: the interface of the VLAN in use is gone, as it goes with the one below.
	vanished struct{}
	// told: the Source on the VLAN in use tells this.
	told struct{ event netlink.Event }
	// notMade answers move: this kernel cannot make the interface.
	notMade struct{ err error }
	tick    struct{} // deadline may have passed
	stopped struct{}
)

// What a machine wants done, in order.
type (
	// move to a VLAN: leave the one in use, if any, and run the Source there.
	move struct{ vlan int }
	// leave the VLAN in use, for good.
	leave struct{}
	// introduce the phone to the switch, which is told the policy that is known.
	introduce struct {
		policy lldp.Policy
		known  bool
	}
	tell   struct{ event netlink.Event }
	lament struct { // that the phone is not where it belongs
		vlan int
		err  error
	}
)

// A machine moves a phone between VLANs, without I/O and without a clock.
type machine struct {
	place place
	on    int // the VLAN in use
	link  below
	told  netlink.Lease
	speak time.Time // the next introduction; zero: none
	spoke int       // introductions since the carrier came
	out   []any
}

func newMachine(now time.Time, fixed int, wait time.Duration) machine {
	return machine{place: place{fixed: fixed, wait: wait, patience: now.Add(wait)}, on: untold}
}

// step takes an input and returns what to do.
func (m *machine) step(now time.Time, in any) []any {
	m.out = nil
	m.place.due(now)
	switch in := in.(type) {
	case below:
		m.follow(now, in)
	case vanished:
		m.on = untold
	case lldp.Message:
		m.place.hear(now, in)
	case told:
		m.pass(now, in.event)
	case notMade:
		m.do(lament{m.on, in.err})
		m.place.cannot, m.on = m.on, untold
	case tick:
	case stopped:
		m.stop(now)
		return m.out
	}
	m.place.due(now)
	m.settle(now)
	m.introduce(now)
	return m.out
}

// deadline returns when step wants a tick; zero: never.
func (m *machine) deadline(now time.Time) time.Time {
	return moment.Earliest(m.place.deadline(now), m.speak)
}

func (m *machine) do(a any) { m.out = append(m.out, a) }

// settle goes where the phone belongs.
func (m *machine) settle(now time.Time) {
	if n, ok := m.place.vlan(now); ok && n != m.on {
		m.on = n
		m.do(move{n})
	}
}

// follow takes the state of the interface below. A carrier that comes up may be
// another switch's, which does not know us; so may one that was away between two looks.
func (m *machine) follow(now time.Time, in below) {
	was := m.link
	if m.link = in; in.index != was.index {
		was = below{}
	}
	if was.up && in.up && in.changes != was.changes {
		m.place.below(now, in.index, false)
		was.up = false
	}
	m.place.below(now, in.index, in.up)
	switch {
	case !in.up || m.place.fixed != 0: // nobody to ask
		m.speak = time.Time{}
	case !was.up:
		m.speak, m.spoke = now, 0
	}
}

// introduce tells the switch what this is, when it is time for it.
func (m *machine) introduce(now time.Time) {
	if !moment.Passed(now, m.speak) {
		return
	}
	m.do(introduce{m.place.policy, m.place.by != ""})
	m.speak = now.Add(lldpSlow)
	if m.spoke++; m.spoke < lldpFastMany {
		m.speak = now.Add(lldpFast)
	}
}

// pass passes an event on, unless another VLAN follows from it: then it is not worth
// telling.
func (m *machine) pass(now time.Time, e netlink.Event) {
	if e.Kind == netlink.Lost {
		m.told = netlink.Lease{}
		m.do(tell{e})
		return
	}
	if m.on == 0 {
		m.place.serverSays(now, e.Lease.VoiceVLAN)
	} else {
		m.place.bears()
	}
	m.place.due(now)
	if n, ok := m.place.vlan(now); ok && n != m.on {
		return
	}
	m.told = e.Lease
	m.do(tell{e})
}

// stop gives the address back, and then tells that it is gone.
func (m *machine) stop(now time.Time) {
	m.do(leave{})
	if m.told.Prefix.IsValid() {
		m.do(tell{netlink.Event{Kind: netlink.Lost, Lease: m.told, Reason: "released", At: now}})
	}
	m.told, m.on, m.speak = netlink.Lease{}, untold, time.Time{}
}
