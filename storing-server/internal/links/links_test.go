package links

import (
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// counted is Counters.
type counted struct {
	links int
	said  map[Verdict]int
}

func (c *counted) Links(delta int)              { c.links += delta }
func (c *counted) LinkMessage(v Verdict, _ int) { c.said[v]++ }

func phone(n byte) wire.MAC { return wire.MAC{2, 0, 0x5e, 0, 0x53, n} }

func message(to wire.MAC, id byte, kind wire.LinkKind, bytes int) wire.LinkMessage {
	return wire.LinkMessage{Peer: to, Link: wire.LinkID{id}, Kind: kind, Data: make([]byte, bytes)}
}

func TestLimits(t *testing.T) {
	c := &counted{said: map[Verdict]int{}}
	now := time.Unix(1e9, 0)
	r := New(Limits{All: 4, Caller: 2, Called: 2, Rate: 1000, Burst: 2000}, c)
	pass := func(from, to, id byte, kind wire.LinkKind, bytes int) Verdict {
		return r.Pass(phone(from), message(phone(to), id, kind, bytes), now, func() bool { return to != 9 })
	}
	for i, tt := range []struct {
		wait         time.Duration
		from, to, id byte
		kind         wire.LinkKind
		bytes        int
		want         Verdict
	}{
		{0, 1, 2, 1, wire.LinkOpen, 0, Passed},
		{0, 2, 1, 1, wire.LinkData, 0, Passed}, // the same link, the other way
		{0, 1, 2, 2, wire.LinkOpen, 0, Passed},
		{0, 1, 3, 3, wire.LinkOpen, 0, FullCaller},
		{0, 4, 2, 4, wire.LinkOpen, 0, FullCalled},
		{0, 2, 4, 5, wire.LinkOpen, 0, Passed}, // who is called may call
		{0, 5, 9, 6, wire.LinkOpen, 0, Nobody}, // counted all the same: trying is what is limited
		{0, 6, 7, 7, wire.LinkOpen, 0, Full},
		{0, 1, 2, 1, wire.LinkData, 900, Passed},
		{0, 1, 2, 1, wire.LinkData, 900, TooMuch},
		{time.Second, 2, 1, 1, wire.LinkData, 900, Passed},
		{time.Second, 1, 2, 1, wire.LinkClose, 0, Passed},
		{closing - 1, 2, 1, 1, wire.LinkClose, 0, Passed}, // the answer to it
		{closing - 1, 1, 3, 8, wire.LinkOpen, 0, Full},
		{1, 1, 3, 8, wire.LinkOpen, 0, Passed},
		{idle, 4, 2, 4, wire.LinkData, 10, Passed}, // a link that another server knew
	} {
		now = now.Add(tt.wait)
		if got := pass(tt.from, tt.to, tt.id, tt.kind, tt.bytes); got != tt.want {
			t.Errorf("message %d: %s; want %s", i, got, tt.want)
		}
	}
	if c.links != 1 || len(r.links) != 1 || len(r.caller) != 1 || len(r.called) != 1 {
		t.Errorf("%d links counted, %d kept, of %d callers and %d called; want one", c.links, len(r.links), len(r.caller), len(r.called))
	}
	if got := New(Limits{}, c).Pass(phone(1), message(phone(2), 1, wire.LinkOpen, 0), now, func() bool { panic("passed on") }); got != Off {
		t.Errorf("a server that relays nothing: %s", got)
	}
}

// A busy desk, which calls another each two seconds over one link, is not slowed, and a
// flood over all links that a phone may have is.
func TestBusyDeskAndFlood(t *testing.T) {
	c := &counted{said: map[Verdict]int{}}
	start := time.Unix(1e9, 0)
	limits := DefaultLimits()
	r := New(limits, c)
	const calls, messages, bytes = 30, 20, 400 // of a call: 8 kB, and 2 kB of messageCost
	for i := range calls {
		for n := range messages {
			from, to := phone(1), phone(2)
			if n%2 == 1 {
				from, to = to, from
			}
			now := start.Add(time.Duration(i) * 2 * time.Second)
			if got := r.Pass(from, message(to, 1, wire.LinkData, bytes), now, func() bool { return true }); got != Passed {
				t.Fatalf("call %d, message %d: %s", i+1, n+1, got)
			}
		}
	}
	const seconds, each = 60, 100 // of its messages in a link
	begun, passed := start.Add(time.Hour), 0
	for s := range seconds {
		for id := range byte(50) {
			for range each {
				if r.Pass(phone(3), message(phone(4), id, wire.LinkData, wire.MaxSegment), begun.Add(time.Duration(s)*time.Second), func() bool { return true }) == Passed {
					passed += wire.MaxSegment
				}
			}
		}
	}
	if most := limits.Caller * int(limits.Burst+seconds*limits.Rate); passed == 0 || passed > most {
		t.Errorf("%d bytes of a flood were passed on in %d s; want at most %d", passed, seconds, most)
	}
	if c.said[FullCaller] == 0 || c.said[TooMuch] == 0 {
		t.Errorf("a flood was told %v", c.said)
	}
}
