package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// outgoing is a world with a phone at 192.0.2.9 whose calls bring these events,
// one call after the other.
func outgoing(calls ...*fakeCall) *world {
	return &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: calls}
}

// dials lifts the handset and dials 102; what that does is left to be expected.
func (d *table) dials(t *testing.T) {
	t.Helper()
	d.hook.Lift()
	d.expect(t, `tone "dial"`)
	d.keys.Press("102#")
	synctest.Wait()
}

// talks dials 102, which answers at once.
func (d *table) talks(t *testing.T) {
	t.Helper()
	d.dials(t)
	d.expectState(t, Talking)
	d.take()
}

func TestACallFromDialToneToRelease(t *testing.T) {
	call := newFakeCall(sip.Event{Kind: sip.Progress})
	try(t, outgoing(call), func(t *testing.T, d *table) {
		d.hook.Lift()
		d.expect(t, `tone "dial"`)
		d.keys.Press("102")
		d.expect(t, `tone ""`)
		time.Sleep(interDigitWait)
		d.expect(t, `resolve 102; open; invite 192.0.2.9:5061; tone "ringing tone"`)
		call.events <- talk
		d.expect(t, `media 192.0.2.9:4000; tone ""`)
		d.expectState(t, Talking)
		if s := d.Status(); s.Call == nil || s.Call.Statistics == nil || s.Call.Peer != "102" || s.Call.Codec != "opus" {
			t.Errorf("status of a call: %+v", s.Call)
		}
		d.keys.Press("5")
		d.expect(t, "digit 5")
		d.hook.Lay()
		d.expectBoth(t, "hangup", "close")
		d.expectState(t, Standby)
		if got := strings.Join(d.events, " "); got != "dialed resolved connected ringing established ended" {
			t.Errorf("events: %s", got)
		}
	})
}

// The address in the row is somebody else's by now: ask again, once.
func TestAWrongPhoneIsResolvedAgainOnce(t *testing.T) {
	wrong := sip.Event{Kind: sip.Ended, Reason: sip.ReasonWrongPhone, Code: 404}
	w := outgoing(newFakeCall(wrong), newFakeCall(talk, bye))
	w.resolve = []func() (Peer, error){found("192.0.2.8:5061"), found("192.0.2.9:5061")}
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		d.expectBoth(t, `tone ""`, "resolve 102", "open", "invite 192.0.2.8:5061", "resolve 102", "invite 192.0.2.9:5061",
			"media 192.0.2.9:4000", "close", `tone "busy"`)
	})
	try(t, outgoing(newFakeCall(wrong), newFakeCall(wrong)), func(t *testing.T, d *table) {
		d.dials(t)
		d.expectBoth(t, `tone ""`, "resolve 102", "open", "invite 192.0.2.9:5061", "resolve 102", "invite 192.0.2.9:5061",
			"close", `tone "special information"`)
	})
}

// Nobody at the address, and the row has not changed: there is nowhere to try.
func TestAnUnreachablePhoneIsNotTriedTwiceAtTheSameAddress(t *testing.T) {
	try(t, outgoing(newFakeCall(sip.Event{Kind: sip.Ended, Reason: sip.ReasonUnreachable})), func(t *testing.T, d *table) {
		d.dials(t)
		d.expectBoth(t, `tone ""`, "resolve 102", "open", "invite 192.0.2.9:5061", "resolve 102", "close", `tone "congestion"`)
	})
}

