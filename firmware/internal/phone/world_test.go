package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
	"flexphone/hal/sim"
)

// A mood is how a method of a part misbehaves.
type mood string

const (
	no     mood = "says no"
	late   mood = "is late" // by lateBy
	lateNo mood = "says no late"
	twice  mood = "says no twice"
	panics mood = "panics"
)

var moods = []mood{no, late, lateNo, twice, panics}

// lateBy is longer than call control waits for a release.
const lateBy = 3 * time.Second

// methods are all of all parts.
var methods = []string{
	"Keypad.ReadKey", "Hook.ReadHook", "Lamp.SetLamp", "Display.Show",
	"Directory.Resolve", "Directory.Follow", "Directory.Vouches",
	"Book.Known", "Book.Met",
	"Line.Invite", "Line.Incoming",
	"Call.Next", "Call.Peer", "Call.Ring", "Call.Answer", "Call.Reject", "Call.Hangup", "Call.Leave", "Call.Update", "Call.Retarget", "Call.Probe",
	"Stream.Local", "Stream.Renew", "Stream.Start", "Stream.SendDigit", "Stream.Received", "Stream.Stats", "Stream.Opinion", "Stream.Close",
	"Sound.Play", "Sound.Click", "Sound.Turn", "Sound.Mute", "Sound.Open", "Report",
}

var errNo = errors.New("no")

// world is everything around call control, and writes down what it is asked.
type world struct {
	mu        sync.Mutex
	did       []string
	resolve   []func() (Peer, error) // answers, in order; the last one stays
	invite    []*fakeCall
	incoming  chan Call
	received  atomic.Uint64 // what a stream says that came from the peer
	peerMoves chan netip.AddrPort
	peerMayBe chan netip.AddrPort // before it is found out
	saysTo    netip.Addr          // where the sound was led to last
	vouched   bool
	was       [32]byte // of who is vouched for
	known     Peer     // by any number; zero: nobody is
	current   bool
	prepared  bool                 // there is a connection with anybody
	refuses   func(sip.Media) bool // what streams do not take; nil: they take everything

	clicked string // keys whose tones were heard

	method  string // that misbehaves; "": none does
	mood    mood
	times   int             // how often it has been called since
	asked   map[string]bool // methods that were called, if it is not nil
	caught  []string        // causes of panics that were reported
	calls   []*fakeCall
	streams []*fakeStream
	tone    Tone
	shows   [2]string // the display
}

// trouble has a method misbehave from now on; "" ends that.
func (w *world) trouble(method string, m mood) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.method, w.mood, w.times = method, m, 0
}

// meet is called by each method of each part, and says what it says.
func (w *world) meet(method string) error {
	w.mu.Lock()
	is, m := method == w.method, w.mood
	if is {
		w.times++
	}
	times := w.times
	if w.asked != nil {
		w.asked[method] = true
	}
	w.mu.Unlock()
	switch {
	case !is:
		return nil
	case m == late:
		time.Sleep(lateBy)
	case m == lateNo:
		time.Sleep(lateBy)
		return errNo
	case m == no, m == twice && times <= 2:
		return errNo
	case m == panics:
		panic(method)
	}
	return nil
}

func (w *world) wrote(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, fmt.Sprintf(format, args...))
}

func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.did, "; ")
	w.did = nil
	return s
}

func (w *world) Resolve(ctx context.Context, to Destination) (Peer, error) {
	w.wrote("resolve %v", to)
	if err := w.meet("Directory.Resolve"); err != nil {
		return Peer{}, err
	}
	answer := w.resolve[0]
	if len(w.resolve) > 1 {
		w.resolve = w.resolve[1:]
	}
	if answer == nil { // the storing server does not answer
		<-ctx.Done()
		return Peer{}, ctx.Err()
	}
	return answer()
}

func (w *world) Follow(ctx context.Context, _ sip.Peer, moved func(at netip.AddrPort, found bool)) {
	if w.meet("Directory.Follow") != nil {
		return
	}
	for {
		select {
		case a := <-w.peerMoves:
			moved(a, true)
		case a := <-w.peerMayBe:
			moved(a, false)
		case <-ctx.Done():
			return
		}
	}
}

func (w *world) Vouches(context.Context, sip.Peer) (bool, [32]byte) {
	return w.meet("Directory.Vouches") == nil && w.vouched, w.was
}

func (w *world) Known(Destination) (Peer, bool) {
	if w.meet("Book.Known") != nil {
		return Peer{}, false
	}
	return w.known, w.current
}

