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

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
	"flexphone/hal/sim"
)

// world is everything around call control, and writes down what it is asked.
type world struct {
	mu        sync.Mutex
	did       []string
	resolve   []func() (Peer, error) // answers, in order; the last one stays
	invite    []*fakeCall
	incoming  chan Call
	received  atomic.Uint64 // what a stream says that came from the peer
	peerMoves chan netip.AddrPort
	vouched   bool
	noUpdate  int // how many updates fail
	noStart   int // not 0: a stream that is started again refuses
	started   int
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

func (w *world) Follow(ctx context.Context, _ sip.Peer, moved func(netip.AddrPort)) {
	for {
		select {
		case a := <-w.peerMoves:
			moved(a)
		case <-ctx.Done():
			return
		}
	}
}

func (w *world) Vouches(context.Context, sip.Peer) bool { return w.vouched }

func found(addr string) func() (Peer, error) {
	return func() (Peer, error) {
		return Peer{Name: "102", Target: sip.Target{User: "02005e005302", Addr: netip.MustParseAddrPort(addr)}}, nil
	}
}

func (w *world) Invite(_ context.Context, to sip.Target, _ sip.LocalMedia) (Call, error) {
	w.wrote("invite %v", to.Addr)
	c := w.invite[0]
	w.invite = w.invite[1:]
	c.world = w
	return c, nil
}

func (w *world) Incoming(ctx context.Context) (Call, error) {
	select {
	case c := <-w.incoming:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *world) Play(t Tone) { w.wrote("tone %q", t) }

func (w *world) Click(hal.Key) {}

func (w *world) Open(context.Context) (Stream, error) {
	w.wrote("open")
	return fakeStream{w}, nil
}

type fakeStream struct{ *world }

func (fakeStream) Local(netip.Addr) sip.LocalMedia { return sip.LocalMedia{} }
func (s fakeStream) Start(m sip.Media) error {
	s.wrote("media %v", m.Remote)
	if s.started++; s.noStart > 0 && s.started > 1 {
		return errors.New("no such packet time")
	}
	return nil
}
func (s fakeStream) SendDigit(k hal.Key) error { s.wrote("digit %c", k); return nil }
func (s fakeStream) Received() uint64          { return s.received.Load() }
func (fakeStream) Stats() any                  { return map[string]int{"sent": 1} }
func (s fakeStream) Close() error              { s.wrote("close"); return nil }

// fakeCall is one call whose events are written into it.
type fakeCall struct {
	*world
	first  []sip.Event
	events chan sip.Event
}

func newFakeCall(events ...sip.Event) *fakeCall { return &fakeCall{first: events} }

// open makes the channel, which must be done inside the bubble.
func (c *fakeCall) open() *fakeCall {
	c.events = make(chan sip.Event, 8)
	for _, e := range c.first {
		c.events <- e
	}
	return c
}

func (c *fakeCall) Next(ctx context.Context) (sip.Event, error) {
	select {
	case e := <-c.events:
		return e, nil
	case <-ctx.Done():
		return sip.Event{}, ctx.Err()
	}
}

func (c *fakeCall) Peer() sip.Peer { return sip.Peer{User: "102"} }
func (c *fakeCall) Ring() error    { c.wrote("ring"); return nil }
func (c *fakeCall) Answer(sip.LocalMedia) error {
	c.wrote("answer")
	c.events <- talk
	return nil
}
func (c *fakeCall) Reject(code int) error        { c.wrote("reject %d", code); return nil }
func (c *fakeCall) Hangup(context.Context) error { c.wrote("hangup"); return nil }
func (c *fakeCall) Update(context.Context, sip.LocalMedia) error {
	c.wrote("update")
	if c.noUpdate > 0 {
		c.noUpdate--
		return errors.New("nobody there")
	}
	return nil
}
func (c *fakeCall) Retarget(a netip.AddrPort) error { c.wrote("retarget %v", a); return nil }

var (
	talk = sip.Event{Kind: sip.Established, Media: sip.Media{Remote: netip.MustParseAddrPort("192.0.2.9:4000")}}
	bye  = sip.Event{Kind: sip.Ended, Reason: sip.ReasonHangup}
)

// desk is a phone at work in simulated time.
type desk struct {
	*world
	*Phone
	keys   *sim.Keypad
	hook   *sim.Hook
	events []string
}

// try runs script at a phone that is online, in simulated time, and checks that
// the phone stops cleanly and lets go of everything.
func try(t *testing.T, w *world, script func(*testing.T, *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w.incoming, w.peerMoves = make(chan Call), make(chan netip.AddrPort)
		for _, c := range w.invite {
			c.open()
		}
		d := &desk{world: w, keys: sim.NewKeypad(), hook: sim.NewHook()}
		d.Phone = New(Parts{
			Keypad: d.keys, Hook: d.hook, Lamp: sim.NewLamp(), Display: sim.NewDisplay(),
			Directory: w, Line: w, Sound: w,
			Report: func(event string, _ ...slog.Attr) {
				if event != "state" {
					d.events = append(d.events, event)
				}
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
	})
}

func (d *desk) expect(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := d.take(); got != want {
		t.Errorf("did\n     %s\nwant %s", got, want)
	}
}

// expectBoth is expect for what the call's function and the phone do side by
// side, in either order.
func (d *desk) expectBoth(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	got := strings.Split(d.take(), "; ")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("did %q; want %q", got, want)
	}
}

func (d *desk) expectState(t *testing.T, want State) {
	t.Helper()
	synctest.Wait()
	if got := d.Status().State; got != want {
		t.Errorf("state %s; want %s", got, want)
	}
}

func TestACallFromDialToneToRelease(t *testing.T) {
	call := newFakeCall(sip.Event{Kind: sip.Progress})
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{call}}
	try(t, w, func(t *testing.T, d *desk) {
		d.hook.Lift()
		d.expect(t, `tone "dial"`)
		d.keys.Press("102")
		d.expect(t, `tone ""`)
		time.Sleep(interDigitWait)
		d.expect(t, `resolve 102; open; invite 192.0.2.9:5061; tone "ringing tone"`)
		call.events <- talk
		d.expect(t, `media 192.0.2.9:4000; tone ""`)
		d.expectState(t, Talking)
		if s := d.Status(); s.Call == nil || s.Call.Statistics == nil || s.Call.Peer != "102" {
			t.Errorf("status of a call: %+v", s.Call)
		}
		d.keys.Press("5")
		d.expect(t, "digit 5")
		d.hook.Lay()
		d.expect(t, "hangup; close")
		d.expectState(t, Standby)
		if got := strings.Join(d.events, " "); got != "dialed resolved connected ringing established ended" {
			t.Errorf("events: %s", got)
		}
	})
}

// The address in the row is somebody else's by now: ask again, once.
func TestAWrongPhoneIsResolvedAgainOnce(t *testing.T) {
	wrong := sip.Event{Kind: sip.Ended, Reason: sip.ReasonWrongPhone, Code: 404}
	w := &world{
		resolve: []func() (Peer, error){found("192.0.2.8:5061"), found("192.0.2.9:5061")},
		invite:  []*fakeCall{newFakeCall(wrong), newFakeCall(talk, bye)},
	}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expect(t, `resolve 102; open; invite 192.0.2.8:5061; resolve 102; invite 192.0.2.9:5061; media 192.0.2.9:4000; close; tone "busy"`)
	})
	w = &world{
		resolve: []func() (Peer, error){found("192.0.2.8:5061")},
		invite:  []*fakeCall{newFakeCall(wrong), newFakeCall(wrong)},
	}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expect(t, `resolve 102; open; invite 192.0.2.8:5061; resolve 102; invite 192.0.2.8:5061; close; tone "special information"`)
	})
}

