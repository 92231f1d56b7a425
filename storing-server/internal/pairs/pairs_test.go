package pairs

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

var (
	alice, bob, mallory = netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("198.51.100.2:5000"), netip.MustParseAddrPort("203.0.113.3:6000")

	key   = wire.Fingerprint{1}
	start = time.Unix(1_700_000_000, 0)
)

// A house is a relay, its clock, and whoever speaks to it.
type house struct {
	*testing.T
	*Relay
	Draft
	now time.Time
}

func newHouse(t *testing.T, l Limits) *house { return &house{T: t, Relay: New(l), now: start} }

func (h *house) issue(of wire.Fingerprint) pass.Pass {
	h.Helper()
	p, err := h.Issue(of, h.now)
	if err != nil {
		h.Fatal(err)
	}
	return p
}

// take is what becomes of a datagram from one address.
func (h *house) take(b []byte, from netip.AddrPort) ([]byte, netip.AddrPort, Verdict) {
	out, to, v := h.Take(&h.Draft, b, Place{At: from}, h.now)
	return out, to.At, v
}

// ask shows p from an address, with a nonce or without.
func (h *house) ask(p pass.Pass, s pass.Side, from netip.AddrPort, nonce []byte) (request, answer []byte, v Verdict) {
	h.Helper()
	var m stun.Message
	if err := p.Show(&m, [12]byte{7}, s, nonce); err != nil {
		h.Fatal(err)
	}
	out, to, v := h.take(m.Raw, from)
	if out != nil && to != from {
		h.Fatalf("%v is answered at %v", from, to)
	}
	return m.Raw, bytes.Clone(out), v
}

// show shows p as a phone does.
func (h *house) show(p pass.Pass, s pass.Side, from netip.AddrPort) (second []byte) {
	h.Helper()
	_, answer, v := h.ask(p, s, from, nil)
	var m stun.Message
	nonce, _, err := p.Answer(&m, answer, [12]byte{7})
	if v != Asked || err != nil {
		h.Fatalf("%v, %v", v, err)
	}
	second, answer, v = h.ask(p, s, from, nonce)
	if _, mapped, err := p.Answer(&m, answer, [12]byte{7}); v != Taken || err != nil || mapped != from {
		h.Fatalf("%v: %v, %v", v, mapped, err)
	}
	return second
}

// goes checks where a datagram from one address goes; zero: nowhere.
func (h *house) goes(from, want netip.AddrPort) {
	h.Helper()
	b := []byte{0x80, 1, 2, 3}
	out, to, v := h.take(b, from)
	if want.IsValid() && (v != Forwarded || to != want || !bytes.Equal(out, b)) || !want.IsValid() && out != nil {
		h.Errorf("from %v: %v to %v, want %v", from, v, to, want)
	}
}

func TestPair(t *testing.T) {
	h := newHouse(t, DefaultLimits())
	p := h.issue(key)
	h.show(p, pass.Owner, alice)
	h.goes(alice, netip.AddrPort{})
	h.show(p, pass.Guest, bob)
	h.goes(alice, bob)
	h.goes(bob, alice)
	h.goes(mallory, netip.AddrPort{})
	h.goes(netip.AddrPortFrom(netip.AddrFrom16(alice.Addr().As16()), alice.Port()), bob) // as a socket of both families says it

	// A move takes the place along.
	moved := netip.MustParseAddrPort("192.0.2.77:4000")
	h.show(p, pass.Owner, moved)
	h.goes(bob, moved)
	h.goes(moved, bob)
	h.goes(alice, netip.AddrPort{})

	// The phones' own questions are forwarded as well.
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("there:here"), stun.NewShortTermIntegrity("x"), stun.Fingerprint)
	if out, to, v := h.take(check.Raw, bob); v != Forwarded || to != moved || !bytes.Equal(out, check.Raw) {
		t.Errorf("a check: %v to %v", v, to)
	}
}

