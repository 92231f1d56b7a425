package srtp

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/seek"
)

// A field carries datagrams in simulated time, and knows who is where.
type field struct {
	mu    sync.Mutex
	socks map[netip.AddrPort]*sock
	// lose decides what is lost on its way from there; nil: nothing.
	lose func(from *sock, b []byte) bool
	// slow is how much longer a datagram takes that goes there; nil: no longer.
	slow func(to netip.AddrPort) time.Duration
}

// fieldDelay is how long a datagram takes.
const fieldDelay = 20 * time.Millisecond

type letter struct {
	b    []byte
	from netip.AddrPort
}

// A sock is a Conn in a field. Its host may move.
type sock struct {
	field  *field
	name   string
	inbox  chan letter
	closed chan struct{}
	shut   func()
	nudge  chan struct{} // another deadline

	mu       sync.Mutex
	at       netip.AddrPort
	speaks   netip.AddrPort // whence it sends; zero: from where it is
	six      netip.AddrPort // where it is besides, by IPv6; zero: nowhere
	deadline time.Time
}

func (f *field) listen(name string, at netip.AddrPort) *sock {
	s := &sock{field: f, name: name, at: at, inbox: make(chan letter, 4096), closed: make(chan struct{}), nudge: make(chan struct{}, 1)}
	s.shut = sync.OnceFunc(func() { close(s.closed) })
	f.mu.Lock()
	f.socks[at] = s
	f.mu.Unlock()
	return s
}

// move gives the host of s another address.
func (s *sock) move(to netip.Addr) {
	s.field.mu.Lock()
	defer s.field.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.field.socks, s.at)
	s.at = netip.AddrPortFrom(to, s.at.Port())
	s.field.socks[s.at] = s
}

func (s *sock) place() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *sock) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	l := letter{slices.Clone(b), s.place()}
	switch {
	case s.speaks.IsValid():
		l.from = s.speaks
	case to.Addr().Is6() && s.six.IsValid():
		l.from = s.six
	}
	took := fieldDelay
	if s.field.slow != nil {
		took += s.field.slow(to)
	}
	s.field.mu.Lock()
	lost := s.field.lose != nil && s.field.lose(s, b)
	s.field.mu.Unlock()
	if lost {
		return len(b), nil
	}
	time.AfterFunc(took, func() {
		s.field.mu.Lock()
		there := s.field.socks[to]
		s.field.mu.Unlock()
		if there != nil {
			select {
			case there.inbox <- l:
			default:
			}
		}
	})
	return len(b), nil
}

func (s *sock) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		s.mu.Lock()
		d := s.deadline
		s.mu.Unlock()
		var late <-chan time.Time
		if !d.IsZero() {
			if !time.Now().Before(d) {
				return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(time.Until(d))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case l := <-s.inbox:
			return copy(b, l.b), l.from, nil
		case <-late:
		case <-s.nudge:
		case <-s.closed:
			return 0, netip.AddrPort{}, net.ErrClosed
		}
	}
}

func (s *sock) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.deadline = t
	s.mu.Unlock()
	select {
	case s.nudge <- struct{}{}:
	default:
	}
	return nil
}

func (s *sock) Close() error {
	s.shut()
	s.field.mu.Lock()
	defer s.field.mu.Unlock()
	delete(s.field.socks, s.at)
	return nil
}

func (s *sock) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(s.place()) }
func (s *sock) RemoteAddr() net.Addr             { return nil }
func (s *sock) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (s *sock) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (s *sock) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *sock) SetWriteDeadline(time.Time) error { return nil }

// A body is a phone's path in a field.
type body struct {
	*Path
	sock  *sock
	pin   [32]byte
	wrong chan struct{}
	host  bool   // it names its address as a candidate
	said  uint16 // by talk

	mu    sync.Mutex
	heard int
	last  time.Time     // when it was heard last
	gap   time.Duration // the longest silence since that was forgotten
}

// A maker makes bodies of one phone, which share its key.
type maker func(t *testing.T, f *field, name string, at string) *body

func phoneOf(t *testing.T) maker {
	cert, pin := identity(t)
	return func(t *testing.T, f *field, name, at string) *body {
		b := &body{sock: f.listen(name, netip.MustParseAddrPort(at)), pin: pin, wrong: make(chan struct{}, 100)}
		b.Path = New(t.Context(), b.sock, Config{
			Certificate: cert, Log: slog.New(slog.DiscardHandler), Wrong: func() { b.wrong <- struct{}{} },
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = b.Receive(func(d audio.Datagram) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.heard++
				b.gap, b.last = max(b.gap, time.Since(b.last)), time.Now()
			})
		}()
		t.Cleanup(func() { b.Close(); <-done })
		return b
	}
}

