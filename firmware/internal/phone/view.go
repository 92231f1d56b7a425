package phone

import (
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// A Tone names what the phone's user hears beside speech.
type Tone string

// The tones, as ITU-T E.180 names them.
const (
	Silence        Tone = ""
	ToneDial       Tone = "dial"
	ToneRing       Tone = "ringing tone"        // it rings there
	ToneBusy       Tone = "busy"                // the called party is engaged, or has hung up
	ToneCongestion Tone = "congestion"          // the network cannot
	ToneSIT        Tone = "special information" // the number cannot be reached
	ToneAlert      Tone = "alerting"            // it rings here
)

// A View is what a phone shows and sounds in a state. It follows from the
// model alone.
type View struct {
	Tone         Tone
	Line1, Line2 string
	Lamp         hal.LampState
}

func view(m model) View {
	v := View{Lamp: hal.LampOff}
	if m.missed > 0 {
		v.Lamp = hal.LampOn
	}
	switch m.state {
	case Initial:
		v.Line1, v.Line2 = "No network", "waiting for an address"
		if m.leased {
			v.Line1, v.Line2 = m.addr, "not registered yet"
		}
		if m.hook == hal.OffHook {
			v.Tone = ToneCongestion
		}
	case Standby:
		v.Line1, v.Line2 = m.number, m.addr
		switch {
		case !m.registered:
			v.Line2 = "storing server away"
		case m.missed == 1:
			v.Line2 = "1 missed call"
		case m.missed > 1:
			v.Line2 = "missed calls"
		case m.broken != "":
			v.Line2 = "broken: " + m.broken
		}
	case Dialing:
		v.Line1, v.Line2 = "Dial a number", m.digits
		if m.digits == "" && m.hook == hal.OffHook {
			v.Tone = ToneDial
		}
	case Resolving:
		v.Line1, v.Line2 = m.digits, "looking up"
	case Calling:
		v.Line1, v.Line2 = m.peer, "calling"
		if m.peerRings {
			v.Line2, v.Tone = "ringing", ToneRing
		}
	case Ringing:
		v.Line1, v.Line2, v.Lamp = m.peer, "calls, not proved", hal.LampBlink
		if m.proved { // anybody can say that he is 102
			v.Line2 = "is calling"
		}
		if !m.answering {
			v.Tone = ToneAlert
		}
	case Talking:
		v.Line1, v.Line2 = m.peer, security(m.private)
	case Releasing:
		v.Line1, v.Line2 = m.peer, lines[m.reason]
		if v.Line2 == "" {
			v.Line2 = m.reason
		}
		if !m.active && !m.local {
			v.Tone = toneOf(m.reason)
		}
	}
	return v
}

// lines are what the display says of an end; a reason that is missing stands
// for itself.
var lines = map[string]string{
	sip.ReasonHangup:  "call ended",
	sip.ReasonUnknown: "unknown number",
	ReasonInvalid:     "no such number",
	ReasonServer:      "storing server away",
}

func toneOf(reason string) Tone {
	switch reason {
	case sip.ReasonHangup, sip.ReasonBusy, sip.ReasonNoAnswer, sip.ReasonDeclined, sip.ReasonCancelled:
		return ToneBusy
	case sip.ReasonUnknown, sip.ReasonWrongPhone, ReasonOffline, ReasonInvalid:
		return ToneSIT
	}
	return ToneCongestion
}
