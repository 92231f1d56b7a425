package sip_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

// A switchboard joins phones by their user parts, as a storing server does.
type switchboard struct {
	mu    sync.Mutex
	desks map[string]*desk
	open  []net.Conn
	dials atomic.Int32
}

// A desk is one phone's place at it.
type desk struct {
	board *switchboard
	user  string
	rings chan net.Conn
}

// A nameTag is an end of a connection that knows whose the other one is.
type nameTag struct {
	net.Conn
	user string
}

func (b *switchboard) desk(user string) *desk {
	d := &desk{b, user, make(chan net.Conn, 8)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.desks == nil {
		b.desks = map[string]*desk{}
	}
	b.desks[user] = d
	return d
}

// cut breaks all connections.
func (b *switchboard) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.open {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	b.open = nil
}

var errNobody = errors.New("nobody by that name")

func (d *desk) Dial(ctx context.Context, user string) (net.Conn, error) {
	d.board.dials.Add(1)
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	to := d.board.desks[user]
	if to == nil {
		return nil, errNobody
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	mine, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	d.board.open = append(d.board.open, mine, theirs)
	to.rings <- nameTag{theirs, d.user}
	return abrupt{mine.(*net.TCPConn)}, nil
}

// abrupt is a connection that can be dropped.
type abrupt struct{ *net.TCPConn }

func (c abrupt) Reset() { _ = c.SetLinger(0) }

func (d *desk) Accept(ctx context.Context) (net.Conn, string, error) {
	select {
	case c := <-d.rings:
		return c, c.(nameTag).user, nil
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
}

// joined are two phones at one switchboard.
func joined(t *testing.T, change ...func(*sip.Config)) (a, b *phone, by *switchboard) {
	by = &switchboard{}
	at := func(user string) *phone {
		return newPhone(t, user, append(change, func(c *sip.Config) {
			c.Relay, c.AddressFor = by.desk(user), func(netip.Addr) netip.Addr { return loopback }
		})...)
	}
	return at(userA), at(userB), by
}

// by is a target of p that is connected with in that way, at that address.
func (p *phone) by(way sip.Way, at netip.AddrPort) sip.Target {
	return sip.Target{User: p.user, Addr: at, Pin: p.key, Way: way}
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// dumb is one at which connections are taken, and nothing is said.
func dumb(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// everybody is where no connection leads to, whatever routes this machine has.
var everybody = netip.MustParseAddrPort("255.255.255.255:5061")

// A phone that does not answer at its address is called by the relay; it hears of one
// call, from where the caller says that it is.
func TestCallByTheRelay(t *testing.T) {
	a, b, by := joined(t)
	other := newPhone(t, userC)
	for name, tt := range map[string]struct {
		to      sip.Target
		relayed bool
	}{
		"its row says so":     {b.by(sip.Relayed, b.SIPSAddr()), true},
		"nobody is there":     {b.by(sip.Either, nobody(t)), true},
		"somebody is mute":    {b.by(sip.Either, dumb(t)), true},
		"another phone is":    {b.by(sip.Either, other.SIPSAddr()), true},
		"no way leads there":  {b.by(sip.Either, everybody), true},
		"it is where it says": {b.by(sip.Either, b.SIPSAddr()), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := by.dials.Load()
			ca, cb := connect(t, a, b, tt.to)
			here := loopback
			if tt.to.Addr == everybody { // who speaks to it does so from the default route's
				here = ca.Peer().Addr.Addr()
			}
			for who, c := range map[string]*sip.Call{"caller": ca, "called": cb} {
				if got := c.Peer(); got.Relayed != tt.relayed || !got.Secure || got.Addr.Addr() != here {
					t.Errorf("%s: peer %+v; want it relayed: %v, and at %v", who, got, tt.relayed, here)
				}
			}
			if _, from := cb.Offer(); from != here {
				t.Errorf("the offer came from %v", from)
			}
			if dials := by.dials.Load() - before; !tt.relayed && dials != 0 {
				t.Errorf("the relay was asked %d times", dials)
			}
			must(t, cb.Update(patience(t), of(cb, 5002)))
			expect(t, ca, sip.Changed, "")
			expect(t, cb, sip.Changed, "")
			must(t, ca.Hangup(patience(t)))
			expect(t, cb, sip.Ended, sip.ReasonHangup)
			b.isNotCalled()
			sip.CutLinks(a.Agent)
		})
	}
}

// A relayed link is used again, but not by who wants to know whether an address answers.
func TestRelayedLinkIsKept(t *testing.T) {
	a, b, by := joined(t)
	ca, cb := connect(t, a, b, b.by(sip.Relayed, b.SIPSAddr()))
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonHangup)
	for way, want := range map[sip.Way]bool{sip.Relayed: true, sip.Either: true, sip.Direct: false} {
		if got := a.Prepared(b.by(way, nobody(t))); got != want {
			t.Errorf("%v: prepared %v; want %v", way, got, want)
		}
	}
	if err := a.Prepare(patience(t), b.by(sip.Direct, nobody(t))); err == nil {
		t.Error("an address at which nobody is takes connections")
	}
	must(t, a.Prepare(patience(t), b.by(sip.Direct, b.SIPSAddr())))
	if dials := by.dials.Load(); dials != 1 {
		t.Errorf("the relay was asked %d times", dials)
	}
}

// A relayed link is made though somebody mute is connected with at the phone's address.
func TestRelayBesideTheAddress(t *testing.T) {
	a, b, by := joined(t)
	at := dumb(t)
	ctx, enough := context.WithCancel(patience(t))
	ended := make(chan error, 1)
	go func() { ended <- a.Prepare(ctx, b.by(sip.Direct, at)) }()
	for by.dials.Load() < 2 { // the one or the other may be first: by each the link is a new one
		must(t, a.Prepare(patience(t), b.by(sip.Relayed, at)))
		sip.CutLinks(a.Agent)
	}
	enough()
	if err := <-ended; err == nil {
		t.Error("who is mute has shaken hands")
	}
	b.isNotCalled()
}

// Without a relay that knows the phone the call ends as it would have.
func TestNoRelayForIt(t *testing.T) {
	a, b, by := joined(t)
	other := newPhone(t, userC)
	delete(by.desks, userB)
	for reason, to := range map[string]sip.Target{
		sip.ReasonUnreachable: b.by(sip.Either, nobody(t)),
		sip.ReasonWrongPhone:  b.by(sip.Either, other.SIPSAddr()),
	} {
		c := a.dials(to)
		expect(t, c, sip.Ended, reason)
	}
}

// Whoever the relay connects with is no more believed than who is at an address.
func TestRelayToAnother(t *testing.T) {
	a, _, by := joined(t)
	c := newPhone(t, userC, func(c *sip.Config) { c.Relay = by.desk(userC) })
	ca := a.dials(sip.Target{User: userC, Addr: nobody(t), Pin: a.key, Way: sip.Either})
	expect(t, ca, sip.Ended, sip.ReasonWrongPhone)
	c.isNotCalled()
}

// A relayed link that breaks in a call is made again by whoever has something to say.
func TestRelayedLinkBreaks(t *testing.T) {
	for name, first := range map[string]bool{"the caller speaks first": true, "the called speaks first": false} {
		t.Run(name, func(t *testing.T) {
			a, b, by := joined(t)
			ca, cb := connect(t, a, b, b.by(sip.Relayed, nobody(t)))
			mover, other := ca, cb
			if !first {
				mover, other = cb, ca
			}
			for _, c := range []*sip.Call{ca, cb} {
				must(t, c.Retarget(netip.AddrPortFrom(loopback, 9))) // nothing is there: neither can be reached
			}
			must(t, mover.Update(patience(t), of(mover, 6000)))
			expect(t, other, sip.Changed, "")
			by.cut()
			must(t, mover.Update(patience(t), of(mover, 6002)))
			expect(t, other, sip.Changed, "")
			by.cut()
			must(t, other.Hangup(patience(t)))
		})
	}
}

// Who has moved before the answer leaves, and calls anew by another link: the phone that
// rings does not take that for the end.
func TestLeaveByTheRelay(t *testing.T) {
	a, b, _ := joined(t, sip.HurryAnew)
	ca := a.dials(b.by(sip.Relayed, nobody(t)))
	cb := b.isCalled()
	must(t, cb.Ring())
	expect(t, ca, sip.Progress, "")
	begun := time.Now()
	if !ca.Leave() {
		t.Error("a call that is not answered was not left")
	}
	expect(t, cb, sip.Ended, sip.ReasonUnreachable)
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("given up after %v", took)
	}
}

// A phone may take relayed calls of those alone that it knows; who reaches it at its
// address may call it all the same.
func TestRelayedStranger(t *testing.T) {
	var met atomic.Pointer[[32]byte]
	a, b, by := joined(t, func(c *sip.Config) {
		c.Acquainted = func(key [32]byte) bool { return met.Load() != nil && *met.Load() == key }
	})
	ca := a.dials(b.by(sip.Relayed, b.SIPSAddr()))
	expect(t, ca, sip.Ended, sip.ReasonForbidden)
	b.isNotCalled()
	met.Store(&a.key)
	ca, _ = connect(t, a, b, b.by(sip.Relayed, b.SIPSAddr()))
	must(t, ca.Hangup(patience(t)))
	met.Store(nil)
	by.cut()
	ca, _ = connect(t, a, b, b.by(sip.Either, b.SIPSAddr()))
	must(t, ca.Hangup(patience(t)))
}

// Nobody is taken for a relayed phone by an address that he gives himself.
func TestRelayTakesNoDigits(t *testing.T) {
	a, b, _ := joined(t)
	plain := media.NewCall()
	c, err := a.Invite(patience(t), sip.Target{User: "101", Addr: nobody(t), Pin: b.key, Way: sip.Either}, with(plain, 4000))
	must(t, err)
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}

// A mute relay keeps connections open, and knows for how long the other end may be silent.
type muteRelay struct {
	*desk
	asks chan [2]time.Duration // what its connections were told
}

type muteConn struct {
	net.Conn
	asks chan<- [2]time.Duration
}

func (r *muteRelay) Accept(ctx context.Context) (net.Conn, string, error) {
	c, user, err := r.desk.Accept(ctx)
	if err != nil {
		return nil, "", err
	}
	return &muteConn{Conn: c, asks: r.asks}, user, nil
}

func (r *muteRelay) Dial(ctx context.Context, user string) (net.Conn, error) {
	c, err := r.desk.Dial(ctx, user)
	if err != nil {
		return nil, err
	}
	return &muteConn{Conn: c, asks: r.asks}, nil
}

// KeepAlive notes what it is told.
func (c *muteConn) KeepAlive(quiet, look time.Duration) { c.asks <- [2]time.Duration{quiet, look} }

// Read fails as a link does whose other end is silent, where it would be cut.
func (c *muteConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, syscall.ECONNRESET) {
		err = syscall.ETIMEDOUT
	}
	return n, err
}

// While it rings, and no longer, both ends of a relayed link ask whether the other is there.
// A caller that is silent is missed for as long as one that was called directly: what it took to find out
// counts.
func TestRelayedCallerIsWatched(t *testing.T) {
	asksCaller, asksCalled := make(chan [2]time.Duration, 16), make(chan [2]time.Duration, 16)
	by := &switchboard{}
	here := func(r sip.Relay) func(*sip.Config) {
		return func(c *sip.Config) { c.Relay, c.AddressFor = r, func(netip.Addr) netip.Addr { return loopback } }
	}
	a := newPhone(t, userA, here(&muteRelay{by.desk(userA), asksCalled}))
	b := newPhone(t, userB, sip.HurryAnew, here(&muteRelay{by.desk(userB), asksCaller}))
	told := func(asks chan [2]time.Duration, quiet, look time.Duration) {
		t.Helper()
		select {
		case got := <-asks:
			if got != [2]time.Duration{quiet, look} {
				t.Errorf("the relay was told %v; want quiet %v, look %v", got, quiet, look)
			}
		case <-patience(t).Done():
			t.Fatal("the relay was not told how long the caller may be silent")
		}
	}
	ca := a.dials(b.by(sip.Relayed, nobody(t)))
	cb := b.isCalled()
	must(t, cb.Ring())
	told(asksCaller, 5*time.Second, 20*time.Second)
	told(asksCalled, 15*time.Second, 20*time.Second)
	expect(t, ca, sip.Progress, "")
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonCancelled)
	told(asksCaller, 0, 0)
	told(asksCalled, 0, 0)

	ca = a.dials(b.by(sip.Relayed, nobody(t)))
	cb = b.isCalled()
	must(t, cb.Ring())
	told(asksCaller, 5*time.Second, 20*time.Second)
	told(asksCalled, 15*time.Second, 20*time.Second)
	expect(t, ca, sip.Progress, "")
	by.cut()
	expect(t, ca, sip.Ended, sip.ReasonCut)
	expect(t, cb, sip.Ended, sip.ReasonUnreachable) // at once: 17 s are more than HurryAnew leaves
}
