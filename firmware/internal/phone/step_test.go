package phone

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// online is a phone that lies on the hook, leased and registered as 101.
func online() model {
	m, _ := step(model{}, networkUp{addr: "192.0.2.1"})
	m, _ = step(m, registration{true, "101"})
	return m
}

// play runs a script of events, a word each, over m and tells what it did:
// actions in words, then the state.
func play(m model, script string) (model, string) {
	var did []string
	for _, word := range strings.Fields(script) {
		for _, e := range eventsOf(m, word) {
			var actions []action
			m, actions = step(m, e)
			for _, a := range actions {
				if _, ok := a.(click); ok {
					continue // heard with every key
				}
				did = append(did, wordOf(a))
			}
		}
	}
	return m, strings.TrimSpace(strings.Join(did, " ") + " | " + string(m.state()))
}

// eventsOf are the events that word means. Those of a call are of the newest, or
// of the one whose id is written behind a slash.
func eventsOf(m model, word string) []event {
	id := callID(m.last)
	if w, n, ok := strings.Cut(word, "/"); ok {
		i, err := strconv.Atoi(n)
		if err != nil {
			panic(err)
		}
		word, id = w, callID(i)
	}
	switch word {
	case "lift":
		return []event{hookMoved{hal.OffHook}}
	case "lay":
		return []event{hookMoved{hal.OnHook}}
	case "wait": // for whatever the user would wait for
		if c, busy := m.focused(); busy {
			return []event{timedOut{c.id, c.timer.seq}}
		}
		return []event{timedOut{deskTimer, m.timer.seq}}
	case "away!":
		return []event{timedOut{awayTimer, m.away.seq}}
	case "resolved":
		return []event{callResolved{id, Peer{Name: m.calls[m.find(id.of())].number}}}
	case "rings":
		return []event{callProgress{id}}
	case "flows":
		return []event{callHeard{id, true}}
	case "stops":
		return []event{callHeard{id, false}}
	case "established":
		return []event{callEstablished{id, "opus", false}}
	case "codec":
		return []event{callCodec{id, "PCMA", false}}
	case "rated":
		return []event{callRated{id, 4.26, "punched"}}
	case "digit":
		return []event{callDigit{id, '5'}}
	case "held":
		return []event{callHeld{id, "peer", true}}
	case "heard":
		return []event{callHeld{id, "peer", false}}
	case "hold":
		return []event{putOnHold{true}}
	case "retrieve":
		return []event{putOnHold{false}}
	case "moved":
		return []event{callChanged{id, "peer"}}
	case "offer": // a stranger's
		return []event{offered{from: "102"}}
	case "page": // of a browser
		return []event{offered{from: fromBrowser + "Ada Lovelace of London", page: "Ada Lovelace of London"}}
	case "ours": // each another phone
		return []event{offered{from: "103", by: caller{user: strconv.Itoa(m.last)}}}
	case "friend": // likewise, of which it is known
		return []event{offered{from: "104", by: caller{user: strconv.Itoa(m.last)}, known: true}}
	case "again": // the same phone
		return []event{offered{from: "103", by: m.calls[m.find(id.of())].by}}
	case "proved":
		return []event{callProved{id, true, [32]byte{}}}
	case "denied":
		return []event{callProved{id, false, [32]byte{}}}
	case "gone":
		return []event{callGone{id, ReasonBroken}}
	case "answer":
		return []event{answered{}}
	case "hangup":
		return []event{hungUp{}}
	case "down":
		return []event{networkDown{"link down"}}
	case "up":
		return []event{networkUp{addr: "192.0.2.7"}}
	case "back":
		return []event{networkUp{addr: "192.0.2.1"}}
	case "six":
		return []event{networkUp{"192.0.2.1", []netip.Addr{netip.MustParseAddr("2001:db8::1")}}}
	case "registered":
		return []event{registration{true, "101"}}
	case "turned":
		return []event{turned{"loudspeaker 10 of 10"}}
	case "turn!":
		return []event{timedOut{turnTimer, m.turns.seq}}
	case "mute":
		return []event{muted{true}}
	case "unmute":
		return []event{muted{false}}
	case "new": // the other end has another key than it had
		return []event{callResolved{id, Peer{Name: "102", Was: [32]byte{1}}}}
	case "broken":
		return []event{partFailed{"hook switch"}}
	case "mended":
		return []event{partWorks{"hook switch"}}
	case "away":
		return []event{registration{}}
	}
	if reason, ok := strings.CutPrefix(word, "ended:"); ok {
		return []event{callOver{id, Reason(strings.ReplaceAll(reason, "_", " "))}, callGone{id, ReasonBroken}}
	}
	if reason, ok := strings.CutPrefix(word, "over:"); ok {
		return []event{callOver{id, Reason(strings.ReplaceAll(reason, "_", " "))}}
	}
	if number, ok := strings.CutPrefix(word, "dial:"); ok {
		return []event{dialled{number}}
	}
	var keys []event
	for _, r := range word {
		if !strings.ContainsRune("0123456789*#+-M", r) {
			panic("no such word: " + word)
		}
		keys = append(keys, keyPressed{hal.Key(r)})
	}
	return keys
}

