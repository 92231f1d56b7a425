package srtp

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/pathtest"
	"flexphone/internal/secret"
)

// An ear collects what a path takes.
type ear struct {
	heard chan string
	fresh chan bool
}

func (s *side) listen(t *testing.T) *ear {
	e := &ear{make(chan string, 1000), make(chan bool, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Receive(func(d audio.Datagram) {
			if d.Protocol == audio.RTP {
				e.heard <- string(d.Bytes[12:])
				e.fresh <- d.NewPeer
			}
		}); err != nil {
			t.Errorf("receive: %v", err)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return e
}

func (e *ear) await(t *testing.T, want string) {
	t.Helper()
	late := time.After(pathtest.Patience)
	for {
		select {
		case got := <-e.heard:
			if got == want {
				return
			}
		case <-late:
			t.Fatalf("%q is not heard", want)
		}
	}
}

// nothing asserts that nothing more has been heard.
func (e *ear) nothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-e.heard:
		t.Errorf("%q is heard", got)
	default:
	}
}

func (s *side) say(t *testing.T, sequence uint16, text string) {
	t.Helper()
	eventually(t, "there are keys", func() bool { return s.Send(audio.RTP, packet(audio.RTP, 7, sequence, text)) == nil })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(pathtest.Patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bySDES are two ends with keys of their own choice.
func bySDES(t *testing.T, s Suite) (a, b *side) {
	a, b = newSide(t), newSide(t)
	must(t, a.Start(Agreement{Remote: b.at, Mux: true, SDES: &SDES{s, keyOf(s, 1), keyOf(s, 2)}}))
	must(t, b.Start(Agreement{Remote: a.at, Mux: true, SDES: &SDES{s, keyOf(s, 2), keyOf(s, 1)}}))
	return a, b
}

func TestPathBySDES(t *testing.T) {
	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) {
			a, b := bySDES(t, s)
			ha, hb := a.listen(t), b.listen(t)
			a.say(t, 1, "there")
			hb.await(t, "there")
			b.say(t, 1, "back")
			ha.await(t, "back")
			// A description that comes again, and another address, leave the keys alone;
			// another key of the peer's is taken up.
			again := *a.agreed
			must(t, a.Start(again))
			a.say(t, 2, "the same")
			hb.await(t, "the same")
			again.SDES = &SDES{s, keyOf(s, 1), keyOf(s, 3)}
			must(t, a.Start(again))
			must(t, b.Start(Agreement{Remote: a.at, Mux: true, SDES: &SDES{s, keyOf(s, 3), keyOf(s, 1)}}))
			b.say(t, 2, "another key")
			ha.await(t, "another key")
			if err := a.Start(Agreement{Remote: b.at, SDES: &SDES{s, keyOf(s, 1), keyOf(s, 2)}}); err == nil {
				t.Error("a key of before is taken again")
			}
			if underRace && s == AES128CMSHA1 {
				return
			}
			pathtest.Path(t, func(t *testing.T) (audio.Path, audio.Path) { a, b := bySDES(t, s); return a, b })
		})
	}
}

// Hands are shaken while it rings, before the caller knows more of the callee than
// its key; and who speaks with the answer is heard, though the answer is slower.
func TestKeysAreThereBeforeTheAnswer(t *testing.T) {
	caller, callee := newSide(t), newSide(t)
	hears, callees := caller.listen(t), callee.listen(t)
	caller.Expect(callee.at.Addr(), callee.pin)
	must(t, callee.Start(caller.with(true)))
	callee.say(t, 1, "hello") // it has keys
	eventually(t, "the packet waits", func() bool { caller.mu.Lock(); defer caller.mu.Unlock(); return len(caller.waiting) > 0 })
	hears.nothing(t)
	if err := caller.Send(audio.RTP, packet(audio.RTP, 8, 1, "x")); err != audio.ErrNoPeer {
		t.Errorf("the caller speaks before the answer: %v", err)
	}
	must(t, caller.Start(callee.with(false)))
	hears.await(t, "hello")
	if !<-hears.fresh {
		t.Error("the first packet is not that of a new peer")
	}
	callee.say(t, 2, "again")
	hears.await(t, "again")
	if <-hears.fresh {
		t.Error("the second packet is that of a new peer")
	}
	caller.say(t, 1, "yes")
	callees.await(t, "yes")
}