func (b *body) with(active bool) Agreement {
	a := Agreement{Remote: b.sock.place(), Mux: true, Peer: b.Own(), DTLS: &DTLS{
		Active: active, Fingerprints: []Fingerprint{b.Fingerprint()}, Pin: b.pin,
	}}
	if b.host {
		a.Candidates = []seek.Candidate{{Addr: a.Remote, Kind: seek.Host}}
	}
	if six := b.sock.six; six.IsValid() {
		a.Candidates = []seek.Candidate{{Addr: a.Remote, Kind: seek.Host}, {Addr: six, Kind: seek.Host6}}
		a.Remote = six
	}
	return a
}

// sixth gives b an IPv6 address beside the one that it has. It is called by it.
func (b *body) sixth(at string) {
	b.sock.six = netip.MustParseAddrPort(at)
	b.sock.field.mu.Lock()
	defer b.sock.field.mu.Unlock()
	b.sock.field.socks[b.sock.six] = b.sock
}

func (b *body) hears() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard
}

// speak has a and b say something each 20 ms until both hear the other, and returns
// how long that took; or fails after most.
func speak(t *testing.T, a, b *body, most time.Duration) time.Duration {
	t.Helper()
	began, ha, hb := time.Now(), a.hears(), b.hears()
	for n := uint16(1); time.Since(began) < most; n++ {
		_ = a.Send(audio.RTP, packet(audio.RTP, 1, n, "a"))
		_ = b.Send(audio.RTP, packet(audio.RTP, 2, n, "b"))
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if a.hears() > ha && b.hears() > hb {
			return time.Since(began)
		}
	}
	t.Errorf("after %v there is silence: %d heard by the one, %d by the other", most, a.hears()-ha, b.hears()-hb)
	return most
}

// inField runs f with a caller and a callee's phone, in simulated time.
func inField(t *testing.T, f func(t *testing.T, w *field, caller *body, callee maker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &field{socks: map[netip.AddrPort]*sock{}}
		f(t, w, phoneOf(t)(t, w, "caller", "192.0.2.1:4000"), phoneOf(t))
	})
}

// Whichever datagrams of a handshake are lost, and for how long: there is sound soon
// after nothing is lost any more.
func TestAnyFlightMayBeLost(t *testing.T) {
	for _, loser := range []string{"caller", "callee"} {
		for nth := range 6 {
			for _, out := range []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second} {
				t.Run(fmt.Sprint(loser, nth, out), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						callee := of(t, w, "callee", "192.0.2.2:4000")
						sent, since := 0, time.Time{}
						w.lose = func(from *sock, b []byte) bool {
							if since.IsZero() && from.name == loser && kindOf(b) == isDTLS {
								if sent++; sent == nth+1 {
									since = time.Now()
									return true
								}
							}
							return !since.IsZero() && time.Since(since) < out
						}
						caller.Expect(callee.sock.place().Addr(), callee.pin)
						must(t, callee.Start(caller.with(true)))
						must(t, caller.Start(callee.with(false)))
						time.Sleep(out + 100*time.Millisecond)
						speak(t, caller, callee, 11*time.Second)
					})
				})
			}
		}
	}
}

// What was said into a cable that is out comes out of it at once when it is back: hellos
// of handshakes that have been given up since, and then the one that counts.
func TestOldHellosComeAtOnce(t *testing.T) {
	inField(t, func(t *testing.T, w *field, caller *body, of maker) {
		callee := of(t, w, "callee", "192.0.2.2:4000")
		var kept [][]byte
		out := true
		w.lose = func(from *sock, b []byte) bool {
			if out && from == callee.sock && isClientHello(b) && len(kept) < 60 {
				kept = append(kept, slices.Clone(b))
			}
			return out
		}
		caller.Expect(callee.sock.place().Addr(), callee.pin)
		must(t, callee.Start(caller.with(true)))
		time.Sleep(30*time.Second + 200*time.Millisecond)
		w.mu.Lock()
		out = false
		w.mu.Unlock()
		for _, b := range kept {
			_, err := callee.sock.WriteToUDPAddrPort(b, caller.sock.place())
			must(t, err)
		}
		must(t, caller.Start(callee.with(false)))
		if took := speak(t, caller, callee, 11*time.Second); took > 1500*time.Millisecond {
			t.Errorf("sound after %v", took)
		}
	})
}

