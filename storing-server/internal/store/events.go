package store

import (
	"context"

	"flexphone/registry-client/wire"
)

// Names of events.
const (
	EventEnrolled        = "enrolled"          // a key owns a row that nobody owned
	EventRotated         = "rotated"           // the owner named another key
	EventKeyForgotten    = "key-forgotten"     // nobody owns the row
	EventForgotten       = "forgotten"         // the row is gone
	EventNumber          = "number"            // the operator gave another number
	EventApproved        = "approved"          // the operator lets a key own a row
	EventNamed           = "named"             // the operator gave a name and labels, or took them away
	EventNumberFreed     = "number-freed"      // the operator ended a number's rest
	EventPhoneAdded      = "phone-added"       // a standard phone may register
	EventPhoneChanged    = "phone-changed"     // it has another password
	EventTokenMade       = "token-made"        // for one enrolment
	EventTokenRevoked    = "token-revoked"     // it is worth nothing
	EventPasswordSet     = "password-set"      // of the operator's pages, in a role
	EventPasswordRemoved = "password-removed"  // nobody logs in by it
	EventAPITokenMade    = "api-token-made"    // for a program
	EventAPITokenRevoked = "api-token-revoked" // it is worth nothing
	EventCallLinkMade    = "call-link-made"    // for calls from a browser
	EventCallLinkRevoked = "call-link-revoked" // it is worth nothing
	EventPageMade        = "page-made"         // a browser that is called got a number
	EventRegionSet       = "region-set"        // another server keeps the rows of a span, or this one
	EventRegionRemoved   = "region-removed"    // nobody in particular does
	EventRegionLearned   = "region-learned"    // as another cluster has it
	EventRefusedByDisk   = "not-written"       // what the line before says did perhaps not happen
)

// byCommand is who made a change, unless somebody says.
const byCommand = "command"

type actor struct{}

// By returns a context whose changes are who's, such as "api-token 1a2b3c4d".
// Without it they are a command's, of somebody who has a shell here.
func By(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actor{}, who)
}

func actorOf(ctx context.Context) string {
	if who, ok := ctx.Value(actor{}).(string); ok {
		return who
	}
	return byCommand
}

// An Event is a change of who owns what, for the audit log.
type Event struct {
	Event  string
	MAC    wire.MAC         // zero: of no phone in particular
	Key    wire.Fingerprint // the owner's from now on; zero: none
	Old    wire.Fingerprint // the owner's until now; zero: none
	Number string
	User   string // of a standard phone
	Token  string // its ID
	Name   string // of a token of the API, or a phone; or the role of a password
	Labels []string
	Server string // of a region, whose span is Name
	By     string // "open", "list", "approval", "token ID", "ca NAME", "owner", or whose the change is
}

// tell notes an event of the operation that is being planned.
func (v *view) tell(e Event) {
	if e.By == "" {
		e.By = v.by
	}
	v.events = append(v.events, e)
}
