package exchange

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/sockets"
)

// An address that has not answered gets no more than three times what came from
// it, in whatever pieces; one that has gets everything.
func TestPath(t *testing.T) {
	const reserve = 50
	at := func(text string) place { return place{peer: netip.MustParseAddrPort(text)} }
	home, away, other := at("192.0.2.1:1"), at("192.0.2.2:1"), at("192.0.2.3:1")
	now := time.Unix(1e9, 0)
	goes := func(t *testing.T, p *path, n int, challenge bool, to place, may bool) {
		t.Helper()
		if at, ok := p.to(n, challenge, now); at != to || ok != may {
			t.Errorf("%d bytes go to %v, %v; want %v, %v", n, at, ok, to, may)
		}
	}
	t.Run("stays", func(t *testing.T) {
		p := pathTo(home, reserve)
		if p.came(home, 100, true) || p.mayAsk(now) {
			t.Error("who has not moved is challenged")
		}
		goes(t, &p, 1e6, false, home, true)
	})
	t.Run("moves", func(t *testing.T) {
		p := pathTo(home, reserve)
		if !p.came(away, 100, true) || p.came(away, 0, true) {
			t.Error("has not moved, or twice")
		}
		goes(t, &p, 300-reserve+1, false, away, false)
		goes(t, &p, 300-reserve, false, away, true)
		if !p.mayAsk(now) {
			t.Error("who has moved is not challenged")
		}
		goes(t, &p, reserve, true, away, true)
		p.ask(7, now)
		goes(t, &p, 1, true, away, false)
		if p.mayAsk(now) || !p.mayAsk(now.Add(challengeEvery)) {
			t.Error("challenged again at once, or never")
		}
		p.came(away, 10, true)
		goes(t, &p, 30, true, away, true)
		goes(t, &p, 1, true, away, false)
		if p.answered(8, away.peer) || p.answered(7, home.peer) || p.answered(7, other.peer) {
			t.Error("proven by the wrong answer")
		}
		if !p.answered(7, away.peer) {
			t.Error("not proven by the right answer")
		}
		goes(t, &p, 1e6, false, away, true)
		if p.answered(7, away.peer) || p.mayAsk(now.Add(challengeEvery)) {
			t.Error("proven twice")
		}
	})
	t.Run("sent on by somebody", func(t *testing.T) {
		p := pathTo(home, reserve)
		p.came(away, 100, true)
		p.ask(7, now)
		p.came(home, 100, true)
		if p.mayAsk(now) || p.answered(7, away.peer) || p.answered(7, home.peer) {
			t.Error("its own address is challenged")
		}
		goes(t, &p, 1e6, false, home, true)
	})
	t.Run("one is sent on, and nothing follows", func(t *testing.T) {
		p := pathTo(home, reserve)
		p.came(away, 100, true)
		p.ask(7, now)
		if at, ok := p.to(1e6, false, now.Add(challengeMost)); at != home || !ok {
			t.Errorf("goes to %v, %v; want back home", at, ok)
		}
		if p.answered(7, away.peer) {
			t.Error("an answer after that counts")
		}
	})
	t.Run("the same, to another address of this host", func(t *testing.T) {
		conn := socket(t, "0.0.0.0")
		sources, err := sockets.SourcesOf(conn)
		if err != nil {
			t.Fatal(err)
		}
		by := func(p place, a string) place { return place{p.peer, sources.At(netip.MustParseAddr(a))} }
		p := pathTo(by(home, "10.0.0.1"), reserve)
		if p.came(by(home, "10.0.0.2"), 100, true) || p.mayAsk(now) {
			t.Error("who asks there has moved")
		}
		goes(t, &p, 1e6, false, by(home, "10.0.0.2"), true)
		p.came(by(home, "10.0.0.1"), 100, false) // one that was overtaken
		goes(t, &p, 1e6, false, by(home, "10.0.0.2"), true)
		// One that somebody sends on changes nothing of where the phone is known to be.
		p.came(by(away, "10.0.0.1"), 100, true)
		p.came(by(away, "10.0.0.3"), 100, true)
		goes(t, &p, 10, false, by(away, "10.0.0.3"), true)
		p.ask(7, now)
		if at, ok := p.to(1e6, false, now.Add(challengeMost)); at != by(home, "10.0.0.2") || !ok {
			t.Errorf("goes to %v, %v; want back home", at, ok)
		}
	})
	t.Run("an older record from elsewhere", func(t *testing.T) {
		p := pathTo(home, reserve)
		p.came(away, 100, false)
		goes(t, &p, 1e6, false, home, true)
	})
	t.Run("another address begins anew", func(t *testing.T) {
		p := pathTo(home, reserve)
		p.came(away, 1000, true)
		p.ask(7, now)
		p.came(other, 10, true)
		if !p.mayAsk(now) {
			t.Error("is not challenged")
		}
		goes(t, &p, 31, true, other, false)
		if p.answered(7, other.peer) {
			t.Error("proven by the answer to another's message")
		}
	})
}