// Both have begun while the cable was out, and the caller, which gives way, has its own hello
// overtaken by its answer: that is no reason for the other one to give way as well, after
// which each would wait for the other.
func TestAnswerOvertakesAHello(t *testing.T) {
	inField(t, func(t *testing.T, w *field, caller *body, of maker) {
		callee := of(t, w, "callee", "192.0.2.2:4000")
		out, overtaken := true, false
		var hello []byte
		w.lose = func(from *sock, b []byte) bool {
			switch {
			case out || from != caller.sock || kindOf(b) != isDTLS || overtaken:
			case isClientHello(b):
				hello = slices.Clone(b)
				return true
			case hello != nil: // its answer
				overtaken = true
				time.AfterFunc(time.Millisecond, func() { _, _ = caller.sock.WriteToUDPAddrPort(hello, callee.sock.place()) })
			}
			return out
		}
		caller.Expect(callee.sock.place().Addr(), callee.pin)
		must(t, callee.Start(caller.with(true)))
		must(t, caller.Start(callee.with(false)))
		// Those that began 30 s after the first have been on their way for longer than the
		// other end takes a hello for one of the same beginning.
		time.Sleep(30*time.Second + flightTime + 100*time.Millisecond)
		w.mu.Lock()
		out = false
		w.mu.Unlock()
		if took := speak(t, caller, callee, 11*time.Second); took > 1500*time.Millisecond {
			t.Errorf("sound after %v", took)
		}
		if !overtaken {
			t.Error("no hello was overtaken")
		}
	})
}

// The caller has called anew, and the callee has a path of each of its two calls: that
// of the first has no say in the second, whenever it speaks, and whether its handshake
// has ended or not.
func TestPathOfACallBefore(t *testing.T) {
	for _, comes := range []string{"before the other's", "while it rings", "after the answer"} { // the old path's hello
		for _, far := range []bool{false, true} { // its handshake has no time to end, while there is one
			for _, stays := range []time.Duration{0, 300 * time.Millisecond, time.Minute} {
				t.Run(fmt.Sprint(comes, far, stays), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						before := of(t, w, "before", "192.0.2.2:4000")
						now := of(t, w, "now", "192.0.2.2:4002")
						greets := func() {
							must(t, before.Start(caller.with(true)))
							time.AfterFunc(stays, func() { before.Close() })
							time.Sleep(50 * time.Millisecond)
						}
						caller.Renew()
						caller.Expect(now.sock.place().Addr(), now.pin)
						if far {
							w.lose = func(from *sock, b []byte) bool { return from == before.sock && !isClientHello(b) }
						}
						if comes == "before the other's" {
							greets()
						}
						must(t, now.Start(caller.with(true)))
						time.Sleep(time.Second)
						if comes == "while it rings" {
							greets()
						}
						must(t, caller.Start(now.with(false)))
						if comes == "after the answer" {
							greets()
						}
						if took := speak(t, caller, now, 5*time.Second); took > time.Second {
							t.Errorf("sound after %v", took)
						}
						time.Sleep(5 * time.Second)
						speak(t, caller, now, time.Second)
					})
				})
			}
		}
	}
}

// One end has forgotten what both have made: it gets new keys, whichever it is.
func TestForgottenKeysAreMadeAgain(t *testing.T) {
	for _, active := range []bool{false, true} {
		t.Run(fmt.Sprint(active), func(t *testing.T) {
			inField(t, func(t *testing.T, w *field, caller *body, of maker) {
				callee := of(t, w, "callee", "192.0.2.2:4000")
				must(t, caller.Start(callee.with(active)))
				must(t, callee.Start(caller.with(!active)))
				speak(t, caller, callee, time.Second)
				own := caller.Own()
				caller.Renew()
				caller.mu.Lock()
				caller.prove.own = own // the callee is not told of others
				caller.mu.Unlock()
				must(t, caller.Start(callee.with(active)))
				speak(t, caller, callee, yieldTime+time.Second)
			})
		})
	}
}