// A name without its key, a key with another name, and what was overheard and is sent
// again bring nobody in.
func TestGuessedAndReplayed(t *testing.T) {
	h := newHouse(t, DefaultLimits())
	p := h.issue(key)
	h.show(p, pass.Owner, alice)
	overheard := h.show(p, pass.Guest, bob)

	b := p.Bytes()
	for i := range b {
		guess, _ := pass.Of(append(append(bytes.Clone(b[:i]), b[i]^1), b[i+1:]...))
		if _, answer, v := h.ask(guess, pass.Guest, mallory, nil); answer != nil || v != Stranger {
			t.Fatalf("with byte %d wrong it is %v", i, v)
		}
	}
	for range 1000 {
		if _, answer, v := h.ask(pass.New(), pass.Owner, mallory, nil); answer != nil || v != Stranger {
			t.Fatalf("a guess is %v", v)
		}
	}
	// From elsewhere it is asked for a nonce; who overheard it cannot sign that.
	if _, to, v := h.take(overheard, mallory); v != Asked || to != mallory {
		t.Fatalf("replayed it is %v", v)
	}
	h.goes(mallory, netip.AddrPort{})
	h.goes(alice, bob)
	// From where it was, it changes nothing; and later it is worth nothing there either.
	if _, _, v := h.take(overheard, bob); v != Taken {
		t.Fatalf("from where it was, it is %v", v)
	}
	h.goes(alice, bob)
	h.now = h.now.Add(2 * nonceTime)
	if _, _, v := h.take(overheard, bob); v == Taken {
		t.Fatal("a nonce is good for ever")
	}
}

// A relay that was restarted takes the passes that it gave before, from those who have
// their keys, and counts them as their owners'; one with another secret does not.
func TestRestart(t *testing.T) {
	l := DefaultLimits()
	l.Each = 1
	h := newHouse(t, l)
	h.Keyed([]byte("secret"))
	p := h.issue(key)
	h.show(p, pass.Owner, alice)
	h.show(p, pass.Guest, bob)
	restart := func(secret string) { h.Relay = New(l).Keyed([]byte(secret)) }

	restart("another")
	if _, answer, v := h.ask(p, pass.Owner, alice, nil); answer != nil || v != Stranger {
		t.Errorf("with another secret it is %v", v)
	}
	restart("secret")
	h.goes(alice, netip.AddrPort{})
	if _, answer, v := h.ask(pass.Made(p.Name, [pass.KeySize]byte{1}), pass.Owner, mallory, nil); answer != nil || v != Stranger {
		t.Errorf("the name without the key is %v", v)
	}
	h.ask(p, pass.Owner, mallory, nil)
	if n := h.Open(h.now); n != 0 {
		t.Errorf("%d pairs of who has not shown that it receives", n)
	}
	h.show(p, pass.Owner, alice)
	h.show(p, pass.Guest, bob)
	h.goes(alice, bob)
	h.goes(bob, alice)
	if _, err := h.Issue(key, h.now); err != FullEach {
		t.Errorf("a second of one key: %v", err)
	}
	restart("secret")
	h.now = h.now.Add(l.Life)
	nonce := h.nonce(alice, epoch(h.now))
	if _, _, v := h.ask(p, pass.Owner, alice, nonce[:]); v == Taken {
		t.Error("a pass outlives its life")
	}
}

// Nobody can be sent anything by who does not receive there.
func TestForgedSource(t *testing.T) {
	h := newHouse(t, DefaultLimits())
	p := h.issue(key)
	h.show(p, pass.Owner, mallory)
	request, answer, v := h.ask(p, pass.Guest, bob, nil) // with bob's address; the answer goes there
	if v != Asked || len(answer) >= len(request) {
		t.Fatalf("%v: %d bytes answer %d", v, len(answer), len(request))
	}
	_, answer, v = h.ask(p, pass.Guest, mallory, nil)
	var m stun.Message
	nonce, _, err := p.Answer(&m, answer, [12]byte{7})
	if v != Asked || err != nil {
		t.Fatal(v, err)
	}
	if _, _, v := h.ask(p, pass.Guest, bob, nonce); v == Taken { // another address's nonce
		t.Fatal("a nonce is good elsewhere")
	}
	h.goes(mallory, netip.AddrPort{})
}