// Whose key is not that of the row, or whose certificate is not that of the
// description, gets no keys, whichever end it is at.
func TestWrongKeyIsRefused(t *testing.T) {
	other := newSide(t)
	for name, spoil := range map[string]func(*Agreement){
		"key of the row":             func(a *Agreement) { a.DTLS.Pin = other.pin },
		"certificate as described":   func(a *Agreement) { a.DTLS.Fingerprints = []Fingerprint{other.Fingerprint()} },
		"no certificate is named":    func(a *Agreement) { a.DTLS.Fingerprints = nil },
		"a hash that says nothing":   func(a *Agreement) { a.DTLS.Fingerprints[0].Hash = "md5" },
		"the certificate is cut off": func(a *Agreement) { a.DTLS.Fingerprints[0].Value = a.DTLS.Fingerprints[0].Value[:8] },
	} {
		for _, active := range []bool{true, false} {
			t.Run(fmt.Sprint(name, active), func(t *testing.T) {
				a, b := newSide(t), newSide(t)
				ha, hb := a.listen(t), b.listen(t)
				agreement := b.with(active)
				spoil(&agreement)
				must(t, a.Start(agreement))
				must(t, b.Start(a.with(!active)))
				eventually(t, "the handshake has ended", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.hand != nil && a.hand.done })
				if err := a.Send(audio.RTP, packet(audio.RTP, 7, 1, "secret")); err != audio.ErrNoPeer {
					t.Errorf("it speaks to the wrong phone: %v", err)
				}
				ha.nothing(t)
				hb.nothing(t)
			})
		}
	}
}

// Before the answer, only the phone that is called may shake hands.
func TestOnlyTheCalledPhoneShakesHands(t *testing.T) {
	caller, callee, stranger := newSide(t), newSide(t), newSide(t)
	caller.listen(t)
	caller.Expect(callee.at.Addr(), callee.pin)
	stranger.listen(t)
	must(t, stranger.Start(caller.with(true)))
	eventually(t, "the stranger was refused", func() bool {
		caller.mu.Lock()
		defer caller.mu.Unlock()
		return len(caller.early) > 0 && caller.early[0].done && caller.early[0].made == nil
	})
	callee.listen(t)
	must(t, callee.Start(caller.with(true)))
	must(t, caller.Start(callee.with(false)))
	callee.say(t, 1, "it is me")
	caller.say(t, 1, "good")
}

// A relay is somebody on the path, who has a place of his own for each end.
type relay struct {
	mu       sync.Mutex
	conns    [2]*net.UDPConn // at which a and b see each other
	to       [2]netip.AddrPort
	captured [][]byte // of sound from b to a
	deaf     bool     // nothing is sent on
}

// between puts a relay between a and b.
func between(t *testing.T, a, b *side) *relay {
	r := &relay{to: [2]netip.AddrPort{a.at, b.at}}
	for i := range r.conns {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(t, err)
		r.conns[i] = c
	}
	var work sync.WaitGroup
	for i := range r.conns { // what arrives at i goes out at the other, to the other
		work.Go(func() {
			buf := make([]byte, maxPacket)
			for {
				n, _, err := r.conns[i].ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				r.mu.Lock()
				if i == 1 && kindOf(buf[:n]) == isRTP {
					r.captured = append(r.captured, bytes.Clone(buf[:n]))
				}
				deaf := r.deaf
				r.mu.Unlock()
				if !deaf {
					_, _ = r.conns[1-i].WriteToUDPAddrPort(buf[:n], r.to[1-i])
				}
			}
		})
	}
	t.Cleanup(func() { r.conns[0].Close(); r.conns[1].Close(); work.Wait() })
	return r
}

// await returns the n-th packet that was taken off the path.
func (r *relay) await(t *testing.T, n int) (packet []byte) {
	eventually(t, "it is taken off", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.captured) == n {
			packet = r.captured[n-1]
		}
		return packet != nil
	})
	return packet
}

// seen is where end i (0: a) sees the other.
func (r *relay) seen(i int) netip.AddrPort { return plainPort(addrPort(r.conns[i])) }

