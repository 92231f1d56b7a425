package store

import "flexphone/registry-client/wire"

// Names of events.
const (
	EventEnrolled      = "enrolled"      // a key owns a row that nobody owned
	EventRotated       = "rotated"       // the owner named another key
	EventKeyForgotten  = "key-forgotten" // nobody owns the row
	EventForgotten     = "forgotten"     // the row is gone
	EventNumber        = "number"        // the operator gave another number
	EventNumberFreed   = "number-freed"  // the operator ended a number's rest
	EventPhoneAdded    = "phone-added"   // a standard phone may register
	EventPhoneChanged  = "phone-changed" // it has another password
	EventTokenMade     = "token-made"    // for one enrolment
	EventTokenRevoked  = "token-revoked" // it is worth nothing
	EventRefusedByDisk = "not-written"   // what the line before says did perhaps not happen
)

// byOperator is who made a change by a command.
const byOperator = "operator"

// An Event is a change of who owns what, for the audit log.
type Event struct {
	Event  string
	MAC    wire.MAC         // zero: of no phone in particular
	Key    wire.Fingerprint // the owner's from now on; zero: none
	Old    wire.Fingerprint // the owner's until now; zero: none
	Number string
	User   string // of a standard phone
	Token  string // its ID
	By     string // "open", "token ID", "ca NAME", "owner", "operator"
}

// tell notes an event of the operation that is being planned.
func (v *view) tell(e Event) { v.events = append(v.events, e) }
