package sip

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errWrongKey: the phone at that address is not the one that was meant.
var errWrongKey = errors.New("sip: check peer: its key is not the pinned one")

// A link is a TLS connection to a phone whose key is known.
type link struct {
	net.Conn
	fingerprint   [32]byte // SHA-256 of the peer's SubjectPublicKeyInfo
	local, remote netip.AddrPort
	dialled       bool
	user          string          // whom it is relayed to or from; "": it is direct
	stream        *stream         // what it runs over, unless it is dialled
	calls         int             // that use it, guarded by links.mu
	rests         int64           // when the last of them let it go, on the clock of links, likewise
	quiets        []time.Duration // of who watches it, likewise
	forget        func()
	closed        chan struct{}
	shut          atomic.Bool // the peer has closed it; else it was cut
	silent        atomic.Bool // it was cut since nothing came
}

// Read notes how the link ends. A program that is ended closes it; a phone that has
// moved cannot, and one that calls anew resets it.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		l.shut.Store(true)
	case errors.Is(err, syscall.ETIMEDOUT):
		l.silent.Store(true)
	}
	return n, err
}

// Close closes the link. It may be called more than once.
func (l *link) Close() error {
	l.forget()
	return l.Conn.Close()
}

// reset closes the link without waiting for the peer to have had what was sent on it.
func (l *link) reset() {
	if secure, ok := l.Conn.(*tls.Conn); ok {
		if c, ok := secure.NetConn().(*net.TCPConn); ok {
			_ = c.SetLinger(0) // else it is closed as any other
			c.Close()
		} else if c, ok := secure.NetConn().(*relayedConn); ok {
			c.Reset()
		}
	}
	l.Close()
}

func (l *link) alive() bool {
	select {
	case <-l.closed:
		return false
	default:
		return true
	}
}

// here reports whether the kernel would still use the link's own address. A relayed
// one has none.
func (l *link) here() bool {
	if l.user != "" {
		return true
	}
	now, err := localFor(l.remote)
	return err == nil && now == l.local.Addr()
}

// links makes TLS connections, checks whom they end at, and hands them to
// sipgo's transport, to which it is a net.Listener.
type links struct {
	tcp     net.Listener // nil: takes no connections
	relay   Relay        // nil: there is none
	by      *relayListener
	server  *tls.Config
	client  *tls.Config
	timers  timers
	known   *acquaintances
	log     *slog.Logger
	handed  chan handed
	closing chan struct{}
	close   func()
	taken   chan struct{} // of the connection that Accept returned last

	mu       sync.Mutex
	byRemote map[netip.AddrPort]*link
	dialling map[spot]*dialling
	clock    int64 // counts links that are let go
}

type handed struct {
	*link
	taken chan struct{} // closed when sipgo reads from it
}

func newLinks(id tls.Certificate, tcp net.Listener, relay Relay, t timers, known *acquaintances, log *slog.Logger) *links {
	l := &links{
		tcp: tcp, timers: t, known: known, log: log,
		handed:   make(chan handed),
		closing:  make(chan struct{}),
		byRemote: make(map[netip.AddrPort]*link),
		dialling: make(map[spot]*dialling),
	}
	l.close = sync.OnceFunc(func() { close(l.closing) })
	l.relay, l.by = relay, newRelayListener()
	// Device certificates are self-signed: what proves a phone is its key, so
	// chain and names mean nothing and the key is compared instead.
	l.client = &tls.Config{Certificates: []tls.Certificate{id}, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	l.server = &tls.Config{Certificates: []tls.Certificate{id}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true}
	return l
}

// Accept gives sipgo the next connection, whoever opened it.
func (l *links) Accept() (net.Conn, error) {
	if l.taken != nil { // sipgo has put the last one into its pool
		close(l.taken)
		l.taken = nil
	}
	select {
	case h := <-l.handed:
		l.taken = h.taken
		return h.link, nil
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

// Close makes Accept return and closes every link.
func (l *links) Close() error {
	l.close()
	l.mu.Lock()
	open := make([]*link, 0, len(l.byRemote))
	for _, k := range l.byRemote {
		open = append(open, k)
	}
	l.mu.Unlock()
	for _, k := range open {
		k.Close()
	}
	return nil
}

// Addr is where others connect to; sipgo reads the port from it.
func (l *links) Addr() net.Addr {
	if l.tcp == nil {
		return &net.TCPAddr{}
	}
	return l.tcp.Addr()
}

// accept takes connections until the listener is closed.
func (l *links) accept(ctx context.Context, from net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := from.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Warn("sip: no TLS connection accepted", "err", err)
			select { // out of file descriptors: give them time to come back
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		open.Go(func() {
			remote, user := addrPortOf(c.RemoteAddr()), userOf(c)
			if user == "" && isRelayed(remote.Addr()) { // nobody has such an address
				c.Close()
				return
			}
			secure := tls.Server(c, l.server)
			err := l.shake(ctx, secure, remote)
			if err == nil {
				_, err = l.add(secure, remote, user, false)
			}
			if err != nil {
				l.log.Debug("sip: TLS connection refused", "from", c.RemoteAddr(), "err", err)
			}
		})
	}
}

// connect connects by TCP, unless it becomes known that nobody is there.
func connect(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel(nil)
	looking.Go(func() {
		if err := absent(ctx, addr.Addr()); err != nil {
			cancel(err)
		}
	})
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if gone := context.Cause(ctx); err != nil && errors.Is(gone, errAbsent) {
		return nil, gone
	}
	return c, err
}

func fingerprintOf(s tls.ConnectionState) [32]byte {
	if len(s.PeerCertificates) == 0 {
		return [32]byte{}
	}
	return sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

// shake shakes hands on c. One that fails is closed.
func (l *links) shake(ctx context.Context, c *tls.Conn, remote netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, l.timers.connect)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		c.Close()
		if errors.Is(err, errWrongKey) {
			return errWrongKey
		}
		return fmt.Errorf("sip: secure connection with %v: %w", remote, err)
	}
	return nil
}

// add gives c, on which hands are shaken, to sipgo. user is of whom it is relayed to
// or from.
func (l *links) add(c *tls.Conn, remote netip.AddrPort, user string, dialled bool) (*link, error) {
	if err := endStalled(c.NetConn(), l.timers.stall); err != nil {
		l.log.Debug("sip: connection may stall for long", "with", remote, "err", err)
	}
	k := &link{
		Conn: c, fingerprint: fingerprintOf(c.ConnectionState()), dialled: dialled,
		local: addrPortOf(c.LocalAddr()), remote: remote, user: user, closed: make(chan struct{}),
	}
	k.forget = sync.OnceFunc(func() {
		close(k.closed)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.byRemote[remote] == k {
			delete(l.byRemote, remote)
		}
	})
	if dialled {
		k.calls = 1
	} else {
		k.idle()
	}
	if s, ok := c.NetConn().(*stream); ok {
		k.stream = s
		s.speaks()
		s.known.Store(l.known.of(k.fingerprint) == known)
	}
	l.mu.Lock()
	l.byRemote[remote] = k
	l.mu.Unlock()
	h := handed{k, make(chan struct{})}
	select {
	case l.handed <- h:
	case <-l.closing:
		k.Close()
		return nil, net.ErrClosed
	}
	select {
	case <-h.taken:
	case <-l.closing:
	}
	return k, nil
}

// from is the link on which a message from remote came; nil if there is none.
func (l *links) from(remote netip.AddrPort) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byRemote[remote]
}