// An end moves in the middle of a handshake, and is found by its row or description
// some time after that.
func TestMoveInTheMiddleOfAHandshake(t *testing.T) {
	for _, mover := range []string{"caller", "callee"} {
		for _, at := range []time.Duration{0, 30 * time.Millisecond, 50 * time.Millisecond, 70 * time.Millisecond, 90 * time.Millisecond} {
			for _, told := range []time.Duration{0, time.Second, 12 * time.Second} {
				t.Run(fmt.Sprint(mover, at, told), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						callee := of(t, w, "callee", "192.0.2.2:4000")
						caller.Expect(callee.sock.place().Addr(), callee.pin)
						must(t, callee.Start(caller.with(true)))
						must(t, caller.Start(callee.with(false)))
						time.Sleep(at)
						to := netip.MustParseAddr("198.51.100.7")
						if mover == "caller" {
							caller.sock.move(to)
							time.Sleep(told)
							callee.Move(to)
						} else {
							callee.sock.move(to)
							time.Sleep(told)
							must(t, caller.Start(callee.with(false)))
						}
						speak(t, caller, callee, 11*time.Second)
					})
				})
			}
		}
	}
}

// A phone with Ethernet and Wi-Fi says that it is at the one, and its kernel sends by the
// other, since the peer is in that network: whoever of them that is, and whoever begins
// to shake hands, there is sound.
func TestPeerSpeaksFromAnotherPlace(t *testing.T) {
	for _, who := range []string{"caller", "callee", "both"} {
		for _, active := range []string{"caller", "callee"} {
			for _, rings := range []time.Duration{0, 30 * time.Millisecond, 5 * time.Second} {
				t.Run(fmt.Sprint(who, active, rings), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						callee := of(t, w, "callee", "192.0.2.2:4000")
						for i, b := range []*body{caller, callee} {
							if who == b.sock.name || who == "both" {
								b.sock.speaks = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4000)
								w.socks[b.sock.speaks] = b.sock
							}
						}
						caller.Expect(callee.sock.place().Addr(), callee.pin)
						callee.Expect(caller.sock.place().Addr(), caller.pin)
						must(t, callee.Start(caller.with(active == "callee")))
						time.Sleep(rings)
						must(t, caller.Start(callee.with(active == "caller")))
						speak(t, caller, callee, 3*time.Second)
					})
				})
			}
		}
	}
}

// Both have an IPv4 and an IPv6 address, by which they call, and find the one by IPv4 to be
// better while they shake hands. Whichever way is slower, whatever is lost first, and whenever
// the call is answered: they have shaken hands once, and there is sound as soon as it is
// answered, or when what was lost has been sent again.
func TestTwoWaysToShakeHands(t *testing.T) {
	ms := time.Millisecond
	for _, slow := range []struct{ four, six time.Duration }{{0, 0}, {0, 10 * ms}, {0, 100 * ms}, {10 * ms, 0}, {100 * ms, 0}} {
		for _, rings := range []time.Duration{0, 30 * ms, 50 * ms, 100 * ms, 150 * ms, 5 * time.Second} {
			for lost := range 6 { // of those of a handshake, 0: none
				t.Run(fmt.Sprint(slow, rings, lost), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						callee := of(t, w, "callee", "192.0.2.2:4000")
						caller.sixth("[2001:db8::1]:4000")
						callee.sixth("[2001:db8::2]:4000")
						w.slow = func(to netip.AddrPort) time.Duration {
							if to.Addr().Is6() {
								return slow.six
							}
							return slow.four
						}
						sent := 0
						w.lose = func(_ *sock, b []byte) bool {
							if kindOf(b) != isDTLS {
								return false
							}
							sent++
							return sent == lost
						}
						caller.Expect(callee.sock.six.Addr(), callee.pin)
						must(t, callee.Start(caller.with(true)))
						time.Sleep(rings)
						must(t, caller.Start(callee.with(false)))
						if took := speak(t, caller, callee, 15*time.Second); took > 3*flightTime/2+4*(fieldDelay+max(slow.four, slow.six)) {
							t.Errorf("sound after %v", took)
						}
					})
				})
			}
		}
	}
}

