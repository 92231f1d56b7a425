package phone

import (
	"fmt"
	"strings"
	"testing"

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// online is a phone that lies on the hook, leased and registered as 101.
func online() model {
	m, _ := step(model{state: Initial}, networkUp{"192.0.2.1"})
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
	return m, strings.TrimSpace(strings.Join(did, " ") + " | " + string(m.state))
}

func eventsOf(m model, word string) []event {
	switch word {
	case "lift":
		return []event{hookMoved{hal.OffHook}}
	case "lay":
		return []event{hookMoved{hal.OnHook}}
	case "wait":
		return []event{timedOut{m.timer.seq}}
	case "resolved":
		return []event{callResolved{m.call, Peer{Name: m.digits}}}
	case "rings":
		return []event{callProgress{m.call}}
	case "established":
		return []event{callEstablished{m.call, "opus", false}}
	case "offer":
		return []event{offered{nil, "102"}}
	case "proved":
		return []event{callerProved{m.call}}
	case "answer":
		return []event{answered{}}
	case "hangup":
		return []event{hungUp{}}
	case "down":
		return []event{networkDown{"link down"}}
	case "up":
		return []event{networkUp{"192.0.2.7"}}
	case "registered":
		return []event{registration{true, "101"}}
	case "broken":
		return []event{partFailed{"hook switch"}}
	case "away":
		return []event{registration{}}
	}
	if reason, ok := strings.CutPrefix(word, "ended:"); ok {
		return []event{callEnded{m.call, strings.ReplaceAll(reason, "_", " ")}}
	}
	if number, ok := strings.CutPrefix(word, "dial:"); ok {
		return []event{dialled{number}}
	}
	var keys []event
	for _, r := range word {
		if !strings.ContainsRune("0123456789*#", r) {
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
		return "release:" + strings.ReplaceAll(a.reason, " ", "_")
	case report:
		return a.name
	case sendDigit:
		return "digit:" + string(a.key)
	}
	return strings.ToLower(strings.TrimPrefix(strings.SplitN(fmt.Sprintf("%T", a), "{", 2)[0], "phone."))
}

func TestStep(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"a call and the peer's end", "lift 102# resolved rings established ended:hangup lay",
			"dialed place:102 resolved connected ringing established ended | standby"},
		{"a call and our end", "lift 102# resolved rings established lay ended:hangup",
			"dialed place:102 resolved connected ringing established release:hangup ended | standby"},
		{"answered without ringing", "lift 102# resolved established",
			"dialed place:102 resolved connected established | talking"},
		{"a pause ends a short number", "lift 102 wait", "dialed place:102 | resolving"},
		{"fifteen digits need no more", "lift 000000000000258", "dialed place:000000000000258 | resolving"},
		{"an address", "lift 10*77*0*9#", "dialed place:10*77*0*9 | resolving"},
		{"a whole address needs no more", "lift 10*77*0*109", "dialed place:10*77*0*109 | resolving"},
		{"digits in a call", "lift 102# resolved established 5#", "dialed place:102 resolved connected established digit:5 digit:# | talking"},
		{"nothing dialled", "lift wait", "| releasing"},
		{"# alone is nothing", "lift #", "| dialing"},
		{"outside the dial plan", "lift 12#", "dialed ended | releasing"},
		{"on-hook dialling", "102#", "dialed place:102 | resolving"},
		{"hands-free by command", "dial:102 resolved established hangup ended:hangup",
			"dialed place:102 resolved connected established release:hangup ended | standby"},
		{"hands-free, peer ends, tone ends", "dial:102 resolved established ended:hangup wait",
			"dialed place:102 resolved connected established ended | standby"},
		{"hands-free, then handset", "dial:102 resolved established lift lay",
			"dialed place:102 resolved connected established release:hangup | releasing"},
		{"busy", "lift 102# resolved ended:busy", "dialed place:102 resolved ended | releasing"},
		{"after busy, dial again", "lift 102# resolved ended:busy lay lift", "dialed place:102 resolved ended | dialing"},
		{"no answer here: the caller gives up", "lift 102# resolved rings wait ended:no_answer",
			"dialed place:102 resolved connected ringing release:no_answer ended | releasing"},
		{"resolved twice", "lift 102# resolved resolved rings", "dialed place:102 resolved resolved connected ringing | calling"},
		{"taken", "offer lift established ended:hangup", "ring ringing answer established ended | releasing"},
		{"taken by command", "offer answer established hangup ended:hangup",
			"ring ringing answer established release:hangup ended | standby"},
		{"answered twice is answered once", "offer answer answer", "ring ringing answer | ringing"},
		{"declined", "offer hangup ended:hangup", "ring ringing release:hangup ended | standby"},
		{"second call", "offer lift established offer", "ring ringing answer established refuse | talking"},
		{"call while dialling", "lift 1 offer", "refuse | dialing"},
		{"call while a tone lingers", "dial:12 offer", "dialed ended ring ringing | ringing"},
		{"network goes in a call", "offer lift established down ended:network_down lay",
			"ring ringing answer established release:network_down ended | initial"},
		{"network goes and comes", "down up registered", "| standby"},
		{"network comes, handset off", "down lift up registered", "| dialing"},
		{"address moves in a call", "offer lift established up", "ring ringing answer established move | talking"},
		{"no network, no call", "down 102#", "| initial"},
		{"server away is no reason to rest", "away lift 102#", "dialed place:102 | resolving"},
		{"stale timer", "lift 1 lay wait", "| standby"},
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
	m, _ := play(online(), "lift 102# resolved rings lay ended:hangup offer")
	for _, stale := range []event{
		callResolved{m.call - 1, Peer{Name: "102"}}, callProgress{m.call - 1}, callerProved{m.call - 1},
		callEstablished{m.call - 1, "opus", true}, callChanged{m.call - 1, "peer"}, callEnded{m.call - 1, "busy"},
	} {
		if after, actions := step(m, stale); after != m || actions != nil {
			t.Errorf("%T of an old call changed the phone: %+v %v", stale, after, actions)
		}
	}
}

func TestMissedCallsLightTheLamp(t *testing.T) {
	m, _ := play(online(), "offer ended:cancelled offer wait ended:no_answer")
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
		{"offer proved", "alerting | 102 | is calling"},
		{"offer answer", " | 102 | calls, not proved"},
		{"offer proved ended:cancelled offer", "alerting | 102 | calls, not proved"},
		{"lift 102# resolved ended:busy", "busy | 102 | busy"},
		{"lift 102# resolved established ended:hangup", "busy | 102 | call ended"},
		{"lift 102# resolved rings wait ended:no_answer", "busy | 102 | no answer"},
		{"lift 102# ended:unknown_number", "special information | 102 | unknown number"},
		{"lift 102# ended:not_connected", "special information | 102 | not connected"},
		{"lift 12#", "special information | 12 | no such number"},
		{"lift 102# ended:no_server", "congestion | 102 | storing server away"},
		{"lift 102# resolved ended:unreachable", "congestion | 102 | unreachable"},
		{"down", " | No network | waiting for an address"},
		{"down lift", "congestion | No network | waiting for an address"},
		{"down up", " | 192.0.2.7 | not registered yet"},
		{"lift 102# resolved established down ended:network_down", "congestion | No network | waiting for an address"},
		{"away", " | 101 | storing server away"},
		{"broken", " | 101 | broken: hook switch"},
		{"lift wait", "congestion |  | nothing dialled"},
	} {
		m, _ := play(online(), tt.script)
		v := view(m)
		if got := fmt.Sprintf("%s | %s | %s", v.Tone, v.Line1, v.Line2); got != tt.want {
			t.Errorf("%q shows %q; want %q", tt.script, got, tt.want)
		}
	}
}

