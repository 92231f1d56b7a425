package phone

import (
	"net/netip"

	"flexphone/firmware/internal/events"
	"flexphone/hal"
)

// What happens to a phone, beside the events of its calls (call.go), and what it
// does about it.
type (
	event any

	keyPressed struct{ key hal.Key }
	hookMoved  struct{ to hal.HookState }
	dialled    struct{ number string } // without the handset
	answered   struct{}
	accepted   struct{} // the new key of whom the call in focus is with
	hungUp     struct{}
	putOnHold  struct{ is bool } // or taken up again
	muted      struct{ is bool }
	turned     struct{ line string } // how loud something is now, as the display says it
	networkUp  struct {
		addr   string
		others []netip.Addr
	}
	networkDown  struct{ reason string }
	registration struct {
		ok     bool
		number string
	}
	offered struct {
		call Call
		from string
		by   caller // one that is not zero may be able to prove who it is
		page string // the name of who calls from a browser; empty: it is a phone
		// known: by that key somebody has proved before who he is.
		known bool
	}
	timedOut struct {
		id  int // of a call, or one of those below
		seq int
	}
	partFailed struct{ part string }
	partWorks  struct{ part string }
	alive      struct{} // whether call control lives
)

type (
	action any

	place struct { // begins the function of a call
		id int
		to Destination
	}
	take struct { // likewise, of one that came in; it does not ring yet
		id   int
		line Call
		ask  bool // it may be able to prove who it is
	}
	refuse struct{ line Call }
	ring   struct{ id int }
	answer struct{ id int }
	// release ends the function of a call, which tells the peer.
	release struct {
		id     int
		reason Reason
	}
	move struct{ id int } // this phone has another address
	hold struct {         // the peer is to be put on hold, or taken up again
		id int
		is bool
	}
	sendDigit struct {
		id  int
		key hal.Key
	}
	rate struct{ id int } // tells how good the call is, by callRated
	// accept makes the key of with the one that its user knows.
	accept struct {
		name string
		with caller
	}
	click struct{ key hal.Key }
	turn  struct { // makes what is heard louder or quieter, and tells by turned
		by     int  // steps
		ringer bool // what rings, not what people say
	}
	mute   struct{ is bool }
	report struct{ events.Event }
)

// Ids of timers that are no call's.
const (
	deskTimer = 0
	awayTimer = -1
	turnTimer = -2
)