func (w *world) Met(string, sip.Peer) { w.meet("Book.Met") }

func (w *world) Accept(name string, _ sip.Target) bool {
	w.wrote("accept %s", name)
	return true
}

func (w *world) Prepare(ctx context.Context, to sip.Target) error {
	w.wrote("prepare %v", to.Addr)
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		w.wrote("not needed")
		return ctx.Err()
	}
}

func (w *world) Prepared(sip.Target) bool { return w.prepared }

func found(addr string) func() (Peer, error) {
	return func() (Peer, error) {
		return Peer{Name: "102", Target: sip.Target{User: "02005e005302", Addr: netip.MustParseAddrPort(addr)}}, nil
	}
}

func (w *world) Invite(_ context.Context, to sip.Target, _ sip.LocalMedia) (Call, error) {
	w.wrote("invite %v", to.Addr)
	if err := w.meet("Line.Invite"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.invite) == 0 {
		return nil, errors.New("nobody there")
	}
	c := w.invite[0]
	w.invite = w.invite[1:]
	w.calls = append(w.calls, c)
	return c, nil
}

func (w *world) Incoming(ctx context.Context) (Call, error) {
	if err := w.meet("Line.Incoming"); err != nil {
		return nil, err
	}
	select {
	case c := <-w.incoming:
		w.mu.Lock()
		w.calls = append(w.calls, c.(*fakeCall))
		w.mu.Unlock()
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *world) Play(t Tone) {
	w.wrote("tone %q", t)
	w.meet("Sound.Play")
	w.mu.Lock()
	w.tone = t
	w.mu.Unlock()
}

func (w *world) Click(k hal.Key) {
	w.mu.Lock()
	w.clicked += string(k)
	w.mu.Unlock()
	w.meet("Sound.Click")
}

func (w *world) Turn(by int, ringer bool) string {
	w.wrote("turn %+d, ringer %v", by, ringer)
	w.meet("Sound.Turn")
	return "ringer 7 of 10"
}

func (w *world) Mute(is bool) {
	w.wrote("mute %v", is)
	w.meet("Sound.Mute")
}

func (w *world) Open(context.Context) (Stream, error) {
	w.wrote("open")
	if err := w.meet("Sound.Open"); err != nil {
		return nil, err
	}
	s := &fakeStream{world: w, worn: make(chan struct{}, 1), elsewhere: make(chan struct{}, 1), wrong: make(chan struct{}, 1), digits: make(chan rune, 32)}
	w.mu.Lock()
	w.streams = append(w.streams, s)
	w.mu.Unlock()
	return s, nil
}

type fakeStream struct {
	*world
	worn, wrong     chan struct{}
	elsewhere       chan struct{}
	digits          chan rune
	keyless         atomic.Bool
	started, closed bool
}

// described is what a fakeStream would offer.
type described struct {
	sip.LocalMedia // nil: nobody describes it
	codecs         []string
	hold, keys     bool
}

func (s *fakeStream) Prepare(sip.Peer, []byte, netip.Addr) { s.meet("Stream.Prepare") }

func (s *fakeStream) Retarget(to netip.Addr) {
	s.meet("Stream.Retarget")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saysTo = to
}

func (s *fakeStream) Local(_ sip.Peer, wanted Wanted) (sip.LocalMedia, bool) {
	s.meet("Stream.Local")
	left := slices.DeleteFunc([]string{"opus", "PCMA"}, func(c string) bool { return slices.Contains(wanted.Without, c) })
	return described{codecs: left, hold: wanted.Hold, keys: wanted.NewKeys}, len(left) > 0
}

func (s *fakeStream) Worn() <-chan struct{} { return s.worn }

func (s *fakeStream) Elsewhere() <-chan struct{} { return s.elsewhere }

func (s *fakeStream) Wrong() <-chan struct{} { return s.wrong }

func (s *fakeStream) Keyed() bool { return !s.keyless.Load() }

func (s *fakeStream) Renew() { s.meet("Stream.Renew") }

func (s *fakeStream) Start(m sip.Media) error {
	s.wrote("media %v", m.Remote)
	if err := s.meet("Stream.Start"); err != nil {
		return err
	}
	if s.refuses != nil && s.refuses(m) {
		return errNo
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("closed")
	}
	s.started = true
	return nil
}

func (s *fakeStream) SendDigit(k hal.Key) error {
	s.wrote("digit %c", k)
	return s.meet("Stream.SendDigit")
}

func (s *fakeStream) Digits() <-chan rune { return s.digits }

func (s *fakeStream) Received() uint64 {
	s.meet("Stream.Received")
	return s.received.Load()
}

func (s *fakeStream) Stats() any {
	s.meet("Stream.Stats")
	return map[string]int{"sent": 1}
}

func (s *fakeStream) Opinion() float64 {
	s.meet("Stream.Opinion")
	return 4.26
}

func (s *fakeStream) Way() string {
	s.meet("Stream.Way")
	return ""
}

func (s *fakeStream) Close() error {
	s.wrote("close")
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.meet("Stream.Close")
}

// fakeCall is one call whose events are written into it.
type fakeCall struct {
	*world
	peer    sip.Peer
	first   []sip.Event
	events  chan sip.Event
	asked   bool // by Hangup or Reject, whatever they said
	told    bool // by Hangup or Reject
	over    bool // the phone knows from the peer
	updates []sip.LocalMedia
	update  func(sip.LocalMedia) []sip.Event // what an update brings
	refuses func(sip.LocalMedia) bool        // which the peer does not agree to; nil: none
}

func newFakeCall(events ...sip.Event) *fakeCall {
	return &fakeCall{first: events, peer: sip.Peer{User: "102"}}
}

// open makes the channel, which must be done inside the bubble.
func (c *fakeCall) open(w *world) *fakeCall {
	c.world, c.events = w, make(chan sip.Event, 64)
	for _, e := range c.first {
		c.events <- e
	}
	return c
}

func (c *fakeCall) Next(ctx context.Context) (sip.Event, error) {
	if err := c.meet("Call.Next"); err != nil {
		return sip.Event{}, err
	}
	select {
	case e := <-c.events:
		c.mu.Lock()
		c.over = c.over || e.Kind == sip.Ended
		c.mu.Unlock()
		return e, nil
	case <-ctx.Done():
		return sip.Event{}, ctx.Err()
	}
}

func (c *fakeCall) Peer() sip.Peer {
	c.meet("Call.Peer")
	return c.peer
}

func (c *fakeCall) Offer() ([]byte, netip.Addr) {
	c.meet("Call.Offer")
	return []byte("offer"), netip.Addr{}
}

func (c *fakeCall) Leave() bool {
	c.wrote("leave")
	if c.meet("Call.Leave") != nil {
		return false // it has been answered
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.told = true, true
	return true
}

func (c *fakeCall) Ring() error {
	c.wrote("ring")
	return c.meet("Call.Ring")
}

func (c *fakeCall) Answer(sip.LocalMedia) error {
	c.wrote("answer")
	if err := c.meet("Call.Answer"); err != nil {
		return err
	}
	c.events <- sip.Event{Kind: sip.Early, Media: talk.Media}
	c.events <- talk
	return nil
}

func (c *fakeCall) end(method string) error {
	c.mu.Lock()
	c.asked = true
	c.mu.Unlock()
	if err := c.meet(method); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
	return nil
}

func (c *fakeCall) Reject(code int) error {
	c.wrote("reject %d", code)
	return c.end("Call.Reject")
}

func (c *fakeCall) HangupFor(_ context.Context, reason string) error {
	if reason == sip.ReasonWrongKey || reason == sip.ReasonNoKeys {
		c.wrote("hangup for %s", reason)
		return c.end("Call.Hangup")
	}
	c.wrote("hangup")
	return c.end("Call.Hangup")
}

func (c *fakeCall) Update(_ context.Context, lm sip.LocalMedia) error {
	c.wrote("update")
	if err := c.meet("Call.Update"); err != nil {
		return err
	}
	c.mu.Lock()
	c.updates = append(c.updates, lm)
	c.mu.Unlock()
	if c.refuses != nil && c.refuses(lm) {
		return sip.ErrRefused
	}
	if c.update != nil {
		for _, e := range c.update(lm) {
			c.events <- e
		}
	}
	return nil
}

func (c *fakeCall) Retarget(a netip.AddrPort) error {
	c.wrote("retarget %v", a)
	return c.meet("Call.Retarget")
}

func (c *fakeCall) Vouch() { c.wrote("vouch") }

func (c *fakeCall) Probe(context.Context) error {
	c.wrote("probe")
	return c.meet("Call.Probe")
}

// The hardware, simulated, misbehaves as everything else does.
type (
	keypad struct {
		*world
		*sim.Keypad
	}
	hook struct {
		*world
		*sim.Hook
	}
	lamp    struct{ *world }
	display struct{ *world }
)

func (k keypad) ReadKey(ctx context.Context) (hal.KeyEvent, error) {
	if err := k.meet("Keypad.ReadKey"); err != nil {
		return hal.KeyEvent{}, err
	}
	return k.Keypad.ReadKey(ctx)
}

func (h hook) ReadHook(ctx context.Context) (hal.HookState, error) {
	if err := h.meet("Hook.ReadHook"); err != nil {
		return 0, err
	}
	return h.Hook.ReadHook(ctx)
}

func (l lamp) SetLamp(hal.LampState) error { return l.meet("Lamp.SetLamp") }

func (d display) Show(line1, line2 string) error {
	err := d.meet("Display.Show")
	if err == nil {
		d.mu.Lock()
		d.shows = [2]string{line1, line2}
		d.mu.Unlock()
	}
	return err
}

var (
	talk = sip.Event{Kind: sip.Established, Media: sip.Media{Remote: netip.MustParseAddrPort("192.0.2.9:4000"), Codec: "opus", Send: true, Recv: true}}
	bye  = sip.Event{Kind: sip.Ended, Reason: sip.ReasonHangup}
)

// changed is what the peer changes talk into.
func changed(change func(*sip.Media)) sip.Event {
	e := sip.Event{Kind: sip.Changed, Media: talk.Media}
	change(&e.Media)
	return e
}

// table is a phone at work in simulated time.
type table struct {
	*world
	*Phone
	ctx    context.Context // of the phone's life
	keys   *sim.Keypad
	hook   *sim.Hook
	events []string
	full   []events.Event
}

// told are the names of the events until now.
func (d *table) told() []string {
	d.world.mu.Lock()
	defer d.world.mu.Unlock()
	return slices.Clone(d.events)
}

// try runs script at a phone that is online, in simulated time, and checks that
// the phone stops cleanly and lets go of everything.
func try(t *testing.T, w *world, script func(*testing.T, *table)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w.incoming, w.peerMoves, w.peerMayBe = make(chan Call), make(chan netip.AddrPort), make(chan netip.AddrPort)
		for _, c := range w.invite {
			c.open(w)
		}
		d := &table{world: w, ctx: ctx, keys: sim.NewKeypad(), hook: sim.NewHook()}
		d.Phone = New(Parts{
			Keypad: keypad{w, d.keys}, Hook: hook{w, d.hook}, Lamp: lamp{w}, Display: display{w},
			Directory: w, Book: w, Line: w, Sound: w,
			Report: func(e events.Event) {
				w.meet("Report")
				w.mu.Lock()
				defer w.mu.Unlock()
				d.full = append(d.full, e)
				if _, is := e.(events.State); !is {
					d.events = append(d.events, e.Name())
				}
			},
			Panicked: func(_ string, cause any, _ []byte) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.caught = append(w.caught, fmt.Sprint(cause))
			},
			Log: slog.New(slog.DiscardHandler),
		})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		d.NetworkUp(ctx, netip.MustParseAddr("192.0.2.1"))
		d.Registered(ctx, "101")
		synctest.Wait()
		w.take()
		script(t, d)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v; want context.Canceled", err)
		}
		w.expectReleased(t, false)
		if w.tone != Silence {
			t.Errorf("a phone that has stopped sounds %q", w.tone)
		}
	})
}

