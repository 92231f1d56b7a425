// Package phone is call control: it turns the handset, the keys, the network and
// signalling into calls.
//
// What to do next is decided by step, a pure function of the model and an event;
// what is shown and heard follows from the model by view. Phone.Run carries out
// what they say. One call is one function, from top to bottom: placeCall for a
// call that starts here, takeCall for one that comes in (call.go).
//
// The package knows the dial plan, the waits and the words of a telephone. It
// knows no SIP message, no socket, no codec and no driver: these stand behind
// the interfaces below.
//
// # Why
//
// A call's function runs in a goroutine of its own and talks to the model only
// through events that carry the call's generation, so that a late answer of a
// call that is over can never disturb the next one.
package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// A Peer is a phone that was found.
type Peer struct {
	Name   string // as shown and reported: a short number, or as dialled
	Target sip.Target
}

// Errors of a Directory that call control tells its user about.
var (
	ErrUnknown = errors.New("unknown number")
	ErrOffline = errors.New("phone is not connected")
)

// A Directory finds the phone that a number means, and where it is now. Every
// error but ErrUnknown and ErrOffline means that it cannot be asked.
type Directory interface {
	Resolve(ctx context.Context, to Destination) (Peer, error)
	// Follow calls moved with each new address of a phone that we talk to,
	// until ctx is done.
	Follow(ctx context.Context, with sip.Peer, moved func(netip.AddrPort))
	// Vouches reports whether a caller is who it says: whether it has the key of
	// the row with the MAC and the number that it gives.
	Vouches(ctx context.Context, caller sip.Peer) bool
}

// A Call is one call at the signalling level. sip.Call is one.
type Call interface {
	Next(ctx context.Context) (sip.Event, error)
	Peer() sip.Peer
	Ring() error
	Answer(local sip.LocalMedia) error
	Reject(code int) error
	Hangup(ctx context.Context) error
	Update(ctx context.Context, local sip.LocalMedia) error
	Retarget(addr netip.AddrPort) error
}

// A Line sets up calls.
type Line interface {
	Invite(ctx context.Context, to sip.Target, local sip.LocalMedia) (Call, error)
	// Incoming blocks until there is a call for this phone.
	Incoming(ctx context.Context) (Call, error)
}

// A Stream is the sound of one call.
type Stream interface {
	// Local is what to offer to a phone at peer, with the address that we have
	// now and that suits it.
	Local(peer netip.Addr) sip.LocalMedia
	// Start exchanges sound as agreed; called again it changes it.
	Start(sip.Media) error
	SendDigit(hal.Key) error
	// Received counts whatever has come from the peer, sound or not.
	Received() uint64
	Stats() any // encoded by the control socket as JSON
	Close() error
}

// Sound is the phone's ear and mouth.
type Sound interface {
	Play(Tone)
	// Click is heard when a key is pressed.
	Click(hal.Key)
	Open(ctx context.Context) (Stream, error)
}

// Parts are what a phone is made of. All are needed.
type Parts struct {
	Keypad    hal.Keypad
	Hook      hal.Hook
	Lamp      hal.Lamp
	Display   hal.Display
	Directory Directory
	Line      Line
	Sound     Sound
	// Report is told of each step of the method as it happens.
	Report func(event string, attrs ...slog.Attr)
	Log    *slog.Logger
}

// A Phone is a telephone with one line.
type Phone struct {
	parts  Parts
	events chan event

	mu     sync.Mutex // guards what Status reads
	status Status
	stream Stream
}

// New returns a phone that lies on the hook and knows of no network.
func New(parts Parts) *Phone {
	p := &Phone{parts: parts, events: make(chan event)}
	p.status = statusOf(model{state: Initial})
	return p
}

// Run works the phone until ctx is done; it then releases a call that goes on.
// It fails when a part of the hardware does.
func (p *Phone) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	s := &shell{Phone: p, stop: stop, timer: time.NewTimer(time.Hour)}
	s.timer.Stop()
	defer s.timer.Stop()
	s.parts.Report("state", slog.String("state", string(Initial)))

	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop(context.Canceled)
	readers.Go(func() { s.readKeys(ctx) })
	readers.Go(func() { s.readHook(ctx) })
	readers.Go(func() { s.readLine(ctx) })

	m := model{state: Initial}
	s.show(view(m))
	for {
		var e event
		select {
		case <-ctx.Done():
			s.endCall(errors.New(ReasonStopped))
			s.drain()
			return context.Cause(ctx)
		case e = <-p.events:
		case <-s.timer.C:
			e = timedOut{m.timer.seq}
		}
		next, actions := step(m, e)
		s.apply(ctx, m, next, actions)
		m = next
	}
}

// post hands e to Run, or drops it when the phone is switched off.
func (p *Phone) post(ctx context.Context, e event) {
	select {
	case p.events <- e:
	case <-ctx.Done():
	}
}