func TestWhatTheDirectorySaysIsHeard(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Tone
		line string
	}{
		{fmt.Errorf("directory: %w", ErrUnknown), ToneSIT, "unknown number"},
		{fmt.Errorf("directory: %w", ErrOffline), ToneSIT, "not connected"},
		{errors.New("timeout"), ToneCongestion, "storing server away"},
	} {
		w := &world{resolve: []func() (Peer, error){func() (Peer, error) { return Peer{}, tt.err }}}
		try(t, w, func(t *testing.T, d *table) {
			d.dials(t)
			if s := d.Status(); s.Tone != tt.want || s.Display[1] != tt.line || s.State != Releasing {
				t.Errorf("%v sounds %q and shows %q in %s", tt.err, s.Tone, s.Display, s.State)
			}
			d.hook.Lay()
			d.expectState(t, Standby)

			d.take() // nobody listens to a phone whose handset was never lifted
			d.Dial(t.Context(), "102")
			d.expect(t, "resolve 102")
			if s := d.Status(); s.Tone != Silence || s.Display[1] != tt.line || s.State != Standby {
				t.Errorf("%v, dialled without the handset, sounds %q and shows %q in %s", tt.err, s.Tone, s.Display, s.State)
			}
			time.Sleep(lingerWait)
			synctest.Wait()
			if s := d.Status(); s.Display != [2]string{"101", "192.0.2.1"} {
				t.Errorf("%v after the end of an attempt the display says %q", lingerWait, s.Display)
			}
		})
	}
}

func TestHangingUpWhileTheServerIsAsked(t *testing.T) {
	try(t, &world{resolve: []func() (Peer, error){nil}}, func(t *testing.T, d *table) {
		d.dials(t)
		d.expectBoth(t, `tone ""`, "resolve 102")
		d.expectState(t, Resolving)
		d.hook.Lay()
		d.expectState(t, Standby)
	})
}

