package sip

import "strings"

// Reasons of an Ended event. These words are stable: the phone turns them into
// tones and lines on the display, tests and logs compare them.
const (
	ReasonHangup      = "hangup"          // one end hung up an established call
	ReasonCancelled   = "cancelled"       // the caller hung up before there was an answer (487)
	ReasonBusy        = "busy"            // 486, 600
	ReasonNoAnswer    = "no answer"       // 408 or 480 from the peer
	ReasonDeclined    = "declined"        // 603, 607
	ReasonUnknown     = "unknown number"  // 410, 416, 484, 485, 604
	ReasonWrongPhone  = "wrong phone"     // 404, or TLS ended at another key
	ReasonNoCodec     = "no common codec" // 415, 488, 606, or an answer that we cannot use
	ReasonForbidden   = "forbidden"       // 401, 403, 407
	ReasonMoved       = "moved"           // any 3xx
	ReasonUnreachable = "unreachable"     // nothing listens there, or nothing comes back
	ReasonCut         = "cut off"         // the connection to a phone of ours is gone on which it had begun to answer
	ReasonWrongKey    = "wrong key"       // who speaks where the peer has to be owns another key
	ReasonNoKeys      = "no keys"         // those of the sound never came
	ReasonFailed      = "failed"          // any other refusal
	ReasonStopped     = "stopped"         // this agent was stopped
)

// told reports whether the peer is told of an end for that reason: it would take it for a
// person's wish.
func told(reason string) bool { return reason == ReasonWrongKey || reason == ReasonNoKeys }

// reasonHeader is the Reason of a BYE (RFC 3326): of SIP, Not Acceptable Here.
func reasonHeader(reason string) string { return `SIP;cause=488;text="` + reason + `"` }

// byeReason is why the peer has ended the call.
func byeReason(req headed) string {
	for _, reason := range []string{ReasonWrongKey, ReasonNoKeys} {
		if strings.TrimSpace(valueOf(req, "Reason")) == reasonHeader(reason) {
			return reason
		}
	}
	return ReasonHangup
}

// ReasonOf is what a final status says about a call that was not answered.
func ReasonOf(code int) string {
	switch code {
	case 486, 600:
		return ReasonBusy
	case 408, 480:
		return ReasonNoAnswer
	case 603, 607:
		return ReasonDeclined
	case 404:
		return ReasonWrongPhone
	case 410, 416, 484, 485, 604:
		return ReasonUnknown
	case 415, 488, 606:
		return ReasonNoCodec
	case 401, 403, 407:
		return ReasonForbidden
	case 487:
		return ReasonCancelled
	}
	if code >= 300 && code < 400 {
		return ReasonMoved
	}
	return ReasonFailed
}

// phrases are the reason phrases of the statuses that we send.
var phrases = map[int]string{
	100: "Trying", 180: "Ringing", 200: "OK",
	400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
	406: "Not Acceptable", 408: "Request Timeout", 415: "Unsupported Media Type",
	416: "Unsupported URI Scheme", 420: "Bad Extension", 422: "Session Interval Too Small", 480: "Temporarily Unavailable",
	481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 486: "Busy Here",
	487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending",
	500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable", 504: "Server Time-out",
	505: "Version Not Supported", 600: "Busy Everywhere", 603: "Decline",
	606: "Not Acceptable",
}

// phrase is the reason phrase that goes with code.
func phrase(code int) string {
	if p := phrases[code]; p != "" {
		return p
	}
	return "Refused"
}
