// Package phone is call control: it turns the handset, the keys, the network and
// signalling into calls.
//
// What to do next is decided by step, a pure function of the model and an event;
// the model holds the handset, the network and the calls, each of which is a value
// with a step of its own (call.go). What is shown and heard follows from the model
// by view. Phone.Run carries out what they say (shell.go). One call is one
// function, from top to bottom: placeCall for a call that starts here, takeCall
// for one that comes in (carry.go).
//
// The package knows the dial plan, the waits and the words of a telephone, and
// with which final status of SIP a call is refused. It knows no SIP message, no
// socket, no codec and no driver: these stand behind the interfaces below.
//
// # Why
//
// A call's function runs in a goroutine of its own and talks to the model only
// through events that carry the call's id. Several may run: a call that is over is
// released behind its user's back, and a caller may be asked for its proof while
// another rings. A late answer of a call that is over can never disturb the next.
//
// Whatever a part says, a call goes on in another way or ends with a reason, and
// the peer is told. A panic ends the call whose function or part it is in; one in
// call control itself ends all calls, and the phone goes on from what is safe.
package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// A Peer is a phone that was found.
type Peer struct {
	Name   string // as shown and reported: a short number, or as dialled
	Target sip.Target
	// Was is the key by which this phone's user knows that number, where it has
	// another one now that the user has not accepted; zero: nothing has changed.
	Was [32]byte
}

// ours reports whether the peer is called by its key.
func (p Peer) ours() bool { return p.Target.Pin != [32]byte{} }

// Errors of a Directory that call control tells its user about.
var (
	ErrUnknown = errors.New("unknown number")
	ErrOffline = errors.New("phone is not connected")
)

// A Directory finds the phone that a number means, and where it is now. Every
// error but ErrUnknown and ErrOffline means that it cannot be asked.
type Directory interface {
	Resolve(ctx context.Context, to Destination) (Peer, error)
	// Follow calls moved with each new address of a phone that we talk to, until ctx is
	// done. Found: it takes connections there, or there is no choice; else it is to be
	// found out whether the phone is reached there, or at another of its addresses.
	Follow(ctx context.Context, with sip.Peer, moved func(at netip.AddrPort, found bool))
	// Vouches reports whether a caller is who it says: whether it has the key of
	// the row with the MAC and the number that it gives; and, if so, what Peer.Was
	// is of it.
	Vouches(ctx context.Context, caller sip.Peer) (proved bool, was [32]byte)
}

// A Book remembers phones that were called from here, or have called and were proved.
type Book interface {
	// Known is who a number was last, and where: the zero Peer, if it is not known.
	// current: the storing server tells of each change of its row, and has told
	// none, so that it may be called before Resolve says the same.
	Known(to Destination) (p Peer, current bool)
	// Met is told that a phone of ours that was called is there.
	Met(name string, with sip.Peer)
	// Accept makes t's key the one by which that number is known. False: it is not
	// another one.
	Accept(name string, t sip.Target) bool
}

// A Call is one call at the signalling level. sip.Call is one.
type Call interface {
	Next(ctx context.Context) (sip.Event, error)
	Peer() sip.Peer
	Ring() error
	// Offer is what a call that came in offers; nil: nothing yet.
	Offer() (offer []byte, from netip.Addr)
	Answer(local sip.LocalMedia) error
	Reject(code int) error
	HangupFor(ctx context.Context, reason string) error
	// Leave ends a call that is not answered without a word: a phone of ours is
	// called anew, and lets the new call take the place of this one. It returns
	// false if the call has been answered meanwhile, and goes on.
	Leave() bool
	Update(ctx context.Context, local sip.LocalMedia) error
	Retarget(addr netip.AddrPort) error
	// Vouch tells that the peer is who it says: its next calls find room that
	// strangers do not take.
	Vouch()
	// Probe asks whether the peer still knows of the call. It returns nil
	// whatever the peer answers, and an error when nothing comes back.
	Probe(ctx context.Context) error
}