func TestACallIsTakenAndASecondIsBusy(t *testing.T) {
	try(t, &world{}, func(t *testing.T, d *table) {
		first := d.offers(sip.Peer{User: "102"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		d.hook.Lift()
		d.expectBoth(t, `tone ""`, "open", "answer", "media 192.0.2.9:4000")
		d.offers(sip.Peer{User: "103", Secure: true})
		d.expect(t, "reject 486")
		d.NetworkUp(t.Context(), netip.MustParseAddr("192.0.2.77"))
		d.expect(t, "update")
		first.events <- bye
		d.expectBoth(t, "close", `tone "busy"`)
		d.hook.Lay()
		d.expect(t, `tone ""`)
	})
}

// The phone rings whoever calls, and says whether it is who it says. Who calls in
// the clear cannot prove anything, and the storing server is not asked.
func TestACallerIsProvedOrNot(t *testing.T) {
	for _, tt := range []struct {
		secure, vouched bool
		want            string
	}{
		{true, true, "is calling"},
		{true, false, "calls, not proved"},
		{false, true, "calls, not proved"},
	} {
		try(t, &world{vouched: tt.vouched}, func(t *testing.T, d *table) {
			d.offers(sip.Peer{User: "102", Secure: tt.secure})
			proved := tt.secure && tt.vouched
			did := []string{"ring", `tone "alerting"`}
			if proved {
				did = append(did, "vouch") // signalling knows its key from now on
			}
			if tt.secure {
				did = append(did, "open") // keys are made while it rings
			}
			d.expectBoth(t, did...)
			if s := d.Status(); s.Display != [2]string{"102", tt.want} || *s.Call.Proved != proved {
				t.Errorf("display %q, proved %v; want %q", s.Display, *s.Call.Proved, tt.want)
			}
		})
	}
}

// A stranger that rings is in nobody's way: a phone of ours that is proved takes
// the ring over, also from a whole crowd.
func TestAProvedPhoneRingsInAFloodOfStrangers(t *testing.T) {
	try(t, &world{vouched: true}, func(t *testing.T, d *table) {
		stranger := d.offers(sip.Peer{User: "1"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		for range 1000 {
			d.offers(sip.Peer{User: "2"})
		}
		synctest.Wait()
		d.take()
		ours := d.offers(sip.Peer{User: "103", Secure: true})
		synctest.Wait()
		if got := d.take(); !strings.Contains(got, "ring") || !strings.Contains(got, "reject 486") {
			t.Errorf("did %s", got)
		}
		if !stranger.told || ours.told {
			t.Errorf("stranger refused: %v, ours: %v; want true, false", stranger.told, ours.told)
		}
		for range 1000 {
			d.offers(sip.Peer{User: "2"})
		}
		d.expectState(t, Ringing)
		if s := d.Status(); s.Display != [2]string{"103", "is calling"} {
			t.Errorf("display %q", s.Display)
		}
		d.hook.Lift()
		d.expectState(t, Talking)
	})
}

// A flood of strangers whose refusals take long takes no more than its share of
// the phone, and one of ours gets through as soon as there is room.
func TestAFloodTakesNoMoreThanItsShare(t *testing.T) {
	try(t, &world{vouched: true}, func(t *testing.T, d *table) {
		d.offers(sip.Peer{User: "1"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		d.trouble("Call.Reject", late)
		for range mostPending {
			d.offers(sip.Peer{User: "2"})
		}
		synctest.Wait()
		select {
		case d.incoming <- newFakeCall().open(d.world):
			t.Errorf("more than %d calls are neither taken nor refused", mostPending)
		default:
		}
		d.offers(sip.Peer{User: "103", Secure: true}) // waits for room
		d.trouble("", no)
		synctest.Wait()
		if s := d.Status(); s.Display != [2]string{"103", "is calling"} {
			t.Errorf("display %q", s.Display)
		}
		time.Sleep(lateBy)
	})
}

// What call control itself cannot do costs the calls, and their peers hear of it.
func TestAPanicInCallControlCostsTheCalls(t *testing.T) {
	c := newFakeCall(talk)
	w := outgoing(c)
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		d.post(d.ctx, callResolved{callID(1), Peer{}}) // as any event; the next is none that there is
		d.post(d.ctx, broken{})
		d.expectBoth(t, "hangup", "close", `tone "dial"`)
		if len(d.caught) != 1 || d.caught[0] != "broken" {
			t.Errorf("reported: %q", d.caught)
		}
		d.hook.Lay()
		d.expectState(t, Standby)
		d.offers(sip.Peer{User: "103"})
		d.expectState(t, Ringing)
	})
}

// broken is an event that step panics of.
type broken struct{}

func (broken) of() int { panic("broken") }

// Who only seems to be ours does not disturb the ring, and keeps nobody waiting.
func TestWhoCannotProveItIsToldBusy(t *testing.T) {
	try(t, &world{}, func(t *testing.T, d *table) {
		d.offers(sip.Peer{User: "1"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		for range 100 {
			d.offers(sip.Peer{User: "103", Secure: true})
			d.expect(t, "reject 486")
		}
		if s := d.Status(); s.Display[0] != "1" || s.State != Ringing {
			t.Errorf("%s, display %q", s.State, s.Display)
		}
	})
}

func TestACallThatNobodyTakes(t *testing.T) {
	try(t, &world{}, func(t *testing.T, d *table) {
		d.offers(sip.Peer{User: "102"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		time.Sleep(ringWait)
		d.expectBoth(t, `tone ""`, "reject 480")
		if s := d.Status(); s.Lamp != "on" || s.Display[1] != "1 missed call" || s.State != Standby {
			t.Errorf("after a missed call: %+v", s)
		}
	})
}

// The phone is switched off in the middle of a call.
func TestTheCallIsReleasedWhenThePhoneStops(t *testing.T) {
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) { d.talks(t) })
	if got := w.take(); got != `hangup; close; tone ""` && got != `close; hangup; tone ""` {
		t.Errorf("at the end of the phone: %s", got)
	}
}

// A peer that does not confirm the end keeps nobody from the next call, and is
// not heard in it.
func TestTheNextCallNeedNotWaitForTheRelease(t *testing.T) {
	try(t, outgoing(newFakeCall(talk), newFakeCall(talk)), func(t *testing.T, d *table) {
		d.talks(t)
		d.trouble("Call.Hangup", late)
		d.hook.Lay()
		d.expectBoth(t, "hangup", "close")
		d.expectState(t, Standby)
		d.talks(t)
		if d.heard() != 1 {
			t.Errorf("%d streams sound; want 1", d.heard())
		}
		d.hook.Lay()
		d.expectState(t, Standby)
		d.offers(sip.Peer{User: "103"})
		d.expectState(t, Ringing)
		d.hook.Lift()
		d.expectState(t, Talking)
		time.Sleep(lateBy)
		d.expectState(t, Talking)
		if d.heard() != 1 {
			t.Errorf("%d streams sound; want 1", d.heard())
		}
		d.trouble("", no)
	})
}

// The peer has lost its link, and can tell nobody.
func TestACallEndsWhenNothingComesFromThePeerAnyMore(t *testing.T) {
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		for range 10 {
			w.received.Add(1)
			time.Sleep(lostAfter / 2)
		}
		d.expectState(t, Talking)
		time.Sleep(lostAfter/2 + 2*time.Second) // half of it has passed already
		d.expectBoth(t, "hangup", "close", `tone "congestion"`)
		d.expectState(t, Releasing)
		if s := d.Status(); s.Display[1] != string(ReasonLost) {
			t.Errorf("display: %q", s.Display)
		}
	})
}

// While the peer is not heard the display says so. One of ours is missed at once,
// another one may be silent between its reports.
func TestAPeerThatIsNotHeardIsReconnecting(t *testing.T) {
	for name, tt := range map[string]struct {
		secure bool
		within time.Duration
	}{"ours": {true, missedAfter}, "another": {false, missedStrangerAfter}} {
		t.Run(name, func(t *testing.T) {
			c := newFakeCall(talk)
			c.peer.Secure = tt.secure
			w := outgoing(c)
			try(t, w, func(t *testing.T, d *table) {
				d.talks(t)
				says := func(when, want string) {
					t.Helper()
					synctest.Wait()
					if s := d.Status(); s.Display[1] != want {
						t.Errorf("%s the display says %q; want %q", when, s.Display[1], want)
					}
				}
				time.Sleep(missedStrangerAfter * 2)
				says("of a peer that was never heard", "not private")
				w.received.Add(50)
				time.Sleep(time.Second)
				says("while it is heard", "not private")
				time.Sleep(tt.within - time.Second)
				says("before it is missed", "not private")
				time.Sleep(2 * time.Second)
				says("of a peer that is not heard", "reconnecting")
				w.received.Add(1)
				time.Sleep(time.Second)
				says("of one that is heard again", "not private")
				time.Sleep(tt.within + time.Second)
				says("of one that is lost again", "reconnecting")
				d.NetworkDown(t.Context(), "link down")
				says("without a link here", "no network, waiting")
				d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
				c.events <- changed(func(m *sip.Media) { m.Silent = true })
				time.Sleep(time.Second)
				says("of one that wants to be silent", "not private")
				d.expectState(t, Talking)
				var told []string
				for _, e := range d.events {
					if strings.HasPrefix(e, "reconnect") {
						told = append(told, e)
					}
				}
				if want := []string{"reconnecting", "reconnected", "reconnecting", "reconnected"}; !slices.Equal(told, want) {
					t.Errorf("told %q; want %q", told, want)
				}
			})
		})
	}
}

// Silence that was agreed upon is no loss (RFC 3264, 8.4), nor is a peer that was
// never heard: it is asked whether it lives, and lost only if it is not there.
func TestAPeerThatMayBeSilentIsAsked(t *testing.T) {
	hold := changed(func(m *sip.Media) { m.Silent = true })
	resume := changed(func(m *sip.Media) { m.PacketTime = 20 * time.Millisecond })
	for name, before := range map[string]func(*table, *fakeCall){
		"held": func(d *table, c *fakeCall) {
			d.received.Add(50)
			time.Sleep(2 * time.Second)
			c.events <- hold
		},
		"never heard": func(*table, *fakeCall) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFakeCall(talk)
			try(t, outgoing(c), func(t *testing.T, d *table) {
				d.talks(t)
				before(d, c)
				synctest.Wait()
				d.take()
				time.Sleep(10 * lostAfter)
				synctest.Wait()
				if got := d.take(); strings.Count(got, "probe") < 8 || strings.Count(got, "probe") > 10 || strings.Contains(got, "hangup") {
					t.Errorf("in %v of silence the phone did %q", 10*lostAfter, got)
				}
				d.expectState(t, Talking)
				d.trouble("Call.Probe", twice) // two questions are lost
				time.Sleep(3 * lostAfter)
				d.expectState(t, Talking)
				d.trouble("Call.Probe", no)
				time.Sleep(2 * lostAfter)
				d.expectState(t, Releasing)
				if s := d.Status(); s.Display[1] != string(ReasonLost) {
					t.Errorf("display: %q", s.Display)
				}
			})
		})
	}
	c := newFakeCall(talk)
	try(t, outgoing(c), func(t *testing.T, d *table) {
		d.talks(t)
		d.received.Add(50)
		time.Sleep(2 * time.Second)
		c.events <- hold
		time.Sleep(10*lostAfter + lostAfter*9/10)
		c.events <- resume
		time.Sleep(lostAfter - 2*time.Second)
		d.expectState(t, Talking)
		time.Sleep(4 * time.Second) // it was to be heard again
		d.expectState(t, Releasing)
	})
}

// A cable that is out is no reason to hang up. The call waits as long as for a
// peer, and that does not count as the peer's silence.
func TestTheCallWaitsForTheNetwork(t *testing.T) {
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		w.received.Add(1)
		time.Sleep(lostAfter / 2)
		d.NetworkDown(t.Context(), "link down")
		time.Sleep(lostAfter * 9 / 10)
		d.expect(t, "")
		d.expectState(t, Talking)
		if s := d.Status(); s.Display[1] != "no network, waiting" {
			t.Errorf("display: %q", s.Display)
		}
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		d.expect(t, "update")
		if s := d.Status(); s.Display[1] != "not private" {
			t.Errorf("display: %q", s.Display)
		}
		time.Sleep(lostAfter - 3*time.Second) // the peer has to find the way as well
		d.expectState(t, Talking)
		w.received.Add(1)
		time.Sleep(2 * time.Second)
		d.NetworkDown(t.Context(), "link down")
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7")) // the same: nobody need be told
		d.expect(t, "")
		d.NetworkDown(t.Context(), "link down")
		time.Sleep(lostAfter)
		d.expectBoth(t, "hangup", "close", `tone "congestion"`) // of the phone without a network
		d.expectState(t, Initial)
		if got := d.events[len(d.events)-1]; got != "ended" {
			t.Errorf("last event %q; want ended", got)
		}
	})
}