func wordOf(a action) string {
	switch a := a.(type) {
	case place:
		return "place:" + a.to.String()
	case release:
		return "release:" + strings.ReplaceAll(string(a.reason), " ", "_")
	case report:
		if is, ok := a.Event.(events.State); ok {
			return "(" + is.State + ")"
		}
		return a.Name()
	case sendDigit:
		return "digit:" + string(a.key)
	case turn:
		return fmt.Sprintf("turn%+d:%v", a.by, map[bool]string{true: "ringer", false: "voice"}[a.ringer])
	case mute:
		return fmt.Sprintf("mute:%v", a.is)
	}
	return strings.ToLower(strings.TrimPrefix(strings.SplitN(fmt.Sprintf("%T", a), "{", 2)[0], "phone."))
}

func TestStep(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"a call and the peer's end", "lift 102# resolved rings established ended:hangup lay",
			"dialed place:102 resolved connected ringing established release:hangup ended | standby"},
		{"a call and our end", "lift 102# resolved rings established lay",
			"dialed place:102 resolved connected ringing established release:hangup (releasing) ended | standby"},
		{"while a call is released the next is made", "lift 102# resolved established lay lift 103#",
			"dialed place:102 resolved connected established release:hangup (releasing) ended dialed place:103 | resolving"},
		{"while a call is released another comes", "lift 102# resolved established lay offer gone/1",
			"dialed place:102 resolved connected established release:hangup (releasing) ended take ring ringing | ringing"},
		{"answered without ringing", "lift 102# resolved established",
			"dialed place:102 resolved connected established | talking"},
		{"a pause ends a short number", "lift 102 wait", "dialed place:102 | resolving"},
		{"fifteen digits need no more", "lift 000000000000258", "dialed place:000000000000258 | resolving"},
		{"an address", "lift 10*77*0*9#", "dialed place:10*77*0*9 | resolving"},
		{"a whole address needs no more", "lift 10*77*0*109", "dialed place:10*77*0*109 | resolving"},
		{"digits in a call", "lift 102# resolved established 5#", "dialed place:102 resolved connected established digit:5 digit:# | talking"},
		{"* in a call asks how good it is", "lift 102# resolved established * rated wait wait 5",
			"dialed place:102 resolved connected established digit:* rate digit:5 | talking"},
		{"how good a call was that is over", "lift 102# resolved established * ended:hangup rated lay",
			"dialed place:102 resolved connected established digit:* rate release:hangup ended | standby"},
		{"keys of the volume at rest are of what rings", "+ - down +", "turn+1:ringer turn-1:ringer turn+1:ringer | initial"},
		{"and while it rings, also with the handset off", "offer + lift 1", "take ring ringing turn+1:ringer answer | ringing"},
		{"else of what is heard", "lift + 102# - resolved established +",
			"turn+1:voice dialed place:102 turn-1:voice resolved connected established turn+1:voice | talking"},
		{"muted until that is taken back", "lift 102# resolved M established M", "dialed place:102 resolved mute:true connected established mute:false | talking"},
		{"muted until the call is over", "lift 102# resolved established M ended:hangup lay lift",
			"dialed place:102 resolved connected established mute:true release:hangup mute:false ended | dialing"},
		{"there is nothing to mute", "M lift M", "| dialing"},
		{"muted beforehand by command", "mute lift 102# resolved established lay", "mute:true dialed place:102 resolved connected established release:hangup mute:false (releasing) ended | standby"},
		{"nothing dialled", "lift wait", "| releasing"},
		{"# alone is nothing", "lift #", "| dialing"},
		{"outside the dial plan", "lift 12#", "dialed ended | releasing"},
		{"on-hook dialling", "102#", "dialed place:102 | resolving"},
		{"hands-free by command", "dial:102 resolved established hangup",
			"dialed place:102 resolved connected established release:hangup (releasing) ended | standby"},
		{"hands-free, peer ends", "dial:102 resolved established ended:hangup",
			"dialed place:102 resolved connected established release:hangup (releasing) ended | standby"},
		{"hands-free, then handset", "dial:102 resolved established lift lay",
			"dialed place:102 resolved connected established release:hangup (releasing) ended | standby"},
		{"hung up by command, handset off", "lift 102# resolved established hangup",
			"dialed place:102 resolved connected established release:hangup ended | releasing"},
		{"busy", "lift 102# resolved ended:busy", "dialed place:102 resolved release:busy ended | releasing"},
		{"after busy, dial again", "lift 102# resolved ended:busy lay lift", "dialed place:102 resolved release:busy ended | dialing"},
		{"after busy, dial again by command", "lift 102# resolved ended:busy dial:103",
			"dialed place:102 resolved release:busy ended dialed place:103 | resolving"},
		{"no answer there: the caller gives up", "lift 102# resolved rings wait",
			"dialed place:102 resolved connected ringing release:no_answer ended | releasing"},
		{"resolved twice", "lift 102# resolved resolved rings", "dialed place:102 resolved resolved connected ringing | calling"},
		{"taken", "offer lift established ended:hangup", "take ring ringing answer established release:hangup ended | releasing"},
		{"taken by command", "offer answer established hangup",
			"take ring ringing answer established release:hangup (releasing) ended | standby"},
		{"answered twice is answered once", "offer answer answer", "take ring ringing answer | ringing"},
		{"declined", "offer hangup", "take ring ringing release:hangup (releasing) ended | standby"},
		{"given up by the caller", "offer ended:cancelled", "take ring ringing release:cancelled ended | standby"},
		{"second call", "offer lift established offer", "take ring ringing answer established refuse | talking"},
		{"a second call of ours while we talk", "offer lift established ours", "take ring ringing answer established refuse | talking"},
		{"call while dialling", "lift 1 offer", "refuse | dialing"},
		{"call after an attempt", "dial:12 offer", "dialed ended take ring ringing | ringing"},
		{"call without an address", "down offer", "refuse | initial"},
		{"network goes in a call and comes back", "offer lift established down back",
			"take ring ringing answer established | talking"},
		{"network goes in a call and comes back elsewhere", "offer lift established down up",
			"take ring ringing answer established move | talking"},
		{"network goes in a call for good", "offer lift established down away! lay",
			"take ring ringing answer established release:network_down (releasing) ended | initial"},
		{"network goes in a call that is hung up", "offer lift established down lay",
			"take ring ringing answer established release:hangup (releasing) ended | initial"},
		{"network comes back in time", "offer lift established down back away!", "take ring ringing answer established | talking"},
		{"network goes and comes", "down up registered", "| standby"},
		{"network comes, handset off", "down lift up registered", "| dialing"},
		{"address moves in a call", "offer lift established up moved", "take ring ringing answer established move moved | talking"},
		{"another address comes and goes in a call", "offer lift established six six back", "take ring ringing answer established move | talking"},
		{"on hold and taken up again", "offer lift established hold hold retrieve retrieve", "take ring ringing answer established hold hold | talking"},
		{"put on hold", "offer lift established held heard", "take ring ringing answer established held retrieved | talking"},
		{"on hold before it is answered", "offer hold lift established", "take ring ringing answer established | talking"},
		{"hung up while on hold", "offer lift established hold lay", "take ring ringing answer established hold release:hangup (releasing) ended | standby"},
		{"no network, no call", "down 102#", "| initial"},
		{"server away is no reason to rest", "away lift 102#", "dialed place:102 | resolving"},
		{"stale timer", "lift 1 lay wait", "| standby"},

		// A stranger's ring, and one of ours.
		{"a stranger while a stranger rings", "offer offer", "take ring ringing refuse | ringing"},
		{"ours, proved, takes the ring over", "offer ours proved",
			"take ring ringing take release:busy ended ring ringing | ringing"},
		{"ours that proves nothing is told busy", "offer ours denied", "take ring ringing take release:busy | ringing"},
		{"a stranger while ours rings", "ours proved offer", "take ring ringing refuse | ringing"},
		{"ours while ours rings that is proved", "ours proved ours", "take ring ringing refuse | ringing"},
		{"ours while ours is asked, which is proved", "ours ours proved/2 proved/1", "take ring ringing take release:busy | ringing"},
		{"ours while ours is asked, which is not proved", "ours ours proved/2 denied/1",
			"take ring ringing take release:busy ended ring ringing | ringing"},
		{"ours while ours is asked, neither is proved", "ours ours denied/2 denied/1", "take ring ringing take release:busy | ringing"},
		{"the handset is lifted for the stranger", "offer ours lift", "take ring ringing take answer release:busy | ringing"},
		{"the stranger gives up first", "offer ours ended:cancelled/1 proved/2", "take ring ringing take release:cancelled ended ring ringing | ringing"},
		{"the stranger is declined", "offer ours hangup", "take ring ringing take release:hangup (releasing) ended ring ringing | ringing"},
		{"ours gives up before it is proved", "offer ours ended:cancelled/2", "take ring ringing take release:cancelled | ringing"},
		{"more than may be asked", "offer ours ours ours ours ours", "take ring ringing take take take take refuse | ringing"},
		{"more than may be asked, and one that is known", "offer ours ours ours ours ours friend proved/6",
			"take ring ringing take take take take refuse take release:busy ended ring ringing | ringing"},
		{"two of ours, proved: the first", "offer ours ours proved/3 proved/2",
			"take ring ringing take take release:busy ended ring ringing release:busy | ringing"},

		// One of the phones moves while it rings.
		{"ours calls again", "ours again", "take ring ringing take ring release:cancelled | ringing"},
		{"ours calls again and is answered", "ours again gone/1 proved/2 lift established", "take ring ringing take ring release:cancelled answer established | talking"},
		{"ours calls again, which does not wait", "ours again wait", "take ring ringing take ring release:cancelled release:no_answer ended | standby"},
		{"ours calls again while it is being answered", "ours lift again gone/1 established",
			"take ring ringing answer take answer release:cancelled established | talking"},
		{"ours calls again while it waits", "offer ours again proved", "take ring ringing take take release:cancelled release:busy ended ring ringing | ringing"},
		{"ours calls again while we talk", "ours lift established again", "take ring ringing answer established refuse | talking"},
		{"a call from here, which rings, moves", "lift 102# resolved up rings back", "dialed place:102 resolved move connected ringing move | calling"},
		{"a call from here that rings has a gap", "lift 102# resolved rings down back", "dialed place:102 resolved connected ringing move | calling"},
		{"a call to here that rings has a gap", "ours down back", "take ring ringing | ringing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := play(online(), tt.script); got != tt.want {
				t.Errorf("%s\n got %s\nwant %s", tt.script, got, tt.want)
			}
		})
	}
}