// A Line sets up calls.
type Line interface {
	Invite(ctx context.Context, to sip.Target, local sip.LocalMedia) (Call, error)
	// Prepare connects with a phone that may be called next, which does not hear of
	// it, and Prepared reports whether there is a connection.
	Prepare(ctx context.Context, to sip.Target) error
	Prepared(to sip.Target) bool
	// Incoming blocks until there is a call for this phone.
	Incoming(ctx context.Context) (Call, error)
}

// Wanted is what this end wants of the sound of a call. Zero: all that there is.
type Wanted struct {
	Hold    bool     // nothing is to be said or heard for now
	Without []string // codecs that are not to be used, by their names
	NewKeys bool     // those in descriptions are worn
}

// A Stream is the sound of one call.
type Stream interface {
	// Local is what to offer to peer, with the address that we have now and that
	// suits it, as this end wants it. No sound that this phone may have with it is left
	// in that unless ok.
	Local(peer sip.Peer, wanted Wanted) (lm sip.LocalMedia, ok bool)
	// Prepare makes keys with a peer that calls, whose offer came from the host
	// from, while it rings here. Nothing is said or heard by that.
	Prepare(peer sip.Peer, offer []byte, from netip.Addr)
	// Retarget sends what is said to where the peer's row says that it is now, if
	// the stream can know it again by what it sends.
	Retarget(peer netip.Addr)
	// Renew forgets what one phone has been told and has said, before another is
	// called.
	Renew()
	// Worn holds one when the peer is to be offered new keys.
	Worn() <-chan struct{}
	// Elsewhere holds one when sound reaches this phone at other places than the peer was
	// told, though it has the same address: Local says them, and is to be offered.
	Elsewhere() <-chan struct{}
	// Wrong holds one when whoever speaks where the peer has to be owns another key, and
	// Keyed reports whether there are keys to speak by, or none are needed.
	Wrong() <-chan struct{}
	Keyed() bool
	// Start exchanges sound as agreed; called again it changes it.
	Start(sip.Media) error
	SendDigit(hal.Key) error
	// Digits are the keys that the peer presses. It is closed some time after Close.
	Digits() <-chan rune
	// Received counts whatever has come from the peer, sound or not.
	Received() uint64
	Stats() any // encoded by the control socket as JSON
	// Opinion is how good what is heard is, as a mean opinion score of 1 to 4.5 (ITU-T
	// P.800); 0 where nothing has been heard.
	Opinion() float64
	// Way is how sound goes to a phone of ours: direct, punched (through a NAT), or relayed;
	// empty where that is not known.
	Way() string
	Close() error
}

// Sound is the phone's ear and mouth.
type Sound interface {
	Play(Tone)
	// Click is heard when a key is pressed.
	Click(hal.Key)
	// Turn makes what rings, or else what people say, louder or quieter by some steps. It
	// returns how loud that is now, as the display says it.
	Turn(by int, ringer bool) string
	// Mute keeps what is said here from all peers.
	Mute(bool)
	Open(ctx context.Context) (Stream, error)
}

// Parts are what a phone is made of. All are needed but Panicked.
type Parts struct {
	Keypad    hal.Keypad
	Hook      hal.Hook
	Lamp      hal.Lamp
	Display   hal.Display
	Directory Directory
	Book      Book
	Line      Line
	Sound     Sound
	// Report is told of each step of the method as it happens.
	Report func(events.Event)
	// Panicked is told of each panic: in what, its cause, the stack. It has cost
	// one call at most, and is in the log. Nil: nobody else is told. It is called
	// concurrently.
	Panicked func(what string, cause any, stack []byte)
	Log      *slog.Logger
}

// A Phone is a telephone with one line.
type Phone struct {
	parts  Parts
	events chan event

	away atomic.Bool // there is no address

	mu      sync.Mutex // guards what Status reads
	status  Status
	focus   int            // id of the call that status tells of
	streams map[int]Stream // of the calls that talk, by id
	lines   map[int]Call   // of all that are being carried, likewise
}

// New returns a phone that lies on the hook and knows of no network.
func New(parts Parts) *Phone {
	p := &Phone{parts: parts, events: make(chan event), streams: map[int]Stream{}, lines: map[int]Call{}}
	p.status = statusOf(model{})
	return p
}

