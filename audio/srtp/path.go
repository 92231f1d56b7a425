package srtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/audio"
	"flexphone/audio/seek"
)

const (
	// maxPacket is more than any link carries in one piece.
	maxPacket = 2048
	// mostWaiting is how many packets are kept that came before their keys: two
	// seconds of sound.
	mostWaiting = 128
	// oldTime is how long the keys before the present ones still open packets.
	oldTime = 5 * time.Second
)

// A Conn is a socket, as net.UDPConn is one.
type Conn interface {
	net.Conn
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// A Path is one socket, and what came to be agreed on it. It is an audio.Path. Its
// methods may be called at any time by several goroutines.
type Path struct {
	conn  Conn
	cfg   Config
	spawn func(func(context.Context)) // runs something until the path is closed
	close func() error
	work  sync.WaitGroup

	strangers atomic.Uint64

	mu       sync.Mutex // of what follows; held for short
	closed   bool
	agreed   *Agreement // nil: nothing yet
	expected expected
	follow   follower
	prove    prover
	finder   seek.Seeker
	asks     []netip.AddrPort // for finder
	askers   []asker          // who asked us and knew our password, the last one last
	spoke    netip.AddrPort   // whence the newest packet of the peer's came
	met      bool             // the peer has answered the question that introduces us
	entry    *entry           // at a relay; nil: none
	went     Way              // as the owner was told
	doubt    doubt
	ring     keyring
	early    []*handshake // before the agreement: by the place that has begun it, newest last
	hand     *handshake   // after it: the present or the last one
	failures int          // handshakes in a row
	again    *time.Timer  // the next one is begun then
	out      *outbound
	in, old  *inbound
	oldUntil time.Time
	sdes     SDES     // whose contexts these are
	waiting  [][]byte // packets that came before their keys
	ready    bool     // they may be opened
	fresh    bool     // nothing was heard from this peer
	deadline time.Time
	// inquiries of Reflexive, by their transactions
	inquiries map[[stun.TransactionIDSize]byte]*inquiry

	scratch [maxPacket]byte // of Receive
}

// expected is who may shake hands before there is an agreement.
type expected struct {
	host netip.Addr
	pin  [32]byte
}

// New makes a path of conn, which is the path's from then on. ctx gives values
// alone: the path ends with Close.
func New(ctx context.Context, conn Conn, cfg Config) *Path {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Path{conn: conn, cfg: cfg, fresh: true}
	p.prove.own = newCredentials()
	p.spawn = func(f func(context.Context)) { p.work.Go(func() { f(ctx) }) }
	p.close = sync.OnceValue(func() error {
		p.mu.Lock()
		p.closed = true
		p.drop()
		p.mu.Unlock()
		cancel()
		err := conn.Close()
		p.work.Wait()
		if err != nil {
			return fmt.Errorf("srtp: close: %w", err)
		}
		return nil
	})
	return p
}

// Port returns the socket's port.
func (p *Path) Port() uint16 { return uint16(p.conn.LocalAddr().(*net.UDPAddr).Port) }

// Own returns the credentials by which this end proves where it is, until Renew.
func (p *Path) Own() Credentials {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.prove.own
}

// Fingerprint returns the fingerprint of the certificate that this end shows.
func (p *Path) Fingerprint() Fingerprint { return FingerprintOf(p.cfg.Certificate) }

// Strangers returns how many packets did not open: others than the peer have sent or
// changed them, or somebody has sent them twice.
func (p *Path) Strangers() uint64 { return p.strangers.Load() }

// Close implements audio.Path.
func (p *Path) Close() error { return p.close() }

// Renew forgets the peer and all keys: another phone is called.
func (p *Path) Renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	p.agreed, p.expected, p.follow, p.prove = nil, expected{}, follower{}, prover{own: newCredentials()}
	p.finder, p.entry = seek.Seeker{}, nil
}