// NetworkUp tells the phone that it has the address addr now.
func (p *Phone) NetworkUp(ctx context.Context, addr netip.Addr) {
	p.post(ctx, networkUp{addr.String()})
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

// Answer answers a ringing phone without the handset.
func (p *Phone) Answer(ctx context.Context) { p.post(ctx, answered{}) }

// Hangup ends whatever the phone does.
func (p *Phone) Hangup(ctx context.Context) { p.post(ctx, hungUp{}) }

// shell is Run's own: what carries out the actions of step.
type shell struct {
	*Phone
	stop  context.CancelCauseFunc // of the phone
	timer *time.Timer
	shown View

	calls  sync.WaitGroup          // functions of calls, at most one not yet ended by us
	cancel context.CancelCauseFunc // of the present call; its cause is the reason
	answer chan struct{}
	moves  chan struct{}
}

func (s *shell) apply(ctx context.Context, old, m model, actions []action) {
	if m.timer != old.timer {
		s.timer.Stop()
		if m.timer.d > 0 {
			s.timer.Reset(m.timer.d)
		}
	}
	// Before the events: who asks because of one is told of what has become.
	s.mu.Lock()
	s.status = statusOf(m)
	s.mu.Unlock()
	for _, a := range actions {
		s.do(ctx, a)
	}
	s.show(view(m))
	if m.state != old.state {
		s.parts.Log.Debug("phone state", "state", m.state, "was", old.state)
		s.parts.Report("state", slog.String("state", string(m.state)))
	}
}

func (s *shell) do(ctx context.Context, a action) {
	switch a := a.(type) {
	case place:
		s.startCall(ctx, func(ctx context.Context, c *callShell) string { return c.placeCall(ctx, a.to) }, a.call)
	case ring:
		s.startCall(ctx, func(ctx context.Context, c *callShell) string { return c.takeCall(ctx, a.line) }, a.call)
	case answer:
		close(s.answer)
	case release:
		s.endCall(errors.New(a.reason))
	case move:
		select {
		case s.moves <- struct{}{}:
		default: // one is waiting already, and will read the newest address
		}
	case refuse:
		s.calls.Go(func() {
			if err := a.line.Reject(statusBusyHere); err != nil {
				s.parts.Log.Warn("call not refused", "err", err)
			}
		})
	case sendDigit:
		s.mu.Lock()
		stream := s.stream
		s.mu.Unlock()
		if stream == nil {
			return
		}
		if err := stream.SendDigit(a.key); err != nil {
			s.parts.Log.Warn("digit not sent", "err", err)
		}
	case click:
		s.parts.Sound.Click(a.key)
	case report:
		s.parts.Report(a.name, a.attrs...)
	}
}

// startCall runs one call's function. It ends with callEnded, whatever happens.
func (s *shell) startCall(ctx context.Context, run func(context.Context, *callShell) string, generation int) {
	// The call outlives ctx by as long as its release takes.
	callCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.cancel, s.answer, s.moves = cancel, make(chan struct{}), make(chan struct{}, 1)
	c := &callShell{Phone: s.Phone, generation: generation, answer: s.answer, moves: s.moves}
	c.post = func(e event) { s.post(ctx, e) }
	s.calls.Go(func() {
		defer cancel(nil)
		reason := run(callCtx, c)
		c.post(callEnded{generation, reason})
	})
}

func (s *shell) endCall(reason error) {
	if s.cancel != nil {
		s.cancel(reason)
	}
}

// drain waits until every call is released. Events are of no use any more.
func (s *shell) drain() {
	s.calls.Wait()
	s.parts.Sound.Play(Silence)
}

func (s *shell) show(v View) {
	if v.Tone != s.shown.Tone {
		s.parts.Sound.Play(v.Tone)
	}
	if v.Lamp != s.shown.Lamp {
		if err := s.parts.Lamp.SetLamp(v.Lamp); err != nil {
			s.parts.Log.Warn("lamp not set", "err", err)
		}
	}
	if v.Line1 != s.shown.Line1 || v.Line2 != s.shown.Line2 {
		if err := s.parts.Display.Show(v.Line1, v.Line2); err != nil {
			s.parts.Log.Warn("display not written", "err", err)
		}
	}
	s.shown = v
}

func (s *shell) readKeys(ctx context.Context) {
	for {
		k, err := s.parts.Keypad.ReadKey(ctx)
		if err != nil {
			s.PartFailed(ctx, "keypad", err)
			return
		}
		if k.Motion == hal.Down {
			s.post(ctx, keyPressed{k.Key})
		}
	}
}

func (s *shell) readHook(ctx context.Context) {
	for {
		h, err := s.parts.Hook.ReadHook(ctx)
		if err != nil {
			s.PartFailed(ctx, "hook switch", err)
			return
		}
		s.post(ctx, hookMoved{h})
	}
}

func (s *shell) readLine(ctx context.Context) {
	for {
		c, err := s.parts.Line.Incoming(ctx)
		if err != nil {
			s.PartFailed(ctx, "line", err)
			return
		}
		s.post(ctx, offered{c, callerName(c.Peer())})
	}
}

// Alive returns once call control has answered, or ctx's error when it does not.
func (p *Phone) Alive(ctx context.Context) error {
	select {
	case p.events <- asked{}:
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
	p.parts.Report("failed", slog.String("part", part), slog.String("error", err.Error()))
	p.post(ctx, partFailed{part})
}

// callerName is what the display says of a caller: its own words, cut to the
// display, or its address when it says none.
func callerName(p sip.Peer) string {
	name := p.DisplayName
	switch {
	case name != "":
	case p.User != "":
		name = p.User
	default:
		name = p.Addr.Addr().String()
	}
	if r := []rune(name); len(r) > hal.DisplayColumns {
		name = string(r[:hal.DisplayColumns])
	}
	return name
}