// One of the ends moves before the call is answered, and the other cannot hear of
// what becomes of the INVITE: it is sent anew, from where this phone is to where the
// other one is.
func TestACallThatRingsOutlivesAMove(t *testing.T) {
	ringing := func() *fakeCall { return newFakeCall(sip.Event{Kind: sip.Progress}) }
	there := netip.MustParseAddrPort("198.51.100.9:5061")
	for name, tt := range map[string]struct {
		moves func(*testing.T, *table)
		to    string
	}{
		"this end":  {func(t *testing.T, d *table) { d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7")) }, "192.0.2.9:5061"},
		"the other": {func(t *testing.T, d *table) { d.peerMoves <- there }, there.String()},
		"both": {func(t *testing.T, d *table) {
			d.peerMoves <- there
			synctest.Wait()
			d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
			synctest.Wait()
		}, there.String()},
	} {
		t.Run(name, func(t *testing.T) {
			first, second, third := ringing(), ringing(), ringing()
			w := outgoing(first, second, third)
			w.resolve = []func() (Peer, error){func() (Peer, error) {
				p, err := found("192.0.2.9:5061")()
				p.Target.Pin = [32]byte{1}
				return p, err
			}}
			for _, c := range []*fakeCall{first, second, third} {
				c.peer.Secure = true
			}
			try(t, w, func(t *testing.T, d *table) {
				d.dials(t)
				synctest.Wait()
				d.take()
				tt.moves(t, d)
				synctest.Wait()
				did := d.take()
				if !strings.Contains(did, "invite "+tt.to) || strings.Contains(did, "resolve") || strings.Contains(did, "close") {
					t.Errorf("it did %q; want it to call %s anew with the sound that there is", did, tt.to)
				}
				if s := d.Status(); s.State != Calling || s.Display[1] != "ringing" {
					t.Errorf("meanwhile %+v; want it to ring as before", s)
				}
				now := second
				if name == "both" {
					now = third
				}
				now.events <- talk
				synctest.Wait()
				d.expectState(t, Talking)
				if !first.told {
					t.Error("the first INVITE was not withdrawn")
				}
				d.take()
				d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.8")) // in the call, as ever
				d.expect(t, "update")
			})
		})
	}
}

// A call that is answered in the moment in which it would be called anew goes on.
func TestAnAnswerCrossesAMove(t *testing.T) {
	first := newFakeCall(sip.Event{Kind: sip.Progress})
	first.peer.Secure = true
	w := outgoing(first)
	w.resolve = []func() (Peer, error){func() (Peer, error) {
		p, err := found("192.0.2.9:5061")()
		p.Target.Pin = [32]byte{1}
		return p, err
	}}
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.trouble("Call.Leave", no)
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		first.events <- talk
		time.Sleep(time.Second)
		d.expectState(t, Talking)
		if did := d.take(); strings.Count(did, "invite") != 1 || !strings.Contains(did, "update") {
			t.Errorf("it did %q; want one INVITE, and the peer told of the new address", did)
		}
	})
}