// Events of a call that is over must not touch the next one.
func TestEventsOfAnOldCallAreIgnored(t *testing.T) {
	m, _ := play(online(), "lift 102# resolved rings lay gone offer")
	old := callID(m.last - 1)
	for _, stale := range []event{
		callResolved{old, Peer{Name: "102"}}, callProgress{old}, callProved{old, true, [32]byte{}}, callHeard{old, true}, callCodec{old, "PCMA", true},
		callEstablished{old, "opus", true}, callChanged{old, "peer"}, callHeld{old, "peer", true}, callDigit{old, '5'}, callOver{old, "busy"}, callGone{old, "busy"},
	} {
		if after, actions := step(m, stale); !reflect.DeepEqual(after, m) || actions != nil {
			t.Errorf("%T of an old call changed the phone: %+v %v", stale, after, actions)
		}
	}
}

// Whatever a call that is over says beside its end changes nothing for the user.
func TestACallThatIsReleasedIsNotHeardOf(t *testing.T) {
	m, _ := play(online(), "lift 102# resolved rings lay")
	before := view(m)
	for _, word := range strings.Fields("resolved rings flows established codec moved held digit proved over:busy gone") {
		var did string
		if m, did = play(m, word); did != "| standby" || view(m) != before {
			t.Errorf("%s did %s and shows %+v; want | standby and %+v", word, did, view(m), before)
		}
	}
	if len(m.calls) != 0 {
		t.Errorf("calls that are gone are kept: %+v", m.calls)
	}
}