// Records that come from elsewhere move a session by no more than three times
// their length, whatever it has to say, and the phone that is where it was goes
// on at once.
func TestForgedSource(t *testing.T) {
	for _, n := range []int{4, 100, 1000} {
		s, _ := serve(t, DefaultLimits(), nil)
		conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
		c := shakeHands(t, conn, s)
		defer c.Close()
		asks(t, c, 1)
		conn.hold()
		for id := range int32(2) {
			data, err := wire.EncodeMessage(get(10+id, "t", -1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		victim := socket(t, "127.0.0.9")
		sent := 0
		for _, data := range conn.held {
			if _, err := victim.WriteTo(data, s.Addr()); err != nil {
				t.Fatal(err)
			}
			sent += len(data)
		}
		cookieFor(t, socket(t, "127.0.0.1"), s, [32]byte{1}) // all before it are read
		x := only(t, s)
		confirmable := append([]byte{0x40, byte(codes.Content), 0, 1}, make([]byte, n-4)...)
		for range 200 {
			x.send(confirmable)
		}
		conn.release()
		asks(t, c, 20) // all of it is on its way
		got := 0
		buf := make([]byte, 2048)
		if err := victim.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			k, err := victim.Read(buf)
			if err != nil {
				break
			}
			got += k
		}
		if got == 0 || got > 3*sent {
			t.Errorf("messages of %d bytes: %d bytes went to an address that sent %d and answered nothing; want some, and three times as much at the most", n, got, sent)
		}
	}
}

// next reads a message.
func next(t *testing.T, c net.Conn) message.Message {
	t.Helper()
	buf := make([]byte, 2048)
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.DecodeMessage(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A phone that moves is answered in one round trip. It has to answer the first
// message that may come again, or a ping when more is to go there than it may;
// then its new address is as good as the old one.
func TestMoveProves(t *testing.T) {
	for name, n := range map[string]int{"by a notification": 40, "by a ping": 1000} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, DefaultLimits(), nil)
			conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
			c := shakeHands(t, conn, s)
			defer c.Close()
			asks(t, c, 1)
			away := conn.move(t, "127.0.0.2")
			asks(t, c, 2)
			asks(t, c, 3)
			x := only(t, s)
			notice, err := wire.EncodeMessage(message.Message{Type: message.Confirmable, Code: codes.Content, MessageID: 7, Payload: make([]byte, n)})
			if err != nil {
				t.Fatal(err)
			}
			x.send(notice)
			if n == 1000 {
				for id := byte(8); id < 7+heldMost+1; id++ { // the last of them is too much
					x.send(append([]byte{notice[0], notice[1], 0, id}, notice[4:]...))
				}
			}
			asked := next(t, c)
			if isPing := asked.Code == codes.Empty; asked.Type != message.Confirmable || isPing != (n == 1000) {
				t.Fatalf("got %v", asked)
			}
			pong(t, c, asked)
			if n == 1000 { // what waited
				for id := range int32(heldMost) {
					if m := next(t, c); m.MessageID != 7+id || len(m.Payload) != n {
						t.Errorf("after the proof came %v", m)
					}
				}
			}
			asks(t, c, 4)
			x.records.Lock()
			defer x.records.Unlock()
			if x.path.proven.peer.String() != away.LocalAddr().String() {
				t.Errorf("proven is %v; want %v", x.path.proven.peer, away.LocalAddr())
			}
		})
	}
}