// A phone of ours from which a call was cut off is called anew, until it is not there
// at all; another phone is not.
func TestACallThatRingsOutlivesItsConnection(t *testing.T) {
	cut, lost := sip.Event{Kind: sip.Ended, Reason: sip.ReasonCut}, sip.Event{Kind: sip.Ended, Reason: sip.ReasonUnreachable}
	for name, tt := range map[string]struct {
		end     sip.Event
		invites int
		state   State
	}{"ours": {cut, 3, Calling}, "another": {lost, 1, Releasing}} {
		t.Run(name, func(t *testing.T) {
			ring := sip.Event{Kind: sip.Progress}
			w := outgoing(newFakeCall(ring, tt.end), newFakeCall(tt.end), newFakeCall(ring))
			try(t, w, func(t *testing.T, d *table) {
				d.dials(t)
				synctest.Wait()
				if did := d.take(); strings.Count(did, "invite") != tt.invites {
					t.Errorf("it did %q; want %d invites", did, tt.invites)
				}
				d.expectState(t, tt.state)
			})
		})
	}
	w := outgoing(newFakeCall(sip.Event{Kind: sip.Progress}, cut), newFakeCall(lost))
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.expectState(t, Releasing) // it was asked for again, and is nowhere else
	})
}

// A handset that is lifted while there is no address answers when there is one.
func TestAnAnswerWaitsForTheNetwork(t *testing.T) {
	w := &world{}
	try(t, w, func(t *testing.T, d *table) {
		d.offers(sip.Peer{User: "103", Secure: true})
		d.expectState(t, Ringing)
		d.NetworkDown(t.Context(), "link down")
		synctest.Wait()
		d.trouble("Call.Answer", no)
		d.hook.Set(hal.OffHook)
		time.Sleep(lostAfter / 2)
		d.expectState(t, Ringing)
		d.trouble("", no)
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		time.Sleep(time.Second)
		d.expectState(t, Talking)
	})
}