func addrPort(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// joined are two ends that talk.
func joined(t *testing.T) (a, b *side, ha, hb *ear) {
	a, b = newSide(t), newSide(t)
	ha, hb = a.listen(t), b.listen(t)
	must(t, a.Start(b.with(false)))
	must(t, b.Start(a.with(true)))
	b.say(t, 1, "one")
	ha.await(t, "one")
	a.say(t, 1, "one")
	hb.await(t, "one")
	return a, b, ha, hb
}

// lead makes b send to a through r.
func lead(b *side, to netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.follow.told(to)
}

// An end that moves is answered where it is now, before anybody is told, and that
// place proves itself.
func TestMovedEndIsFollowed(t *testing.T) {
	a, b, ha, hb := joined(t)
	r := between(t, a, b)
	lead(b, r.seen(1)) // as if b had another address
	b.say(t, 2, "from elsewhere")
	ha.await(t, "from elsewhere")
	if a.Remote() != r.seen(0) {
		t.Errorf("a sends to %v, b is at %v", a.Remote(), r.seen(0))
	}
	a.say(t, 2, "to elsewhere")
	hb.await(t, "to elsewhere")
	eventually(t, "the place is proved", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.follow.home == r.seen(0) })

	// The description that follows names the same place, and changes nothing.
	again := b.with(false)
	again.Remote = r.seen(0)
	must(t, a.Start(again))
	a.say(t, 3, "still there")
	hb.await(t, "still there")

	// An older description that comes late does not lead back.
	must(t, a.Start(again))
	if a.Remote() != r.seen(0) {
		t.Errorf("led back to %v", a.Remote())
	}
}

// The row moves the stream as well, and what comes from there goes on.
func TestRowMovesThePath(t *testing.T) {
	a, b, ha, _ := joined(t)
	a.Move(netip.MustParseAddr("127.0.0.9"))
	if want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), b.Port()); a.Remote() != want {
		t.Errorf("sends to %v, want %v", a.Remote(), want)
	}
	b.say(t, 2, "I am here") // and not there: heard, and followed
	ha.await(t, "I am here")
	eventually(t, "it is followed", func() bool { return a.Remote() == b.at })
}

// An attacker who sends on what he has taken off the path gets a second of
// ciphertext; replays and forgeries get him nothing.
func TestAttackerOnThePath(t *testing.T) {
	a, b, ha, hb := joined(t)
	r := between(t, a, b)
	attacker, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer attacker.Close()
	strike := func(packet []byte) {
		_, err := attacker.WriteToUDPAddrPort(packet, a.at)
		must(t, err)
	}
	r.mu.Lock()
	r.deaf = true
	r.mu.Unlock()
	lead(b, r.seen(1))
	b.say(t, 2, "taken off")
	taken := r.await(t, 1)
	lead(b, a.at)

	forged := bytes.Clone(taken)
	forged[len(forged)-1] ^= 1
	strike(forged)
	strike([]byte{0, 1, 0, 0})
	strike(bytes.Repeat([]byte{22}, 100))
	b.say(t, 3, "untouched")
	ha.await(t, "untouched")
	if a.Remote() != b.at {
		t.Fatalf("a forged packet leads to %v", a.Remote())
	}
	strike(taken) // older than what came since
	ha.await(t, "taken off")
	if a.Remote() != b.at {
		t.Fatalf("an older packet leads to %v", a.Remote())
	}
	strike(taken) // once more
	b.say(t, 4, "heard")
	ha.await(t, "heard")
	if n := a.Strangers(); n != 2 {
		t.Errorf("%d packets did not open; one was changed and one repeated", n)
	}

	// The newest one, which only he has: a goes there, asks for a proof, and goes back.
	lead(b, r.seen(1))
	b.say(t, 5, "newest")
	newest := r.await(t, 2)
	lead(b, a.at)
	strike(newest)
	ha.await(t, "newest")
	place := plainPort(addrPort(attacker))
	if a.Remote() != place {
		t.Errorf("sends to %v; the newest packet came from %v", a.Remote(), place)
	}
	buf := make([]byte, maxPacket)
	must(t, attacker.SetReadDeadline(time.Now().Add(pathtest.Patience)))
	n, err := attacker.Read(buf)
	must(t, err)
	if kindOf(buf[:n]) != isSTUN {
		t.Errorf("asked by %x", buf[:n])
	}
	// He answers as well as he can: with the question itself, and without the password.
	answer := bytes.Clone(buf[:n])
	answer[0], answer[1] = 1, 1
	strike(answer)
	strike(buf[:n])
	eventually(t, "the path goes back", func() bool { return a.Remote() == b.at })
	if kindOf(taken) != isRTP {
		t.Error("not sound")
	}
	a.say(t, 9, "back")
	hb.await(t, "back")
	lead(b, r.seen(1))
	b.say(t, 6, "again")
	another := r.await(t, 3)
	lead(b, a.at)
	strike(another)
	ha.await(t, "again")
	if a.Remote() != b.at {
		t.Error("who was shunned is followed again")
	}
}