// Nobody at the address, and the row has not changed: there is nowhere to try.
func TestAnUnreachablePhoneIsNotTriedTwiceAtTheSameAddress(t *testing.T) {
	w := &world{
		resolve: []func() (Peer, error){found("192.0.2.8:5061")},
		invite:  []*fakeCall{newFakeCall(sip.Event{Kind: sip.Ended, Reason: sip.ReasonUnreachable})},
	}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expect(t, `resolve 102; open; invite 192.0.2.8:5061; resolve 102; close; tone "congestion"`)
	})
}

func TestWhatTheDirectorySaysIsHeard(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("directory: %w", ErrUnknown), `resolve 102; tone "special information"`},
		{fmt.Errorf("directory: %w", ErrOffline), `resolve 102; tone "special information"`},
		{errors.New("timeout"), `resolve 102; tone "congestion"`},
	} {
		w := &world{resolve: []func() (Peer, error){func() (Peer, error) { return Peer{}, tt.err }}}
		try(t, w, func(t *testing.T, d *desk) {
			d.Dial(t.Context(), "102")
			d.expect(t, tt.want)
		})
	}
}

func TestHangingUpWhileTheServerIsAsked(t *testing.T) {
	try(t, &world{resolve: []func() (Peer, error){nil}}, func(t *testing.T, d *desk) {
		d.hook.Lift()
		d.expect(t, `tone "dial"`)
		d.keys.Press("102#")
		d.expect(t, `tone ""; resolve 102`)
		d.expectState(t, Resolving)
		d.hook.Lay()
		d.expectState(t, Standby)
	})
}

