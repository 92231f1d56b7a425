// Package events is every event that `flexphone ctl events` gives out, with its
// fields. Scripts, tests and operators read them by these names, so a name and a
// field stay as they are once they stand here. docs/events.md is made of this
// file: go test ./firmware/internal/events -update.
//
// It knows names and fields. It refuses to know when something happens, and who
// listens.
package events

import (
	"log/slog"
	"reflect"
	"time"
)

// An Event is one of the types of this package. Each has a field of its own for
// what it tells: the tag name is what the field is called outside, and means says
// for people what it is.
type Event interface {
	// Name is what the event is called outside.
	Name() string
	// means says for people when it happens.
	means() string
}

// The events of the address. An empty text stands for what there is none of.
type (
	// LeaseBound is told when the phone has an address that it can use.
	LeaseBound struct{ Lease }
	// LeaseRenewed is told when the phone keeps its address.
	LeaseRenewed struct{ Lease }
	// LeaseLost is told when the phone has no address any more.
	LeaseLost struct {
		Address string `name:"address" means:"the one that is gone"`
		Reason  string `name:"reason" means:"expired, nak, link down, released, conflict, or failed: the address agent ended"`
	}
	// AddressChanged is told after LeaseBound, when there was another address.
	AddressChanged struct {
		Address string `name:"address" means:"the new one"`
		Was     string `name:"was" means:"the one before"`
	}
)

// Lease is what is told of an address.
type Lease struct {
	Address string    `name:"address" means:"this phone's"`
	Prefix  string    `name:"prefix" means:"the address with the length of its network"`
	Router  string    `name:"router" means:"the default router; empty: none"`
	Server  string    `name:"server" means:"who leased it, by DHCP; empty: nobody"`
	Expiry  time.Time `name:"expiry" means:"when the lease ends (RFC 3339); the year 1: never"`
}

// The events of the row at the storing server.
type (
	// Registered is told when the storing server has the phone's row.
	Registered struct {
		Address   string        `name:"address" means:"those in the row, with blanks between them"`
		Sequence  uint64        `name:"sequence" means:"of the registration; it only grows"`
		Number    string        `name:"number" means:"what this phone is called: its short number, or its 15 digits"`
		Reflexive string        `name:"reflexive" means:"the address and port that the storing server saw"`
		Took      time.Duration `name:"took" means:"from the request to its answer"`
		Reach     string        `name:"reach" means:"how the row says that the phone is reached: direct, nat or relay"`
	}
	// RegisterFailed is told when an announcement was not taken.
	RegisterFailed struct {
		Error string        `name:"error" means:"why"`
		Retry time.Duration `name:"retry" means:"the wait until the next attempt"`
	}
	// Released is told when the storing server has heard that the phone leaves.
	Released struct{}
	// Booted is told once, where this phone is what the machine is for.
	Booted struct {
		// Steps are those of poweron, each a duration.
		Steps []slog.Attr `name:"init, firmware, lease, registered" means:"when each was reached, from power-on"`
	}
)

// The events of calls.
type (
	// State is told when call control comes into another state.
	State struct {
		State string `name:"state" means:"as in the answer to ctl status"`
	}
	// Dialed is told when a number is complete.
	Dialed struct {
		Number string `name:"number" means:"as it was dialled"`
	}
	// Resolved is told when it is known where the called phone is.
	Resolved struct {
		Number  string `name:"number" means:"as it was dialled"`
		Peer    string `name:"peer" means:"what the called phone is called in SIP"`
		Address string `name:"address" means:"its address and port"`
	}
	// KeyChanged is told in a call with a number that was known by another key.
	KeyChanged struct {
		Peer string `name:"peer" means:"the other end"`
		Was  string `name:"was" means:"the SHA-256 of the key by which it was known"`
		Key  string `name:"key" means:"of the one that it has now; empty: it has none any more"`
	}
	// Connected is told when the called phone has answered the request at all.
	Connected struct {
		Peer string `name:"peer" means:"the other end"`
	}
	// RingingThere is told when it rings at the other end.
	RingingThere struct {
		To string `name:"to" means:"the other end, of a call from here"`
	}
	// RingingHere is told when it rings here.
	RingingHere struct {
		From string `name:"from" means:"the other end, of a call to here; from a browser: and its name where a page calls"`
	}
	// Established is told when both ends hear each other.
	Established struct {
		Peer     string `name:"peer" means:"the other end"`
		Codec    string `name:"codec" means:"in which this phone sends"`
		Security string `name:"security" means:"private, where the sound is encrypted with keys that the peer has told over TLS; else not private"`
	}
	// Moved is told when a call goes on over other addresses.
	Moved struct {
		Who  string `name:"who" means:"which end has moved: local, peer"`
		Peer string `name:"peer" means:"the other end"`
	}
	// Reconnecting is told when the other end is not heard any more, and has not said
	// that it would be silent.
	Reconnecting struct {
		Peer string `name:"peer" means:"the other end"`
	}
	// Reconnected is told when it is heard again.
	Reconnected struct {
		Peer string `name:"peer" means:"the other end"`
	}
	// Held is told when one end of a call has the other wait, and both know it.
	Held struct {
		Who  string `name:"who" means:"which end has the other wait: local, peer"`
		Peer string `name:"peer" means:"the other end"`
	}
	// Retrieved is told when it does no longer.
	Retrieved struct {
		Who  string `name:"who" means:"as in held"`
		Peer string `name:"peer" means:"the other end"`
	}
	// Digit is told when the other end of a call has pressed a key.
	Digit struct {
		Key  string `name:"key" means:"which: 0 to 9, *, #, A to D"`
		Peer string `name:"peer" means:"the other end"`
	}
	// Kept is told when the other end refuses to be put on hold, or to be taken up again.
	Kept struct {
		Holds bool   `name:"holds" means:"whether it waits, as before"`
		Peer  string `name:"peer" means:"the other end"`
	}
	// Ended is told when a call is over for this phone's user.
	Ended struct {
		Reason string `name:"reason" means:"why, in the words of the display"`
		Peer   string `name:"peer" means:"the other end"`
	}
	// Misdialled is told instead of Ended where the number was none.
	Misdialled struct {
		Reason string `name:"reason" means:"invalid number"`
		Number string `name:"number" means:"as it was dialled"`
	}
)