// Without an address here nobody is called anew, wherever the peer is then.
func TestACallThatRingsWaitsForTheNetwork(t *testing.T) {
	ring := sip.Event{Kind: sip.Progress}
	w := outgoing(newFakeCall(ring), newFakeCall(ring))
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.NetworkDown(t.Context(), "link down")
		synctest.Wait()
		d.take()
		d.peerMoves <- netip.MustParseAddrPort("198.51.100.9:5061")
		d.expect(t, "")
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		synctest.Wait()
		if did := d.take(); !strings.Contains(did, "invite 198.51.100.9:5061") {
			t.Errorf("it did %q; want it to call the new address", did)
		}
	})
	// Who is on the move as well is called until its row says where it is, or for so long.
	there, here := sip.Event{Kind: sip.Ended, Reason: sip.ReasonUnreachable}, newFakeCall(ring)
	w = outgoing(here, newFakeCall(there), newFakeCall(there), newFakeCall(ring))
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		time.Sleep(anewPause + anewPause/2)
		d.take()
		d.peerMoves <- netip.MustParseAddrPort("198.51.100.9:5061")
		synctest.Wait()
		if did := d.take(); !strings.Contains(did, "invite 198.51.100.9:5061") {
			t.Errorf("it did %q; want it to call the new address at once", did)
		}
		d.expectState(t, Calling)
		time.Sleep(lostAfter)
		d.expectState(t, Calling) // it rings there
	})
	gone := calls(30)()
	for _, c := range gone[1:] {
		c.first = append(c.first, there)
	}
	w = outgoing(gone...)
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		time.Sleep(lostAfter - anewPause)
		d.expectState(t, Calling)
		time.Sleep(2 * anewPause)
		d.expectState(t, Releasing)
	})
	cut := newFakeCall(ring)
	w = outgoing(cut, newFakeCall(ring))
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.NetworkDown(t.Context(), "nak")
		synctest.Wait()
		d.take()
		cut.events <- sip.Event{Kind: sip.Ended, Reason: sip.ReasonCut}
		time.Sleep(lostAfter / 2)
		d.expect(t, "")
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		synctest.Wait()
		if did := d.take(); strings.Count(did, "invite") != 1 {
			t.Errorf("cut off without an address it did %q; want one call when there is an address", did)
		}
		d.expectState(t, Calling)
	})
}