// expectReleased checks that each peer has heard of the end of its call, and that
// each stream is closed. While a method says no for ever, all that can be asked
// for is that it was tried.
func (w *world) expectReleased(t *testing.T, tried bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.calls {
		if !(c.told || c.over || tried && c.asked) {
			t.Errorf("the peer of call %d of %d was not told of its end", i+1, len(w.calls))
		}
	}
	for i, s := range w.streams {
		if !s.closed {
			t.Errorf("stream %d of %d was not closed", i+1, len(w.streams))
		}
	}
}

// heard is how many streams sound.
func (w *world) heard() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, s := range w.streams {
		if s.started && !s.closed {
			n++
		}
	}
	return n
}

func (d *table) expect(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := d.take(); got != want {
		t.Errorf("did\n     %s\nwant %s", got, want)
	}
}

// expectBoth is expect for what the call's function and the phone do side by
// side, in either order.
func (d *table) expectBoth(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	got := strings.Split(d.take(), "; ")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("did %q; want %q", got, want)
	}
}

func (d *table) expectState(t *testing.T, want State) {
	t.Helper()
	synctest.Wait()
	if got := d.Status().State; got != want {
		t.Errorf("state %s; want %s", got, want)
	}
}

// offers has a call come in.
func (d *table) offers(peer sip.Peer) *fakeCall {
	c := newFakeCall().open(d.world)
	c.peer = peer
	d.incoming <- c
	return c
}