// talk has a and b say something each 20 ms for so long, and returns how long either heard
// nothing, at the most.
func talk(a, b *body, lasts time.Duration) (longest time.Duration) {
	for _, one := range []*body{a, b} {
		one.mu.Lock()
		one.gap, one.last = 0, time.Now()
		one.mu.Unlock()
	}
	for began := time.Now(); time.Since(began) < lasts; time.Sleep(20 * time.Millisecond) {
		for _, one := range []*body{a, b} {
			one.said++
			_ = one.Send(audio.RTP, packet(audio.RTP, uint32(len(one.sock.name)), one.said, "talk"))
		}
	}
	for _, one := range []*body{a, b} {
		one.mu.Lock()
		longest = max(longest, one.gap, time.Since(one.last))
		one.mu.Unlock()
	}
	return longest
}

// A phone that moves while it asks for ways, since the call has just begun, or it has just
// moved: its question may come from the new place before its sound does. It hears the other
// after a round trip as ever, however far it is; and after one and a half where both move at
// once, which learn a round trip later where the other has gone.
func TestMoveWhileWaysAreSought(t *testing.T) {
	for _, both := range []bool{false, true} {
		for _, far := range []time.Duration{0, 80 * time.Millisecond} {
			for after := range 12 { // 7 ms each
				t.Run(fmt.Sprint(both, far, after), func(t *testing.T) {
					inField(t, func(t *testing.T, w *field, caller *body, of maker) {
						callee := of(t, w, "callee-", "192.0.2.2:4000")
						caller.host, callee.host = true, true
						w.slow = func(netip.AddrPort) time.Duration { return far }
						must(t, caller.Start(callee.with(true)))
						must(t, callee.Start(caller.with(false)))
						trip := 2 * (fieldDelay + far)
						most := trip + 60*time.Millisecond
						if both {
							most += trip / 2
						}
						speak(t, caller, callee, 3*time.Second)
						time.Sleep(time.Duration(after) * 7 * time.Millisecond)
						for n := range 4 {
							move := func(one, other *body, net byte, active bool) {
								to := netip.AddrFrom4([4]byte{198, 51, net, byte(n)})
								one.sock.move(to)
								time.AfterFunc(trip, func() { other.Move(to) })
								time.AfterFunc(3*trip, func() { _ = other.Start(one.with(active)) }) // fails only where the test is over
							}
							at := time.Duration(100+5*after) * time.Millisecond
							time.AfterFunc(at, func() { move(caller, callee, 100, false) })
							if both {
								time.AfterFunc(at+time.Duration(n)*3*time.Millisecond, func() { move(callee, caller, 101, true) })
							}
							if gap := talk(caller, callee, at+3*trip+time.Duration(40*after)*time.Millisecond); gap > most {
								t.Errorf("move %d: silence of %v", n, gap)
							}
						}
					})
				})
			}
		}
	}
}

// A key that is not the peer's is told of at once, by whoever meets it; and no
// handshake is begun in a hurry by who is refused for it. Where that was met before the
// answer, the answer tells it.
func TestWrongKeyIsToldOf(t *testing.T) {
	for _, meets := range []string{"caller", "callee"} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprint(meets, before), func(t *testing.T) {
				inField(t, func(t *testing.T, w *field, caller *body, of maker) {
					callee, other := of(t, w, "callee", "192.0.2.2:4000"), phoneOf(t)(t, w, "other", "192.0.2.3:4000")
					hellos := 0
					w.lose = func(_ *sock, b []byte) bool {
						if isClientHello(b) {
							hellos++
						}
						return false
					}
					toCallee, toCaller := caller.with(true), callee.with(false)
					met := caller
					if meets == "caller" {
						toCaller.DTLS.Fingerprints = []Fingerprint{other.Fingerprint()}
					} else {
						toCallee.DTLS.Pin, met = other.pin, callee
					}
					if before {
						caller.Expect(callee.sock.place().Addr(), callee.pin)
						must(t, callee.Start(toCallee))
						time.Sleep(time.Second)
						must(t, caller.Start(toCaller))
					} else {
						must(t, caller.Start(toCaller))
						must(t, callee.Start(toCallee))
					}
					time.Sleep(200 * time.Millisecond)
					synctest.Wait()
					if len(met.wrong) != 1 {
						t.Errorf("told %d times", len(met.wrong))
					}
					time.Sleep(20 * time.Second)
					synctest.Wait()
					if caller.Keyed() && callee.Keyed() {
						t.Error("both have keys")
					}
					if hellos > 12 {
						t.Errorf("%d hellos in 20 s", hellos)
					}
					if n := len(met.wrong); n == 0 || n > 12 {
						t.Errorf("told %d times in 20 s", n)
					}
				})
			})
		}
	}
}