// The events of the phone itself.
type (
	// Failed is told when a part does not work. The rest goes on.
	Failed struct {
		Part  string `name:"part" means:"of the phone"`
		Error string `name:"error" means:"why"`
	}
	// Mended is told when a part that had failed works again.
	Mended struct {
		Part string `name:"part" means:"of the phone"`
	}
	// Lost is told to a reader that did not read for too long.
	Lost struct {
		Events uint64 `name:"events" means:"how many it has missed"`
	}
)

// All is one of each, in the order of a phone's day.
var All = []Event{
	LeaseBound{}, LeaseRenewed{}, LeaseLost{}, AddressChanged{},
	Registered{}, RegisterFailed{}, Released{}, Booted{},
	State{}, Dialed{}, Resolved{}, KeyChanged{}, Connected{}, RingingThere{}, RingingHere{}, Established{}, Moved{}, Reconnecting{}, Reconnected{}, Held{}, Retrieved{}, Kept{}, Digit{}, Ended{}, Misdialled{},
	Failed{}, Mended{}, Lost{},
}

func (LeaseBound) Name() string     { return "lease.bound" }
func (LeaseRenewed) Name() string   { return "lease.renewed" }
func (LeaseLost) Name() string      { return "lease.lost" }
func (AddressChanged) Name() string { return "address.changed" }
func (Registered) Name() string     { return "registered" }
func (RegisterFailed) Name() string { return "register.failed" }
func (Released) Name() string       { return "released" }
func (Booted) Name() string         { return "booted" }
func (State) Name() string          { return "state" }
func (Dialed) Name() string         { return "dialed" }
func (Resolved) Name() string       { return "resolved" }
func (KeyChanged) Name() string     { return "key.changed" }
func (Connected) Name() string      { return "connected" }
func (RingingThere) Name() string   { return "ringing" }
func (RingingHere) Name() string    { return "ringing" }
func (Established) Name() string    { return "established" }
func (Moved) Name() string          { return "moved" }
func (Reconnecting) Name() string   { return "reconnecting" }
func (Reconnected) Name() string    { return "reconnected" }
func (Held) Name() string           { return "held" }
func (Retrieved) Name() string      { return "retrieved" }
func (Kept) Name() string           { return "kept" }
func (Digit) Name() string          { return "digit" }
func (Ended) Name() string          { return "ended" }
func (Misdialled) Name() string     { return "ended" }
func (Failed) Name() string         { return "failed" }
func (Mended) Name() string         { return "mended" }
func (Lost) Name() string           { return "lost" }

func (LeaseBound) means() string {
	return "There is an address that can be used, where there was none or another one."
}
func (LeaseRenewed) means() string {
	return "The address stays, with a later expiry or other IPv6 addresses."
}
func (LeaseLost) means() string      { return "The address is gone." }
func (AddressChanged) means() string { return "The address is another one than before." }
func (Registered) means() string     { return "The storing server has this phone's row." }
func (RegisterFailed) means() string { return "An announcement was not taken. It is tried again." }
func (Released) means() string       { return "The storing server has been told that this phone leaves." }
func (Booted) means() string {
	return "The first row after the machine was switched on; told only where this phone is what it was switched on for."
}
func (State) means() string    { return "Call control is in another state." }
func (Dialed) means() string   { return "A number is complete." }
func (Resolved) means() string { return "It is known where the called phone is." }
func (KeyChanged) means() string {
	return "The number of the other end was known by another key. It is told in each call until somebody accepts that."
}
func (Connected) means() string    { return "The called phone answers." }
func (RingingThere) means() string { return "It rings at the other end." }
func (RingingHere) means() string  { return "It rings here." }
func (Established) means() string  { return "The call is answered, and both ends have agreed on sound." }
func (Moved) means() string        { return "A call goes on over another address." }
func (Reconnecting) means() string {
	return "The other end of a call is not heard any more, and has not said that it would be silent. The call waits for it."
}
func (Reconnected) means() string { return "It is heard again." }
func (Held) means() string {
	return "One end of a call has put the other on hold: neither is heard. The call goes on."
}
func (Retrieved) means() string { return "It is on hold no more." }
func (Kept) means() string {
	return "The other end of a call refuses to be put on hold, or to be taken up again, and was asked five times."
}
func (Digit) means() string {
	return "The other end of a call has pressed a key. Its tone is heard here."
}
func (Ended) means() string      { return "A call is over." }
func (Misdialled) means() string { return "No call came of what was dialled." }
func (Failed) means() string     { return "A part of the phone does not work. The rest goes on." }
func (Mended) means() string     { return "A part that had failed works again." }
func (Lost) means() string       { return "The reader of the events was too slow, and has missed some." }

// Fields returns what e tells, in the order in which it stands above.
func Fields(e Event) []slog.Attr {
	return fields(reflect.ValueOf(e), nil)
}

func fields(v reflect.Value, out []slog.Attr) []slog.Attr {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			out = fields(v.Field(i), out)
			continue
		}
		switch value := v.Field(i).Interface().(type) {
		case []slog.Attr:
			out = append(out, value...)
		default:
			out = append(out, slog.Any(f.Tag.Get("name"), value))
		}
	}
	return out
}