// post hands e to Run, or drops it when the phone is switched off.
func (p *Phone) post(ctx context.Context, e event) {
	select {
	case p.events <- e:
	case <-ctx.Done():
	}
}

// NetworkUp tells the phone that it has the address addr now, and beside it others.
func (p *Phone) NetworkUp(ctx context.Context, addr netip.Addr, others ...netip.Addr) {
	p.post(ctx, networkUp{addr.String(), others})
}

// NetworkDown tells the phone that it has no address any more.
func (p *Phone) NetworkDown(ctx context.Context, reason string) { p.post(ctx, networkDown{reason}) }

// Registered tells the phone that the storing server holds its address, and
// which short number it has (empty: none).
func (p *Phone) Registered(ctx context.Context, number string) {
	p.post(ctx, registration{ok: true, number: number})
}

// NotRegistered tells the phone that the storing server cannot be told of it.
func (p *Phone) NotRegistered(ctx context.Context) { p.post(ctx, registration{}) }

// Dial calls number without the handset.
func (p *Phone) Dial(ctx context.Context, number string) { p.post(ctx, dialled{number}) }

// Accept accepts the new key of whom the present call is with. What comes of it is
// in the log.
func (p *Phone) Accept(ctx context.Context) { p.post(ctx, accepted{}) }

// Answer answers a ringing phone without the handset.
func (p *Phone) Answer(ctx context.Context) { p.post(ctx, answered{}) }

// Hold puts the peer of the call on hold: neither end hears the other until Retrieve.
// Without a call that is talked in it does nothing.
func (p *Phone) Hold(ctx context.Context) { p.post(ctx, putOnHold{true}) }

// Retrieve takes the call up again that is on hold.
func (p *Phone) Retrieve(ctx context.Context) { p.post(ctx, putOnHold{false}) }

// Mute keeps what is said here from all peers, or no longer, as the key beside the keypad
// does: until the call is over.
func (p *Phone) Mute(ctx context.Context, is bool) { p.post(ctx, muted{is}) }

// Hangup ends whatever the phone does.
func (p *Phone) Hangup(ctx context.Context) { p.post(ctx, hungUp{}) }

// Alive returns once call control has answered, or ctx's error when it does not.
func (p *Phone) Alive(ctx context.Context) error {
	select {
	case p.events <- alive{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("phone: call control: %w", ctx.Err())
	}
}

// PartFailed tells the phone that a part of it does not work, and why. The rest
// goes on: a phone without keys can still be called.
func (p *Phone) PartFailed(ctx context.Context, part string, err error) {
	if ctx.Err() != nil {
		return
	}
	p.parts.Log.Error("part of the phone failed", "part", part, "err", err)
	p.contain("report", func() {
		p.parts.Report(events.Failed{Part: part, Error: err.Error()})
	})
	p.post(ctx, partFailed{part})
}

// PartWorks tells the phone that a part of it that had failed works again.
func (p *Phone) PartWorks(ctx context.Context, part string) {
	if ctx.Err() != nil {
		return
	}
	p.parts.Log.Info("part of the phone works again", "part", part)
	p.parts.Report(events.Mended{Part: part})
	p.post(ctx, partWorks{part})
}

// contain runs f. A panic in it is reported and goes no further; ok is false then.
func (p *Phone) contain(what string, f func()) (ok bool) {
	defer func() {
		if cause := recover(); cause != nil {
			p.panicked(what, cause, debug.Stack())
			ok = false
		}
	}()
	f()
	return true
}

func (p *Phone) panicked(what string, cause any, stack []byte) {
	p.parts.Log.Error("panic", "in", what, "cause", cause, "stack", string(stack))
	if p.parts.Panicked != nil {
		p.parts.Panicked(what, cause, stack)
	}
}

// fromBrowser begins the name of a caller that is no phone.
const fromBrowser = "from a browser: "

// callerName is what the display says of a caller: its own words, cut to the
// display, or its address when it says none.
func callerName(p sip.Peer) string {
	name := p.DisplayName
	if p.Browser {
		return fromBrowser + name
	}
	switch {
	case name != "":
	case p.User != "":
		name = p.User
	default:
		name = p.Addr.Addr().String()
	}
	return cut(name)
}