func TestLimits(t *testing.T) {
	l := DefaultLimits()
	l.All, l.Each = 5, 2
	h := newHouse(t, l)
	became := map[string]int{}
	h.Counting(func(result string) { became[result]++ })
	first := h.issue(key)
	h.issue(key)
	if _, err := h.Issue(key, h.now); err != FullEach {
		t.Errorf("a third of one key: %v", err)
	}
	h.now = h.now.Add(inUse + 1)
	h.show(first, pass.Owner, alice)
	h.issue(key) // the second gives way, which nobody uses
	h.show(first, pass.Owner, alice)
	for i := range 3 {
		h.issue(wire.Fingerprint{2, byte(i)})
	}
	if _, err := h.Issue(wire.Fingerprint{3}, h.now); err != Full {
		t.Errorf("a sixth: %v", err)
	}
	h.now = h.now.Add(l.Idle - time.Second)
	h.show(first, pass.Owner, alice)
	h.now = h.now.Add(sweepPause)
	if n := h.Open(h.now); n != 1 {
		t.Errorf("%d pairs are left of those that are not shown", n)
	}
	for range int(l.Life / time.Minute) {
		h.now = h.now.Add(time.Minute)
		h.ask(first, pass.Owner, alice, nil)
		nonce := h.nonce(alice, epoch(h.now))
		h.ask(first, pass.Owner, alice, nonce[:])
	}
	if n := h.Open(h.now); n != 0 || len(h.ends) != 0 || len(h.owners) != 0 {
		t.Errorf("after its life: %d pairs, %d ends, %d owners", n, len(h.ends), len(h.owners))
	}
	off := New(Limits{}).Counting(func(result string) { became[result]++ })
	if _, err := off.Issue(key, h.now); err != Off {
		t.Errorf("where nothing is relayed: %v", err)
	}
	if want := map[string]int{"given": 6, "full": 1, "full_of_one_phone": 1, "off": 1}; !maps.Equal(became, want) {
		t.Errorf("counted %v, want %v", became, want)
	}
}

// A key's share holds for all its pairs together, both ways, and grows again with time.
func TestBytes(t *testing.T) {
	l := DefaultLimits()
	h := newHouse(t, l)
	var ends []netip.AddrPort
	for i := range 2 {
		p := h.issue(key)
		a, b := netip.AddrPortFrom(alice.Addr(), uint16(1+i)), netip.AddrPortFrom(bob.Addr(), uint16(1+i))
		h.show(p, pass.Owner, a)
		h.show(p, pass.Guest, b)
		ends = append(ends, a, b)
	}
	packet := append([]byte{0x80}, make([]byte, 999)...)
	flood := func() (passed int) {
		for i := range 10000 {
			if _, _, v := h.take(packet, ends[i%len(ends)]); v == Forwarded {
				passed += len(packet)
			}
		}
		return passed
	}
	if n := flood(); float64(n) > l.Burst || float64(n) < l.Burst-1000 {
		t.Errorf("%d bytes at once, want %v", n, l.Burst)
	}
	h.now = h.now.Add(time.Second)
	if n := flood(); float64(n) > l.Rate+1000 || float64(n) < l.Rate-1000 {
		t.Errorf("%d bytes in a second, want %v", n, l.Rate)
	}
}

// Whatever comes from whomever, nothing goes anywhere but between two who have shown
// the pass, and no answer is longer than what it answers.
func FuzzTake(f *testing.F) {
	p := pass.New()
	var m stun.Message
	if p.Show(&m, [12]byte{1}, pass.Guest, []byte("nonce")) != nil {
		f.Fatal("not shown")
	}
	f.Add(m.Raw, byte(0))
	f.Add([]byte{0x80, 0}, byte(1))
	f.Add([]byte{}, byte(2))
	f.Fuzz(func(t *testing.T, b []byte, who byte) {
		h := newHouse(t, DefaultLimits())
		of := h.issue(key)
		h.show(of, pass.Owner, alice)
		h.show(of, pass.Guest, bob)
		froms := []netip.AddrPort{alice, bob, mallory}
		from := froms[int(who)%3]
		out, to, v := h.take(b, from)
		switch {
		case out == nil:
		case v == Forwarded && bytes.Equal(out, b) && (from == alice && to == bob || from == bob && to == alice):
		default:
			t.Fatalf("%x from %v: %v, %d bytes to %v", b, from, v, len(out), to)
		}
	})
}