func TestMissedCallsLightTheLamp(t *testing.T) {
	m, _ := play(online(), "offer ended:cancelled offer wait")
	if v := view(m); v.Lamp != hal.LampOn || m.missed != 2 {
		t.Errorf("%d missed, lamp %v; want 2, on", m.missed, v.Lamp)
	}
	m, _ = play(m, "lift lay")
	if v := view(m); v.Lamp != hal.LampOff {
		t.Errorf("lamp %v after the handset was lifted; want off", v.Lamp)
	}
}

// Each situation has its tone and its words.
func TestView(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"", " | 101 | 192.0.2.1"},
		{"lift", "dial | Dial a number | "},
		{"lift 1", " | Dial a number | 1"},
		{"lift 102#", " | 102 | looking up"},
		{"lift 102# resolved", " | 102 | calling"},
		{"lift 102# resolved rings", "ringing tone | 102 | ringing"},
		{"lift 102# resolved established", " | 102 | not private"},
		{"offer", "alerting | 102 | calls, not proved"},
		{"lift 102# resolved established rated", " | 102 | MOS 4.3 of 4.5, punched"},
		{"lift 102# resolved established rated wait", " | 102 | not private"},
		{"lift 102# resolved established rated hold", " | 102 | MOS 4.3 of 4.5, punched"},
		{"lift 102# resolved established rated hold wait", " | 102 | on hold"},
		{"page", "alerting | from a browser: | Ada Lovelace of London"},
		{"page answer established", " | Ada Lovelace of London | not private"},
		{"ours proved", "alerting | 103 | is calling"},
		{"lift 102# resolved rings flows", " | 102 | ringing"},
		{"lift 102# resolved rings flows stops", "ringing tone | 102 | ringing"},
		{"offer denied", "alerting | 102 | calls, not proved"},
		{"offer ours proved", "alerting | 103 | is calling"},
		{"offer answer", " | 102 | calls, not proved"},
		{"ours proved ended:cancelled offer", "alerting | 102 | calls, not proved"},
		{"lift 102# resolved ended:busy", "busy | 102 | busy"},
		{"lift 102# resolved established ended:hangup", "busy | 102 | call ended"},
		{"lift 102# resolved rings wait", "busy | 102 | no answer"},
		{"lift 102# ended:unknown_number", "special information | 102 | unknown number"},
		{"lift 102# ended:not_connected", "special information | 102 | not connected"},
		{"lift 12#", "special information | 12 | no such number"},
		{"lift 102# ended:no_server", "congestion | 102 | storing server away"},
		{"lift 102# resolved ended:unreachable", "congestion | 102 | unreachable"},
		{"down", " | No network | waiting for an address"},
		{"down lift", "congestion | No network | waiting for an address"},
		{"down up", " | 192.0.2.7 | not registered yet"},
		{"lift 102# resolved established down", " | 102 | no network, waiting"},
		{"lift 102# resolved established down back", " | 102 | not private"},
		{"lift 102# resolved established down away!", "congestion | No network | waiting for an address"},
		{"lift 102# resolved established hangup", " | 102 | call ended"},
		{"102# resolved ended:busy", " | 102 | busy"},
		{"102# resolved ended:busy wait", " | 101 | 192.0.2.1"},
		{"102# resolved established ended:hangup", " | 102 | call ended"},
		{"102# resolved established hangup", " | 101 | 192.0.2.1"},
		{"away", " | 101 | storing server away"},
		{"broken", " | 101 | broken: hook switch"},
		{"broken mended", " | 101 | 192.0.2.1"},
		{"lift wait", "congestion |  | nothing dialled"},
		{"turned", " | 101 | loudspeaker 10 of 10"},
		{"offer turned", "alerting | 102 | loudspeaker 10 of 10"},
		{"turned turn!", " | 101 | 192.0.2.1"},
		{"mute", " | 101 | muted, 192.0.2.1"},
		{"mute unmute", " | 101 | 192.0.2.1"},
		{"mute lift 10", " | Dial a number | 10"},
		{"lift 102# resolved established M", " | 102 | muted, not private"},
		{"lift 102# resolved established M M", " | 102 | not private"},
		{"lift 102# resolved established M rated", " | 102 | MOS 4.3 of 4.5, punched"},
		{"lift 102# resolved established M held", " | 102 | muted"},
		{"lift 102# new established M", " | 102 | muted, new key"},
		{"lift 102# resolved established M ended:hangup", "busy | 102 | call ended"},
	} {
		m, _ := play(online(), tt.script)
		v := view(m)
		if got := fmt.Sprintf("%s | %s | %s", v.Tone, v.Line1, v.Line2); got != tt.want {
			t.Errorf("%q shows %q; want %q", tt.script, got, tt.want)
		}
	}
}

