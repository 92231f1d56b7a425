package phone

import (
	"fmt"
	"strings"
	"unicode/utf8"

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
	c, _ := m.focused()
	switch m.state() {
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
		case m.notice.reason != "":
			v.Line1, v.Line2 = m.notice.peer, m.notice.reason.line()
		case !m.registered:
			v.Line2 = "storing server away"
		case m.missed == 1:
			v.Line2 = "1 missed call"
		case m.missed > 1:
			v.Line2 = "missed calls"
		case len(m.broken) > 0:
			v.Line2 = "broken: " + m.broken[len(m.broken)-1]
		}
	case Dialing:
		v.Line1, v.Line2 = "Dial a number", m.digits
		if m.digits == "" && m.hook == hal.OffHook {
			v.Tone = ToneDial
		}
	case Releasing:
		v.Line1, v.Line2 = m.notice.peer, m.notice.reason.line()
		if !m.notice.asked {
			v.Tone = m.notice.reason.tone()
		}
	default:
		v = c.view(v)
		if !m.leased { // the call waits for an address
			v.Line2 = "no network, waiting"
		}
	}
	if m.muted {
		v.Line2 = unheard(m.state(), c, v.Line2)
	}
	if m.turned != "" {
		v.Line2 = m.turned
	}
	v.Line1, v.Line2 = cut(v.Line1), cut(v.Line2)
	return v
}

// unheard is the second line while nobody hears what is said here; c is the call, if
// there is one. Digits and ends are shown whole: what is said then is heard by nobody anyway.
func unheard(s State, c call, line string) string {
	const word = "muted"
	with := word + ", " + line
	switch {
	case s == Dialing, s == Releasing:
		return line
	case utf8.RuneCountInString(with) <= hal.DisplayColumns:
		return with
	case c.opinion != 0: // which was asked for, and passes
		return line
	case c.was != [32]byte{}:
		return word + newKey
	}
	return word
}

// cut is a line as a display shows it.
func cut(line string) string {
	if r := []rune(line); len(r) > hal.DisplayColumns {
		return string(r[:hal.DisplayColumns])
	}
	return line
}

// view is what a call shows and sounds, in place of v's lines and tone.
func (c call) view(v View) View {
	v.Line1 = c.peer
	if c.page != "" {
		v.Line1 = c.page
	}
	switch c.phase {
	case resolving:
		v.Line2 = "looking up"
	case calling:
		v.Line2 = "calling"
	case reached:
		v.Line2 = "ringing"
		if !c.heard {
			v.Tone = ToneRing
		}
	case ringing, answering:
		v.Line2, v.Lamp = "calls, not proved", hal.LampBlink
		if c.trust == proved { // anybody can say that he is 102
			v.Line2 = "is calling"
		}
		if c.page != "" {
			v.Line1, v.Line2 = strings.TrimSpace(fromBrowser), c.page
		}
		if c.phase == ringing {
			v.Tone = ToneAlert
		}
	case talking:
		switch {
		case c.missed:
			v.Line2 = "reconnecting"
		case c.opinion != 0:
			v.Line2 = fmt.Sprintf("MOS %.1f of %.1f", c.opinion, bestOpinion)
			if c.way != "" {
				v.Line2 += ", " + c.way
			}
		case c.holds:
			v.Line2 = "on hold"
		case c.held:
			v.Line2 = "has put you on hold"
		default:
			v.Line2 = security(c.private)
		}
	}
	if c.was != [32]byte{} {
		if c.phase == talking && c.held && !c.missed && !c.holds && c.opinion == 0 { // else it is longer than the display
			v.Line2 = "holds you"
		}
		v.Line2 += newKey
	}
	return v
}

const newKey = ", new key"

// bestOpinion is the most that the E-model gives, whatever is heard (ITU-T G.107).
const bestOpinion = 4.5

func security(private bool) string {
	if private {
		return "private"
	}
	return "not private"
}