func TestACallIsTakenAndASecondIsBusy(t *testing.T) {
	w := &world{}
	try(t, w, func(t *testing.T, d *desk) {
		first, second := newFakeCall().open(), newFakeCall().open()
		first.world, second.world = w, w
		w.incoming <- first
		d.expectBoth(t, "ring", `tone "alerting"`)
		d.hook.Lift()
		d.expectBoth(t, `tone ""`, "open", "answer", "media 192.0.2.9:4000")
		w.incoming <- second
		d.expect(t, "reject 486")
		d.NetworkUp(t.Context(), netip.MustParseAddr("192.0.2.77"))
		d.expect(t, "update")
		first.events <- bye
		d.expectBoth(t, "close", `tone "busy"`)
		d.hook.Lay()
		d.expect(t, `tone ""`)
	})
}

// The phone rings whoever calls, and says whether it is who it says.
func TestACallerIsProvedOrNot(t *testing.T) {
	for vouched, want := range map[bool]string{true: "is calling", false: "calls, not proved"} {
		w := &world{vouched: vouched}
		try(t, w, func(t *testing.T, d *desk) {
			c := newFakeCall().open()
			c.world = w
			w.incoming <- c
			d.expectBoth(t, "ring", `tone "alerting"`)
			if s := d.Status(); s.Display != [2]string{"102", want} || *s.Call.Proved != vouched {
				t.Errorf("display %q, proved %v; want %q", s.Display, *s.Call.Proved, want)
			}
		})
	}
}

func TestACallThatNobodyTakes(t *testing.T) {
	w := &world{}
	try(t, w, func(t *testing.T, d *desk) {
		c := newFakeCall().open()
		c.world = w
		w.incoming <- c
		d.expectBoth(t, "ring", `tone "alerting"`)
		time.Sleep(ringWait)
		d.expectBoth(t, `tone ""`, "reject 480")
		if s := d.Status(); s.Lamp != "on" || s.Display[1] != "1 missed call" {
			t.Errorf("after a missed call: %+v", s)
		}
	})
}

// The phone is switched off, or its network goes, in the middle of a call.
func TestTheCallIsReleasedWhenThePhoneStops(t *testing.T) {
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{newFakeCall(talk)}}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expectState(t, Talking)
		w.take()
	})
	if got := w.take(); got != `hangup; close; tone ""` {
		t.Errorf("at the end of the phone: %s", got)
	}
}

// The peer has lost its link, and can tell nobody.
func TestACallEndsWhenNothingComesFromThePeerAnyMore(t *testing.T) {
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{newFakeCall(talk)}}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expectState(t, Talking)
		w.take()
		time.Sleep(2 * lostAfter) // never heard anything: a phone that sends no sound
		d.expectState(t, Talking)
		for range 10 {
			w.received.Add(1)
			time.Sleep(lostAfter / 2)
		}
		d.expectState(t, Talking)
		time.Sleep(lostAfter/2 + 2*time.Second) // half of it has passed already
		d.expect(t, `hangup; close; tone "congestion"`)
		d.expectState(t, Releasing)
		if s := d.Status(); s.Display[1] != ReasonLost {
			t.Errorf("display: %q", s.Display)
		}
	})
}

func TestTheCallEndsWithTheNetwork(t *testing.T) {
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{newFakeCall(talk)}}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expectState(t, Talking)
		w.take()
		d.NetworkDown(t.Context(), "link down")
		d.expect(t, "hangup; close")
		d.expectState(t, Initial)
	})
}

// Both ends move at once: ours is told again and again, and goes to where the
// peer's row says it is.
func TestACallOutlivesTheAddressesOfBothEnds(t *testing.T) {
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{newFakeCall(talk)}}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expectState(t, Talking)
		w.take()
		w.noUpdate = 2
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		d.expect(t, "update")
		w.peerMoves <- netip.MustParseAddrPort("198.51.100.9:5061")
		d.expect(t, "retarget 198.51.100.9:5061")
		time.Sleep(updateWait)
		d.expect(t, "update")
		time.Sleep(updateWait)
		d.expect(t, "update")
		time.Sleep(time.Minute)
		d.expect(t, "")
		if got := d.events[len(d.events)-1]; got != "moved" {
			t.Errorf("last event %q; want moved", got)
		}
		d.expectState(t, Talking)
	})
}

// What the peer asks for in the middle of a call may be more than the stream can.
func TestACallWhoseStreamRefusesAChangeEndsForBoth(t *testing.T) {
	changed := sip.Event{Kind: sip.Changed, Media: talk.Media}
	w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: []*fakeCall{newFakeCall(talk, changed)}, noStart: 1}
	try(t, w, func(t *testing.T, d *desk) {
		d.Dial(t.Context(), "102")
		d.expect(t, `resolve 102; open; invite 192.0.2.9:5061; media 192.0.2.9:4000; media 192.0.2.9:4000; hangup; close; tone "congestion"`)
		if s := d.Status(); s.Display[1] != ReasonSound {
			t.Errorf("display: %q", s.Display)
		}
	})
}