// Both ends move at once: ours is told again and again, and goes to where the
// peer's row says it is.
func TestACallOutlivesTheAddressesOfBothEnds(t *testing.T) {
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		w.trouble("Call.Update", twice)
		d.NetworkUp(t.Context(), netip.MustParseAddr("198.51.100.7"))
		d.expect(t, "update")
		w.peerMoves <- netip.MustParseAddrPort("198.51.100.9:5061")
		d.expect(t, "retarget 198.51.100.9:5061")
		time.Sleep(updateWait)
		d.expect(t, "update")
		time.Sleep(updateWait)
		d.expect(t, "update")
		time.Sleep(lostAfter - 2*time.Second)
		d.expect(t, "")
		if got := d.events[len(d.events)-1]; got != "moved" {
			t.Errorf("last event %q; want moved", got)
		}
		d.expectState(t, Talking)
	})
}

// Of a peer that may be at one of several addresses the sound hears at once, and signalling
// when it is found out; it is not called there before either.
func TestSoundDoesNotWaitForSignalling(t *testing.T) {
	may, is := netip.MustParseAddrPort("198.51.100.9:5061"), netip.MustParseAddrPort("[2001:db8::9]:5061")
	w := outgoing(newFakeCall(talk))
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		for _, tt := range []struct {
			told chan netip.AddrPort
			at   netip.AddrPort
			did  string
		}{{w.peerMayBe, may, ""}, {w.peerMoves, is, "retarget [2001:db8::9]:5061"}} {
			tt.told <- tt.at
			d.expect(t, tt.did)
			w.mu.Lock()
			if w.saysTo != tt.at.Addr() {
				t.Errorf("the sound goes to %v; want %v", w.saysTo, tt.at)
			}
			w.mu.Unlock()
		}
	})
	w = outgoing(newFakeCall(sip.Event{Kind: sip.Progress}), newFakeCall(sip.Event{Kind: sip.Progress}))
	try(t, w, func(t *testing.T, d *table) {
		d.dials(t)
		synctest.Wait()
		d.take()
		w.peerMayBe <- may
		d.expect(t, "")
		w.peerMoves <- is
		synctest.Wait()
		if did := d.take(); !strings.Contains(did, "invite "+is.String()) {
			t.Errorf("it did %q; want it to call %v", did, is)
		}
	})
}

// What the peer sends before it answers is heard in place of the ringing tone, as
// long as it comes.
func TestEarlySoundIsHeardInPlaceOfTheRingingTone(t *testing.T) {
	c := newFakeCall(sip.Event{Kind: sip.Progress}, sip.Event{Kind: sip.Early, Media: talk.Media})
	try(t, outgoing(c), func(t *testing.T, d *table) {
		d.dials(t)
		d.expectBoth(t, `tone ""`, "resolve 102", "open", "invite 192.0.2.9:5061", "media 192.0.2.9:4000", `tone "ringing tone"`)
		for range 20 {
			d.received.Add(1)
			time.Sleep(earlyLook)
		}
		d.expect(t, `tone ""`)
		d.expectState(t, Calling)
		time.Sleep(earlyGap + earlyLook)
		d.expect(t, `tone "ringing tone"`)
		c.events <- talk // as it flows already
		d.expect(t, `tone ""`)
		d.expectState(t, Talking)
	})
}