func FuzzParseNumber(f *testing.F) {
	for _, s := range []string{"102", "281474976710655", "10*77*0*9", "1*", "*", "999999999999999", "12345678"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dialled string) {
		d, err := ParseNumber(dialled)
		if err != nil {
			return
		}
		if again, err := ParseNumber(d.String()); err != nil || again != d {
			t.Errorf("%q means %+v, and %q means %+v, %v", dialled, d, d, again, err)
		}
	})
}

func TestParseNumber(t *testing.T) {
	for dialled, want := range map[string]string{
		"102": "number 102", "12345678": "number 12345678",
		"002199023255553": "mac 020000000001", "281474976710655": "mac ffffffffffff",
		"10*77*0*9": "addr 10.77.0.9",
		"12":        "", "123456789": "", "281474976710656": "", "000000000000000": "",
		"10*77*0": "", "10*77*0*256": "", "*10*77*0*9": "", "0*0*0*0": "", "": "", "1#2": "",
	} {
		got := ""
		switch d, err := ParseNumber(dialled); {
		case err != nil:
		case d.Addr.IsValid():
			got = "addr " + d.Addr.String()
		case d.Number != "":
			got = "number " + d.Number
		default:
			got = fmt.Sprintf("mac %s", d.MAC.Hex())
		}
		if got != want {
			t.Errorf("%q means %q; want %q", dialled, got, want)
		}
	}
}

