package sip_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"flexphone/firmware/internal/sip"
)

// A wire carries connections to a phone and counts the round trips that whoever
// connects waits for: one to connect, and one for each time that the phone answers
// to what was sent since it spoke last.
type wire struct {
	net.Listener
	to netip.AddrPort

	mu    sync.Mutex
	trips int
	asked bool // something was sent since the phone spoke last
	conns []net.Conn
}

func newWire(t *testing.T, to netip.AddrPort) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{Listener: l, to: to}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to.String())
			if err != nil {
				c.Close()
				continue
			}
			w.mu.Lock()
			w.trips, w.asked, w.conns = w.trips+1, false, append(w.conns, c, there)
			w.mu.Unlock()
			work.Go(func() { w.pass(c, there, true) })
			work.Go(func() { w.pass(there, c, false) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.cut()
		work.Wait()
	})
	return w
}

func (w *wire) pass(from, to net.Conn, ours bool) {
	defer to.Close()
	for b := make([]byte, 65536); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		if !ours && w.asked {
			w.trips++
		}
		w.asked = ours
		w.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections that there are.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// took returns the round trips since it was asked last.
func (w *wire) took() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.trips
	w.trips = 0
	return n
}

func (w *wire) at() netip.AddrPort { return w.Addr().(*net.TCPAddr).AddrPort() }

// rings calls until it rings, tells how many round trips that took, and hangs up.
func rings(t *testing.T, w *wire, a, b *phone) int {
	t.Helper()
	w.took()
	ca := a.dials(sip.Target{User: b.user, Addr: w.at(), Pin: b.key})
	cb := b.isCalled()
	must(t, cb.Ring())
	expect(t, ca, sip.Progress, "")
	n := w.took()
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonCancelled)
	return n
}

// Who calls for the first time waits for TCP, TLS 1.3 and the INVITE; for one of
// them where a connection is left of the call before, or was made beforehand.
func TestRoundTripsToTheRinging(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	w := newWire(t, b.SIPSAddr())
	to := sip.Target{User: b.user, Addr: w.at(), Pin: b.key}
	if a.Prepared(to) {
		t.Error("there is a connection before there was a call")
	}
	for i, want := range []int{3, 1, 1} {
		if n := rings(t, w, a, b); n != want {
			t.Errorf("call %d rings after %d round trips; want %d", i+1, n, want)
		}
		if !a.Prepared(to) {
			t.Errorf("no connection is left of call %d", i+1)
		}
	}
	w.cut()
	c := newPhone(t, userC)
	w.took()
	must(t, c.Prepare(patience(t), to))
	if n := w.took(); n != 2 || !c.Prepared(to) {
		t.Errorf("preparing took %d round trips, and there is a connection: %v; want 2", n, c.Prepared(to))
	}
	b.isNotCalled()
	if n := rings(t, w, c, b); n != 1 {
		t.Errorf("a call that was prepared rings after %d round trips; want 1", n)
	}
}

// A phone that was called calls back on the connection that it was called by.
func TestCallingBackTakesTheSameConnection(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	w := newWire(t, b.SIPSAddr())
	rings(t, w, a, b)
	back := a.pinned()
	if !b.Prepared(back) {
		t.Fatal("there is no connection to who has called")
	}
	w.took()
	cb := b.dials(back)
	ca := a.isCalled()
	must(t, ca.Ring())
	expect(t, cb, sip.Progress, "")
	must(t, ca.Answer(of(ca, 5000)))
	expect(t, cb, sip.Established, "")
	expect(t, ca, sip.Established, "")
	must(t, cb.Hangup(patience(t)))
	expect(t, ca, sip.Ended, sip.ReasonHangup)
	w.mu.Lock()
	conns := len(w.conns) / 2
	w.mu.Unlock()
	if conns != 1 {
		t.Errorf("%d connections; want the one", conns)
	}
}

// Several that want a connection at a time share one, and none outlives its key.
func TestOneConnectionForWhoWantsItAtATime(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	w := newWire(t, b.SIPSAddr())
	to := sip.Target{User: b.user, Addr: w.at(), Pin: b.key}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := a.Prepare(patience(t), to); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.mu.Lock()
	conns := len(w.conns) / 2
	w.mu.Unlock()
	if conns != 1 {
		t.Errorf("%d connections; want one", conns)
	}
	foreign := to
	foreign.Pin[0] ^= 1
	if a.Prepared(foreign) || a.Prepare(patience(t), foreign) == nil {
		t.Error("another key was taken for the phone's")
	}
	b.isNotCalled()
}

// A connection that broke while nobody needed it, without anybody having heard of
// that, costs a call some time and not the call.
func TestACallOverAConnectionThatIsGone(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	w := newWire(t, b.SIPSAddr())
	for range 20 {
		rings(t, w, a, b)
		go w.cut()
	}
}

// Connections that nobody needs are few.
func TestIdleConnectionsAreBounded(t *testing.T) {
	a := newPhone(t, userA)
	var targets []sip.Target
	for range 10 {
		b := newPhone(t, userB)
		targets = append(targets, b.pinned())
		must(t, a.Prepare(patience(t), b.pinned()))
	}
	open := 0
	for _, to := range targets {
		if a.Prepared(to) {
			open++
		}
	}
	if open != 8 || a.Prepared(targets[0]) || !a.Prepared(targets[9]) {
		t.Errorf("%d of 10 connections stay, the first %v, the last %v; want the last 8", open, a.Prepared(targets[0]), a.Prepared(targets[9]))
	}
}