// drop forgets all keys. The lock is held.
func (p *Path) drop() {
	p.count(nil)
	for _, h := range p.early {
		h.close()
	}
	if p.again != nil {
		p.again.Stop()
	}
	p.early, p.failures, p.again, p.askers, p.spoke, p.met = nil, 0, nil, nil, netip.AddrPort{}, false
	p.out, p.in, p.old, p.sdes, p.waiting, p.fresh, p.doubt = nil, nil, nil, SDES{}, nil, true, doubt{}
}

// Expect lets the owner of the key pin shake hands from host before the agreement
// is there: the callee begins while it rings. Nothing is heard or said by that.
func (p *Path) Expect(host netip.Addr, pin [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = expected{host.Unmap().WithZone(""), pin}
}

// Start works as agreed from now on; called again it changes that. Where only the
// peer's address differs, or nothing, keys and counts stay as they are. A peer that
// was followed elsewhere stays there unless its description names another place
// than the last one did.
func (p *Path) Start(a Agreement) error {
	if (a.DTLS == nil) == (a.SDES == nil) {
		return errors.New("srtp: start: keys come by DTLS or by SDES")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("srtp: start: %w", net.ErrClosed)
	}
	before := p.agreed
	if before != nil && !sameIdentity(*before, a) {
		p.drop()
	}
	remote := plainPort(a.Remote)
	p.prove.peer = a.Peer
	p.agreed = &a
	if !p.seeking() {
		p.finder = seek.Seeker{}
	}
	switch {
	case before == nil:
		p.settle(remote)
	case plainPort(before.Remote) != remote:
		p.led(remote, time.Now())
	}
	p.seekFrom(before)
	if before == nil {
		p.introduce()
	}
	if a.SDES != nil {
		return p.useSDES(*a.SDES)
	}
	switch h := p.hand; {
	case p.out != nil:
	case h != nil && h.made != nil: // it was done before the answer came
		if err := a.DTLS.judge(h.made.certificate); err != nil {
			h.made = nil
			h.close()
			p.wrong(h)
			p.cfg.Log.Warn("keys of a call not made", "err", err, "again", false)
			return nil
		}
		return p.useDTLS(h.made)
	case p.idle() && !a.DTLS.Active:
		p.seek(0)
	case p.idle(), !h.client && a.DTLS.Active:
		return p.shake()
	}
	return nil
}

// Move leads the path to the peer's new address, as its row says, at the port where
// it was.
func (p *Path) Move(to netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.follow.remote(); at.IsValid() && at.Addr() != to.Unmap() {
		p.led(netip.AddrPortFrom(to.Unmap(), at.Port()), time.Now())
	}
}

// plainPort is a as it can be compared: IPv4 as IPv4.
func plainPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Send implements audio.Path.
func (p *Path) Send(what audio.Protocol, b []byte) error {
	p.mu.Lock()
	out, to, closed := p.out, p.follow.remote(), p.closed
	reports := p.agreed != nil && p.agreed.Mux
	p.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("srtp: send: %w", net.ErrClosed)
	case out == nil || !sendable(to) || what == audio.RTCP && !reports:
		return audio.ErrNoPeer
	}
	if err := out.seal(what, b, func(sealed []byte) error {
		_, err := p.conn.WriteToUDPAddrPort(sealed, to)
		return err
	}); err != nil {
		return fmt.Errorf("srtp: send: %w", err)
	}
	return nil
}

// Receive implements audio.Path.
func (p *Path) Receive(take func(audio.Datagram)) error {
	b := make([]byte, maxPacket)
	for {
		p.look(take)
		n, from, err := p.conn.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("srtp: receive: %w", err)
		}
		p.arrive(b[:n], plainPort(from), time.Now(), take)
	}
}

