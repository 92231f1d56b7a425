package phone

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// words are all that can happen to a phone, but for what happens to one of its
// calls.
var words = strings.Fields("lift lay 1 102# * # dial:102 dial:12 answer hold retrieve hangup offer ours ours down up back registered away broken mended + - M mute unmute turned")

// callWords are what can happen to a call.
var callWords = strings.Fields("again resolved rings flows stops established rated codec moved held heard proved denied over:hangup over:busy over:no_answer gone")

// book keeps what the model owes to each call.
type book struct {
	begun, released, ended map[int]int
	shown                  map[int]bool // to the user, who hears of its end
}

func (b book) enter(t *rapid.T, actions []action) {
	for _, a := range actions {
		switch a := a.(type) {
		case place:
			b.begun[a.id]++
			b.shown[a.id] = true
		case take:
			b.begun[a.id]++
		case ring:
			b.shown[a.id] = true
			if b.released[a.id] > 0 {
				t.Fatalf("call %d rings and is over", a.id)
			}
		case answer:
			if b.released[a.id] > 0 {
				t.Fatalf("call %d is answered and is over", a.id)
			}
		case release:
			b.released[a.id]++
			if a.reason == "" {
				t.Fatalf("call %d ends without a reason", a.id)
			}
		}
	}
}

// check is what is true of a phone at any time.
func check(t *rapid.T, m model) {
	state, v := m.state(), view(m)
	for _, c := range m.calls {
		if c.live() && c.phase != waiting && c.id != m.focus {
			t.Fatalf("call %d goes on, and the user is busy with %d: %+v", c.id, m.focus, m)
		}
		if !c.live() && c.timer.d != 0 {
			t.Fatalf("call %d is over and waits: %+v", c.id, m)
		}
	}
	if c, busy := m.focused(); m.focus != 0 && (!busy || !c.live() || c.phase == waiting) {
		t.Fatalf("the user is busy with call %d, which there is not: %+v", m.focus, m)
	}
	for id, timer := range m.timers() {
		if id > 0 && m.find(id) < 0 || id == awayTimer && m.leased {
			t.Fatalf("waits for %v, and there is no reason: %+v", timer, m)
		}
	}
	if rests := state == Standby || state == Initial; rests && (m.focus != 0 || m.waiting(false)+m.waiting(true) > 0 || m.timer.d != 0 && m.notice.reason == "") {
		t.Fatalf("at rest with a call or a timer: %+v", m)
	}
	if m.waiting(false) > mostWaiting || m.waiting(true) > mostWaiting || len(m.calls) > mostCalls+1 {
		t.Fatalf("%d and %d callers wait, %d calls: %+v", m.waiting(false), m.waiting(true), len(m.calls), m)
	}
	heard := map[State][]Tone{Initial: {ToneCongestion}, Dialing: {ToneDial}, Calling: {ToneRing}, Ringing: {ToneAlert},
		Releasing: {ToneBusy, ToneSIT, ToneCongestion}}
	if v.Tone != Silence && !strings.Contains(fmt.Sprint(heard[state]), string(v.Tone)) {
		t.Fatalf("%s sounds %q: %+v", state, v.Tone, m)
	}
	if v.Tone != Silence && m.hook == hal.OnHook && state != Ringing && state != Calling {
		t.Fatalf("%s sounds %q to nobody: %+v", state, v.Tone, m)
	}
	if utf8.RuneCountInString(v.Line1) > hal.DisplayColumns || utf8.RuneCountInString(v.Line2) > hal.DisplayColumns {
		t.Fatalf("too long for the display: %+v", v)
	}
}

