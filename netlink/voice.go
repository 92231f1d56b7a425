package netlink

import (
	"time"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
)

// A voicing says on which VLAN a telephone belongs: the pure half of OnVoiceVLAN.
//
// A VLAN has a reason: a switch's policy, which holds for the time that the switch
// says and as long as it repeats it, or option 132 of the server of the untagged
// network. It is left when the reason is gone. A cable that was out may be plugged
// in elsewhere, where the switch gets the time of a first one to say it again.
type voicing struct {
	fixed int           // by the settings; 0: none
	wait  time.Duration // how long a switch is listened to first

	up    bool
	index int       // of the interface; 0: it is not there
	away  time.Time // since when there is no carrier; zero: there is one

	policy voicePolicy
	by     string    // whose policy it is; empty: there is none
	until  time.Time // it holds
	again  time.Time // by then it must be said again; zero: no need

	patience time.Time // until then nothing but a switch decides
	byServer int       // option 132; 0: nothing
	entered  time.Time // the VLAN of option 132 is waited for since; zero: it need not be
	barren   int       // a VLAN of option 132 on which nothing is leased
	cannot   int       // the VLAN that this kernel cannot make, on this interface
}

const (
	// barrenWait is how long a VLAN that option 132 named may be without a lease: a
	// port of a spanning tree forwards by then.
	barrenWait = time.Minute
	// maxVLAN is the highest number of a VLAN (IEEE 802.1Q §9.6).
	maxVLAN = 4094
)

// What can happen to a voicing, beside tick.
type (
	parentSeen struct {
		index int // 0: there is none
		up    bool
	}
	serverSays  struct{ vlan int } // on the untagged network
	leaseOnVLAN struct{}
	cannotMake  struct{ vlan int }
)

func (v *voicing) start(now time.Time) { v.patience = now.Add(v.wait) }

// step takes an input. Afterwards, vlan says where to be.
func (v *voicing) step(now time.Time, in any) {
	v.due(now)
	switch in := in.(type) {
	case parentSeen:
		v.parent(now, in)
	case lldpSays:
		v.hear(now, in)
	case serverSays:
		switch in.vlan {
		case v.byServer:
		case 0:
			v.byServer, v.entered = 0, time.Time{}
		case v.barren:
		default:
			v.byServer, v.entered = in.vlan, now
		}
	case leaseOnVLAN:
		v.entered = time.Time{}
	case cannotMake:
		v.cannot = in.vlan
	}
	v.due(now)
}

// due does what time asks for.
func (v *voicing) due(now time.Time) {
	if moment.Passed(now, v.until) || moment.Passed(now, v.again) {
		v.withdraw()
	}
	if moment.Passed(now, moment.Later(v.entered, barrenWait)) && v.up && v.by == "" {
		v.barren, v.byServer, v.entered = v.byServer, 0, time.Time{}
	}
}

// parent follows the interface below.
func (v *voicing) parent(now time.Time, in parentSeen) {
	if in.index != v.index {
		v.cannot = 0
	}
	switch {
	case !in.up && v.away.IsZero():
		v.away = now
	case in.up && !v.away.IsZero():
		if now.Sub(v.away) >= link.Grace || in.index != v.index { // perhaps another switch
			v.byServer, v.barren, v.entered = 0, 0, time.Time{}
			if v.by != "" {
				v.again = now.Add(v.wait)
			}
		}
		v.away = time.Time{}
	}
	v.index, v.up = in.index, in.up
}

// hear takes what a neighbour says. Only a network connectivity device sets a
// policy (ANSI/TIA-1057 §10.2.3): another telephone repeats the one it has.
func (v *voicing) hear(now time.Time, says lldpSays) {
	if says.device != medConnectivity {
		return
	}
	switch {
	case says.voice && says.policy.life > 0 && (v.by == "" || v.by == says.from || !v.again.IsZero()):
		v.policy, v.by, v.again = says.policy, says.from, time.Time{}
		v.until = now.Add(says.policy.life)
		v.patience = now
	case says.from == v.by:
		v.withdraw()
	}
}

func (v *voicing) withdraw() {
	v.policy, v.by, v.until, v.again = voicePolicy{}, "", time.Time{}, time.Time{}
}

// vlan returns where to be, 0 for the untagged network; ok is false while it is
// too early to say, or there is nothing to be on.
func (v *voicing) vlan(now time.Time) (n int, ok bool) {
	switch {
	case v.fixed != 0:
		n, ok = v.fixed, true
	case v.by != "":
		n, ok = int(v.policy.vlan), true
	default:
		n, ok = v.byServer, !now.Before(v.patience)
	}
	if n == v.cannot {
		n = 0
	}
	return n, ok && (n == 0 || v.index != 0)
}

// deadline returns when step wants a tick; zero: never.
func (v *voicing) deadline(now time.Time) time.Time {
	first := moment.Earliest(v.until, v.again, moment.Later(v.entered, barrenWait))
	if v.patience.After(now) {
		first = moment.Earliest(first, v.patience)
	}
	if !first.IsZero() && !first.After(now) { // it waits for the carrier
		return time.Time{}
	}
	return first
}