// look does what is due, and says until when reading may wait.
func (p *Path) look(take func(audio.Datagram)) {
	now := time.Now()
	p.mu.Lock()
	var kept [][]byte
	if p.ready {
		kept, p.waiting, p.ready = p.waiting, nil, false
	}
	ask := p.follow.tick(now)
	out, due := p.due(now)
	elsewhere := p.lead()
	p.tellWay()
	if next := p.follow.due(); due.IsZero() || !next.IsZero() && next.Before(due) {
		due = next
	}
	if due != p.deadline {
		p.deadline = due
		_ = p.conn.SetReadDeadline(due) // fails only when it is closed
	}
	p.mu.Unlock()
	if ask {
		p.ask()
	}
	for _, d := range out {
		if _, err := p.conn.WriteToUDPAddrPort(d.b, d.to); err != nil {
			p.cfg.Log.Debug("place not asked", "at", d.to, "err", err)
		}
	}
	if elsewhere {
		p.repeat()
	}
	for _, b := range kept {
		p.open(b, netip.AddrPort{}, now, take)
	}
}

// ask sends the present trial's question.
func (p *Path) ask() {
	p.mu.Lock()
	to := p.follow.trial
	q, err := p.prove.question()
	p.mu.Unlock()
	if err == nil && sendable(to) {
		_, err = p.conn.WriteToUDPAddrPort(q, to)
	}
	if err != nil {
		p.cfg.Log.Debug("path not asked", "err", err)
	}
}

// arrive takes a datagram.
func (p *Path) arrive(b []byte, from netip.AddrPort, now time.Time, take func(audio.Datagram)) {
	switch kindOf(b) {
	case isSTUN:
		p.arriveSTUN(b, from, now)
	case isDTLS:
		p.arriveDTLS(b, from, now)
	case isRTP, isRTCP:
		p.open(b, from, now, take)
	}
}

// open takes SRTP or SRTCP. A packet that came before its keys is kept, as long as
// it may become clear whose it is; from is zero when it is looked at again.
func (p *Path) open(b []byte, from netip.AddrPort, now time.Time, take func(audio.Datagram)) {
	what := audio.RTP
	if kindOf(b) == isRTCP {
		what = audio.RTCP
	}
	p.mu.Lock()
	if p.old != nil && now.After(p.oldUntil) {
		p.old = nil
	}
	in, old := p.in, p.old
	spoils := old != nil || p.hand != nil && !p.hand.done // it may have to be tried again
	p.mu.Unlock()
	var o opened
	err := audio.ErrNoPeer
	if in != nil {
		try := b
		if spoils {
			try = p.scratch[:copy(p.scratch[:], b)]
		}
		if o, err = in.open(what, try); err != nil && old != nil {
			o, err = old.open(what, p.scratch[:copy(p.scratch[:], b)])
		}
	}
	p.mu.Lock()
	if err != nil {
		p.shut(b, what, from, now)
		p.mu.Unlock()
		return
	}
	renew := p.doubt.opened(o.jumped, now)
	ask := false
	if o.newest && from.IsValid() && p.prove.peer.usable() {
		ask = p.heard(from, now)
	}
	fresh := p.fresh && what == audio.RTP
	p.fresh = p.fresh && !fresh
	if renew {
		p.renew()
	}
	p.mu.Unlock()
	if ask {
		p.ask()
	}
	take(audio.Datagram{Protocol: what, Bytes: o.bytes, At: now, NewPeer: fresh})
}

// shut: b did not open. The lock is held.
func (p *Path) shut(b []byte, what audio.Protocol, from netip.AddrPort, now time.Time) {
	if !from.IsValid() || p.agreed == nil && !p.mayShake(from) {
		p.strangers.Add(1)
		return
	}
	home := p.agreed == nil || p.atHome(from)
	if h := p.hand; home && len(p.waiting) < mostWaiting && (p.in == nil || h != nil && !h.done) {
		p.waiting = append(p.waiting, slices.Clone(b))
		return
	}
	p.strangers.Add(1)
	if home && what == audio.RTP && p.doubt.shut(now) {
		p.renew()
	}
}