// Whatever happens in whatever order: at most one call is heard, each is released
// once it is over and told of once, nothing waits for what there is not, and the
// phone is free as soon as the handset is put back.
func TestWhateverHappensThePhoneComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		b := book{map[int]int{}, map[int]int{}, map[int]int{}, map[int]bool{}}
		do := func(e event) {
			var did []action
			before := m
			if m, did = step(m, e); before.leased && !m.leased && before.focus != m.focus {
				t.Fatalf("%T: a call ends with the network at once: %+v", e, before)
			}
			b.enter(t, did)
			for _, c := range before.calls {
				if i := m.find(c.id); c.live() && (i < 0 || !m.calls[i].live()) {
					b.ended[c.id]++
				}
			}
			check(t, m)
		}
		for _, e := range []string{"back", "registered"} {
			do(eventsOf(m, e)[0])
		}
		t.Repeat(map[string]func(*rapid.T){
			"phone": func(t *rapid.T) {
				for _, e := range eventsOf(m, rapid.SampledFrom(words).Draw(t, "word")) {
					do(e)
				}
			},
			"call": func(t *rapid.T) {
				if len(m.calls) == 0 {
					t.Skip("there is none")
				}
				c := rapid.SampledFrom(m.calls).Draw(t, "call")
				word := rapid.SampledFrom(callWords).Draw(t, "word")
				for _, e := range eventsOf(m, fmt.Sprintf("%s/%d", word, c.id)) {
					do(e)
				}
			},
			"timer": func(t *rapid.T) {
				for id, timer := range m.timers() {
					if rapid.Bool().Draw(t, "runs out") {
						do(timedOut{id, timer.seq})
					}
				}
			},
			"fault": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "chance") > 0 {
					t.Skip("seldom")
				}
				var did []action
				m, did = m.safe()
				for _, a := range did {
					if r, is := a.(release); is && b.released[r.id] == 0 {
						b.released[r.id]++ // one that was over before is released again, which does nothing
						b.ended[r.id]++
					}
				}
				check(t, m)
			},
		})
		do(hookMoved{hal.OnHook})
		for range 2*mostWaiting + 2 { // those that waited ring now, one after the other
			do(hungUp{})
		}
		if s := m.state(); s != Standby && s != Initial {
			t.Fatalf("does not come to rest: %+v", m)
		}
		if v := view(m); v.Tone != Silence || v.Lamp == hal.LampBlink {
			t.Fatalf("at rest it shows and sounds %+v", v)
		}
		for id, n := range b.begun {
			if n != 1 || b.released[id] != 1 || b.ended[id] != 1 {
				t.Fatalf("call %d was begun %d times, released %d times, ended %d times; want 1", id, n, b.released[id], b.ended[id])
			}
		}
		for _, c := range m.calls {
			do(callGone{callID(c.id), ReasonBroken})
		}
		if len(m.calls) != 0 {
			t.Fatalf("calls that are gone are kept: %+v", m.calls)
		}
	})
}

// The same of the whole phone: in any order of keys, calls, moves and failures no
// two streams sound, and in the end each peer has been told, each stream is closed
// and the phone takes the next call.
func TestWhateverHappensEverythingIsReleased(t *testing.T) {
	doings := map[string]func(*table){
		"lift": lifts, "lay": lays, "number": presses("102#"), "digit": presses("5*"), "offer": isOffered,
		"stranger": func(d *table) { d.offers(sip.Peer{User: "666"}) },
		"rings":    rings, "early": isEarly, "agrees": agrees, "holds": holds, "reshapes": reshapes, "hangs up": hangsUp, "gives up": givesUp, "is wrong": isWrong,
		"moves": movesTo("192.0.2.7"), "comes back": movesTo("192.0.2.1"), "loses": loses, "is heard": isHeard, "peer moves": peerMoves,
		"status": isTheUser, "moment": waits(time.Second), "while": waits(lostAfter), "for ever": waits(ringWait),
	}
	names := slices.Sorted(maps.Keys(doings))
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		script := rapid.SliceOfN(rapid.SampledFrom(names), 5, 40).Draw(t, "script")
		method := rapid.SampledFrom(methods).Draw(t, "method")
		how := rapid.SampledFrom(moods).Draw(t, "mood")
		from := rapid.IntRange(0, len(script)).Draw(t, "from")
		w := &world{resolve: []func() (Peer, error){found("192.0.2.9:5061")}, invite: calls(20)(), vouched: true}
		wrong := ""
		try(outer, w, func(_ *testing.T, d *table) {
			for i, s := range script {
				if i == from {
					w.trouble(method, how)
				}
				if (s == "stranger" || s == "offer") && method == "Line.Incoming" {
					continue
				}
				doings[s](d)
				synctest.Wait()
				if n := w.heard(); n > 1 {
					wrong = fmt.Sprintf("after step %d %d streams sound", i, n)
				}
			}
			d.hook.Set(hal.OnHook)
			time.Sleep(ringWait + noAnswerWait)
			w.trouble("", no)
			time.Sleep(2 * partPauseMost)
			d.Hangup(d.ctx)
			d.NetworkUp(d.ctx, netip.MustParseAddr("192.0.2.1"))
			d.Registered(d.ctx, "101")
			synctest.Wait()
			if s := d.Status(); s.State != Standby || s.Tone != Silence {
				wrong = fmt.Sprintf("in the end: %+v", s)
			}
			w.mu.Lock()
			for _, c := range w.calls {
				c.told = c.told || c.asked
			}
			w.mu.Unlock()
		})
		if wrong != "" || outer.Failed() {
			t.Fatalf("%s: %s from step %d on: %s", strings.Join(script, ", "), method, from, wrong)
		}
	})
}
