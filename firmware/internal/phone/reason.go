package phone

import "flexphone/firmware/internal/sip"

// A Reason is why a call has ended, or has never been. Its words are stable:
// the display, the events and tests compare them. Those that come from the peer
// are package sip's.
type Reason string

// Reasons for an end that come from here.
const (
	ReasonNetwork Reason = "network down"    // no address for as long as a peer would be waited for
	ReasonOffline Reason = "not connected"   // the storing server knows that the phone is away
	ReasonServer  Reason = "no server"       // the storing server does not answer
	ReasonInvalid Reason = "invalid number"  // outside the dial plan
	ReasonNoDigit Reason = "nothing dialled" //
	ReasonStopped Reason = "phone stopped"   //
	ReasonLost    Reason = "connection lost" // nothing comes from the peer any more
	ReasonSound   Reason = "no sound"        // no RTP port, no sound device, or nothing of what was agreed can be sent
	ReasonBroken  Reason = "internal error"  // a part of the phone has panicked

	ReasonNotPrivate Reason = "cannot be private" // and this phone's settings want it to be
)

// Final SIP statuses (RFC 3261, section 21) that the reasons of this end are told
// as to a caller whose call was not answered.
const (
	statusUnavailable = 480 // nobody lifted the handset
	statusBusyHere    = 486
	statusServerError = 500
	statusDecline     = 603
)

// status is what to refuse a call with that ends for r.
func (r Reason) status() int {
	switch r {
	case sip.ReasonHangup:
		return statusDecline
	case sip.ReasonBusy:
		return statusBusyHere
	case ReasonSound, ReasonBroken:
		return statusServerError
	}
	return statusUnavailable
}

// line is what the display says of an end for r.
func (r Reason) line() string {
	switch r {
	case sip.ReasonHangup:
		return "call ended"
	case ReasonInvalid:
		return "no such number"
	case ReasonServer:
		return "storing server away"
	}
	return string(r)
}

// tone is what is heard of an end for r.
func (r Reason) tone() Tone {
	switch r {
	case sip.ReasonHangup, sip.ReasonBusy, sip.ReasonNoAnswer, sip.ReasonDeclined, sip.ReasonCancelled:
		return ToneBusy
	case sip.ReasonUnknown, sip.ReasonWrongPhone, ReasonOffline, ReasonInvalid:
		return ToneSIT
	}
	return ToneCongestion
}