// Who is called speaks as soon as its answer has left.
func TestTheAnswererSpeaksBeforeItIsAcknowledged(t *testing.T) {
	try(t, &world{}, func(t *testing.T, d *table) {
		c := d.offers(sip.Peer{User: "102"})
		d.expectBoth(t, "ring", `tone "alerting"`)
		d.trouble("Call.Answer", late)
		d.hook.Lift()
		d.expectBoth(t, `tone ""`, "open", "answer")
		c.events <- sip.Event{Kind: sip.Early, Media: talk.Media}
		d.expect(t, "media 192.0.2.9:4000")
		d.expectState(t, Ringing)
		time.Sleep(lateBy)
		d.expectState(t, Talking)
	})
}

// How long packets are is a wish, and a codec that the stream does not take is
// replaced by another; only where there is none left the call ends, at both ends.
func TestACallIsHeardInAnotherWay(t *testing.T) {
	strange := func(codec string, d time.Duration) sip.Event {
		return changed(func(m *sip.Media) { m.Codec, m.PacketTime = codec, d })
	}
	for _, tt := range []struct {
		name    string
		first   []sip.Event
		refuses func(sip.Media) bool
		state   State
		codec   string
	}{
		{"packet time of the first answer", []sip.Event{{Kind: sip.Established, Media: strange("opus", 15*time.Millisecond).Media}},
			func(m sip.Media) bool { return m.PacketTime != 0 }, Talking, "opus"},
		{"packet time of a change", []sip.Event{talk, strange("opus", 100*time.Millisecond)},
			func(m sip.Media) bool { return m.PacketTime != 0 }, Talking, "opus"},
		{"codec of the first answer", []sip.Event{talk},
			func(m sip.Media) bool { return m.Codec == "opus" }, Talking, "PCMA"},
		{"codec of a change", []sip.Event{{Kind: sip.Established, Media: strange("PCMA", 0).Media}, strange("opus", 0)},
			func(m sip.Media) bool { return m.Codec == "opus" }, Talking, "PCMA"},
		{"everything", []sip.Event{talk}, func(sip.Media) bool { return true }, Releasing, ""},
		{"everything, in a call", []sip.Event{talk, strange("PCMA", 0)},
			func(m sip.Media) bool { return true }, Releasing, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFakeCall(tt.first...)
			c.update = func(lm sip.LocalMedia) []sip.Event { return []sip.Event{strange(lm.(described).codecs[0], 0)} }
			w := outgoing(c)
			w.refuses = tt.refuses
			try(t, w, func(t *testing.T, d *table) {
				d.dials(t)
				d.expectState(t, tt.state)
				s := d.Status()
				if tt.state == Releasing {
					if s.Display[1] != string(ReasonSound) || !c.told {
						t.Errorf("display %q, peer told: %v", s.Display, c.told)
					}
					return
				}
				if s.Call.Codec != tt.codec || d.heard() != 1 {
					t.Errorf("codec %q, %d streams sound; want %q, 1", s.Call.Codec, d.heard(), tt.codec)
				}
			})
		})
	}
}

// A display that cannot be written is told of once, tried again, and shows in the
// end what it is to show; one that takes long keeps nobody waiting.
func TestADisplayThatFailsIsWrittenAgain(t *testing.T) {
	for _, m := range []mood{no, lateNo, panics} {
		w := &world{}
		try(t, w, func(t *testing.T, d *table) {
			d.trouble("Display.Show", m)
			d.offers(sip.Peer{User: "103"})
			d.expectState(t, Ringing)
			d.hook.Lift()
			d.expectState(t, Talking)
			time.Sleep(lostAfter / 2)
			synctest.Wait()
			if n := strings.Count(strings.Join(d.events, " "), "failed"); n != 1 {
				t.Errorf("%s: told of %d times; want 1: %q", m, n, d.events)
			}
			d.trouble("", no)
			time.Sleep(partPauseMost)
			synctest.Wait()
			if want := d.Status().Display; w.shows != want {
				t.Errorf("%s: shows %q; want %q", m, w.shows, want)
			}
		})
	}
}