// Where so many packets are missing that the keys have lost count, both ends make
// new ones, whichever finds it out.
func TestHoleGetsNewKeys(t *testing.T) {
	for _, step := range []uint16{hole + 1, 40000} {
		for _, active := range []bool{true, false} {
			t.Run(fmt.Sprint(step, active), func(t *testing.T) {
				a, b := newSide(t), newSide(t)
				ha, hb := a.listen(t), b.listen(t)
				must(t, a.Start(b.with(!active)))
				must(t, b.Start(a.with(active)))
				b.say(t, 1, "before")
				ha.await(t, "before")
				a.mu.Lock()
				first := a.out
				a.mu.Unlock()
				number := 1 + step
				eventually(t, "there are new keys", func() bool {
					number++
					b.say(t, number, "into the hole")
					time.Sleep(5 * time.Millisecond)
					a.mu.Lock()
					defer a.mu.Unlock()
					return a.out != first
				})
				b.say(t, number+1, "after")
				ha.await(t, "after")
				a.say(t, 1, "both ways")
				hb.await(t, "both ways")
			})
		}
	}
}

// TestHoleOfSDES: where the signalling brings the keys it is told once that others are
// due. With them both ends hear each other again, and what was on its way by the keys
// of before is still heard.
func TestHoleOfSDES(t *testing.T) {
	for _, s := range suites {
		for _, step := range []uint16{hole + 1, 40000} {
			t.Run(fmt.Sprint(s, step), func(t *testing.T) {
				a, b := bySDES(t, s)
				worn := make(chan struct{}, 100)
				a.cfg.Worn = func() { worn <- struct{}{} }
				ha, hb := a.listen(t), b.listen(t)
				b.say(t, 1, "before")
				ha.await(t, "before")
				number := 1 + step
				eventually(t, "new keys are due", func() bool {
					number++
					b.say(t, number, "into the hole")
					time.Sleep(5 * time.Millisecond)
					return len(worn) > 0
				})
				must(t, a.Start(Agreement{Remote: b.at, Mux: true, SDES: &SDES{s, keyOf(s, 3), keyOf(s, 4)}}))
				if step < 1<<15 {
					b.say(t, number+1, "on its way")
					ha.await(t, "on its way")
				}
				must(t, b.Start(Agreement{Remote: a.at, Mux: true, SDES: &SDES{s, keyOf(s, 4), keyOf(s, 3)}}))
				b.say(t, number+2, "after")
				ha.await(t, "after")
				a.say(t, 1, "both ways")
				hb.await(t, "both ways")
				if n := len(worn); n != 1 {
					t.Errorf("told %d times; want 1", n)
				}
			})
		}
	}
}

// A known key, and those that a handshake makes, are looked for in everything that
// a path writes: its log, errors and whatever prints it.
func TestNoKeyIsWritten(t *testing.T) {
	var out syncBuffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, b := newSide(t), newSide(t)
	a.cfg.Log, b.cfg.Log = log, log
	ha := a.listen(t)
	b.listen(t)
	must(t, a.Start(b.with(false)))
	must(t, b.Start(a.with(true)))
	b.say(t, 1, "hello")
	ha.await(t, "hello")
	a.mu.Lock()
	made, agreed, own := a.hand.made, *a.agreed, a.prove.own
	a.mu.Unlock()
	known := keyOf(AES128GCM, 'K')
	agreed.SDES = &SDES{AES128GCM, known, made.own}
	log.Info("all", "agreed", agreed, "sdes", agreed.SDES, "keys", made, "own", own)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+verb, agreed, agreed.SDES, *agreed.SDES, *made, own)
	}
	fmt.Fprintln(&out, a.Path.Start(Agreement{SDES: &SDES{AES128GCM, known, secret.Of([]byte("short"))}}))
	text := strings.ToLower(out.String())
	for name, k := range map[string][]byte{
		"a known key": known.Reveal(), "a made key": made.own.Reveal(), "the peer's key": made.peer.Reveal(), "the password": own.Pwd.Reveal(),
	} {
		for _, form := range []string{string(k), hex.EncodeToString(k[:8]), base64.StdEncoding.EncodeToString(k)[:10], strings.Trim(fmt.Sprint(k[:6]), "[]")} {
			if strings.Contains(text, strings.ToLower(form)) {
				t.Errorf("%s is written", name)
			}
		}
	}
	if !strings.Contains(text, "***") {
		t.Error("nothing was written in their place")
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