// Numbers of an observation rise over its refresh, by the same token and by
// another, and over a restart of the server (RFC 7641, sections 3.4 and 4.4).
func TestObserveNumbers(t *testing.T) {
	newer := func(v1, v2 uint32) bool { // RFC 7641, section 3.4
		return v1 < v2 && v2-v1 < 1<<23 || v1 > v2 && v1-v2 > 1<<23
	}
	synctest.Test(t, func(t *testing.T) {
		var last uint32
		some := false
		check := func(m message.Message) {
			t.Helper()
			number, ok := wire.Uint(m, message.Observe)
			if !ok || number >= 1<<24 || some && !newer(last, number) {
				t.Errorf("number %d, %v, after %d", number, ok, last)
			}
			last, some = number, true
		}
		id := int32(0)
		for restart := range 3 {
			b := newBench(t, DefaultLimits())
			for _, token := range []string{"one", "one", "one", "two", "one"} {
				id++
				b.give(get(id, token, 0))
				check(b.want(message.Acknowledgement, codes.Content))
				for range 4 {
					b.hub.changed([]wire.Query{key})
					synctest.Wait()
					for len(b.sent) > 0 {
						m := <-b.sent
						if string(m.Token) == token {
							check(m)
						}
						b.give(message.Message{Type: message.Acknowledgement, MessageID: m.MessageID})
						synctest.Wait()
					}
				}
				time.Sleep(time.Second)
			}
			b.end()
			time.Sleep(time.Duration(restart) * 50 * time.Second)
		}
		// The 24 bits go round: from there on as well.
		h := newHub()
		number := uint64(1<<24 - 2)
		for range 5 {
			after := h.number(number, h.began.Add(-time.Since(time.Unix(0, 0)))) // no clock
			if !newer(observeOption(number), observeOption(after)) {
				t.Errorf("%d after %d", observeOption(after), observeOption(number))
			}
			number = after
		}
	})
}

// A client without connection IDs is served at its address, by the oldest and
// the newest of handshakes from there.
func TestWithoutConnectionID(t *testing.T) {
	s, count := serve(t, DefaultLimits(), nil)
	cert := certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 1})
	conn := socket(t, "127.0.0.1")
	first, err := tryHands(t, &immortal{conn}, s, cert)
	if err != nil {
		t.Fatal(err)
	}
	for id := range int32(20) {
		asks(t, first, id)
	}
	// Others beside it, with an ID and without.
	with := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer with.Close()
	without, err := tryHands(t, socket(t, "127.0.0.1"), s, cert)
	if err != nil {
		t.Fatal(err)
	}
	for id := range int32(5) {
		asks(t, first, 100+id)
		asks(t, with, id)
		asks(t, without, id)
	}
	for _, why := range []string{"replayed", "forged", "malformed record", "overrun", "unknown session"} {
		if n := count.of(why); n != 0 {
			t.Errorf("%d dropped as %s", n, why)
		}
	}
	without.Close()
	// It starts anew at the same address, without a word.
	first.Close()
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	second, err := tryHands(t, conn, s, cert)
	if err != nil {
		t.Fatal(err)
	}
	asks(t, second, 1)
	s.port.mu.Lock()
	n := len(s.port.plain)
	s.port.mu.Unlock()
	if n != 1 {
		t.Errorf("%d sessions without an ID; want the one that is left", n)
	}
	second.Close()
}