// Whatever happens in whatever order: a call that runs can be ended, a phone at
// rest has no timer and no call, and the lines fit the display.
func FuzzStep(f *testing.F) {
	words := []string{"lift", "lay", "wait", "resolved", "rings", "established", "offer", "proved", "answer", "hangup", "down",
		"up", "registered", "away", "ended:hangup", "ended:busy", "dial:102", "1", "2", "#", "*"}
	f.Add([]byte{0, 17, 17, 17, 19, 3, 4, 5, 1, 14})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := model{state: Initial}
		for _, b := range script {
			word := words[int(b)%len(words)]
			if strings.HasPrefix(word, "ended") && !m.active {
				continue
			}
			m, _ = play(m, word)
			if rests := m.state == Standby || m.state == Initial; rests && (m.active || m.timer.d != 0) {
				t.Fatalf("%s: at rest with a call or a timer: %+v", word, m)
			}
			if talks := m.state == Resolving || m.state == Calling || m.state == Ringing || m.state == Talking; talks && !m.active {
				t.Fatalf("%s: %s without a call: %+v", word, m.state, m)
			}
			if v := view(m); len(v.Line1) > hal.DisplayColumns || len(v.Line2) > hal.DisplayColumns {
				t.Fatalf("%s: too long for the display: %+v", word, v)
			}
		}
		m, _ = play(m, "lay")
		if m.active {
			m, _ = play(m, "hangup")
			if m.state != Releasing {
				t.Fatalf("a call cannot be ended: %+v", m)
			}
			m, _ = play(m, "ended:hangup")
		}
		m, _ = play(m, "hangup")
		if m.state != Standby && m.state != Initial {
			t.Fatalf("does not come to rest: %+v", m)
		}
	})
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
			got = fmt.Sprintf("mac %x", d.MAC)
		}
		if got != want {
			t.Errorf("%q means %q; want %q", dialled, got, want)
		}
	}
}

// Every word that ends a call, of package sip's and of ours, is heard and shown.
func TestEveryReasonIsHeardAndShown(t *testing.T) {
	for reason, want := range map[string]struct {
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
	} {
		m := online()
		m.hook = hal.OffHook
		if v := view(m.fail(reason)); v.Tone != want.tone || v.Line2 != want.line || len(v.Line2) > hal.DisplayColumns {
			t.Errorf("%q sounds %q and shows %q; want %q and %q", reason, v.Tone, v.Line2, want.tone, want.line)
		}
	}
}