// Every word that ends a call, of package sip's and of ours, is heard and shown.
func TestEveryReasonIsHeardAndShown(t *testing.T) {
	for reason, want := range map[Reason]struct {
		tone Tone
		line string
	}{
		sip.ReasonHangup:      {ToneBusy, "call ended"},
		sip.ReasonCancelled:   {ToneBusy, "cancelled"},
		sip.ReasonBusy:        {ToneBusy, "busy"},
		sip.ReasonNoAnswer:    {ToneBusy, "no answer"},
		sip.ReasonDeclined:    {ToneBusy, "declined"},
		sip.ReasonUnknown:     {ToneSIT, "unknown number"},
		sip.ReasonWrongPhone:  {ToneSIT, "wrong phone"},
		sip.ReasonNoCodec:     {ToneCongestion, "no common codec"},
		sip.ReasonForbidden:   {ToneCongestion, "forbidden"},
		sip.ReasonMoved:       {ToneCongestion, "moved"},
		sip.ReasonUnreachable: {ToneCongestion, "unreachable"},
		sip.ReasonFailed:      {ToneCongestion, "failed"},
		sip.ReasonStopped:     {ToneCongestion, "stopped"},
		ReasonNetwork:         {ToneCongestion, "network down"},
		ReasonOffline:         {ToneSIT, "not connected"},
		ReasonServer:          {ToneCongestion, "storing server away"},
		ReasonInvalid:         {ToneSIT, "no such number"},
		ReasonNoDigit:         {ToneCongestion, "nothing dialled"},
		ReasonStopped:         {ToneCongestion, "phone stopped"},
		ReasonLost:            {ToneCongestion, "connection lost"},
		ReasonSound:           {ToneCongestion, "no sound"},
		ReasonBroken:          {ToneCongestion, "internal error"},
	} {
		m := online()
		m.hook = hal.OffHook
		if v := view(m.fail(notice{reason: reason})); v.Tone != want.tone || v.Line2 != want.line || len(v.Line2) > hal.DisplayColumns {
			t.Errorf("%q sounds %q and shows %q; want %q and %q", reason, v.Tone, v.Line2, want.tone, want.line)
		}
	}
}
