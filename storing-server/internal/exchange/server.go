package exchange

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

// A Server answers on one UDP port.
type Server struct {
	endpoint
	port    *port
	options []dtls.ServerOption
	log     *slog.Logger
	ending  sync.Once
	keep    string // file that sessions are kept in over a restart; empty: none
	keeping []byte // key that they are sealed by; nil: none

	running sync.WaitGroup
	shaking sync.WaitGroup // handshakes; none begins once closed is set

	mu     sync.Mutex
	all    sessionList
	again  bucket // handshakes at the limit of sessions, of whom may have one
	byKey  map[wire.Fingerprint][]*session
	closed bool
}

// Listen opens address (host:port, UDP) and shows cert to who comes.
func Listen(ctx context.Context, address string, cert tls.Certificate, h Handler, l Limits, count Counters, log *slog.Logger) (*Server, error) {
	log = discard(log)
	s := &Server{
		endpoint: endpoint{handler: h, limits: l, count: count, limitedLog: newLimitedLog(log), hub: newHub()},
		log:      log, keeping: keepingKey(cert.PrivateKey), byKey: map[wire.Fingerprint][]*session{},
		options: []dtls.ServerOption{
			dtls.WithCertificates(cert),
			dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
				_, err := peerOf(raw)
				return err
			}),
		},
	}
	var err error
	if s.port, err = openPort(ctx, address, l.Handshakes, s.dropped, s.room); err != nil {
		return nil, fmt.Errorf("exchange: listen on %s: %w", address, err)
	}
	return s, nil
}

// dropped counts and logs a datagram that nobody got.
func (s *Server) dropped(why string, from netip.AddrPort) {
	s.count.Dropped(why)
	s.limitedLog.say(why, "from", from.String())
}

// peerOf reads who shows a certificate. That it holds the key is proved by the
// handshake; no authority is asked.
func peerOf(raw [][]byte) (Peer, error) {
	if len(raw) == 0 {
		return Peer{}, errors.New("exchange: read certificate: none shown")
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return Peer{}, fmt.Errorf("exchange: read certificate: %w", err)
	}
	switch cert.PublicKey.(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey:
	default:
		return Peer{}, fmt.Errorf("exchange: read certificate: a key of type %T", cert.PublicKey)
	}
	for _, u := range cert.URIs {
		if mac, err := wire.ParseURN(u.String()); err == nil {
			return Peer{Key: sha256.Sum256(cert.RawSubjectPublicKeyInfo), MAC: mac}, nil
		}
	}
	return Peer{}, errors.New("exchange: read certificate: it names no urn:dev:mac")
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.port.conn.LocalAddr() }

// Changed sends notifications to who observes keys. It does not wait for them.
func (s *Server) Changed(keys []wire.Query) { s.hub.changed(keys) }

// Serve answers until ctx is done; then it closes all sessions, tells the
// peers so, and waits for its goroutines.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	defer s.running.Wait()
	defer s.shut()
	defer cancel() // also when the socket fails
	s.running.Go(s.port.out.run)
	s.running.Go(func() { s.hub.run(ctx) })
	s.running.Go(func() { s.expire(ctx) })
	begin := func(l *handshake) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			l.Close()
			s.port.freeSlot(l)
			return
		}
		s.shaking.Go(func() { s.serve(ctx, l) })
	}
	loops := max(1, s.limits.Loops)
	failed := make(chan error, loops)
	for range loops {
		s.running.Go(func() { failed <- s.port.read(begin) })
	}
	return <-failed // the others end with the socket
}

// shut keeps all sessions for the next start, or closes them, and those that
// are about to be ones, and then the port: a closing session still says so to
// its peer. ctx of Serve is done. It does so once; who calls it again waits.
func (s *Server) shut() { s.ending.Do(s.shutAll) }

func (s *Server) shutAll() {
	s.mu.Lock()
	s.closed = true
	var all []*session
	for x := s.all.front; x != nil; x = x.next {
		all = append(all, x)
	}
	s.mu.Unlock()
	if s.keep != "" {
		if err := s.keepAll(all); err != nil {
			s.log.Error("sessions end", "err", err)
		}
	}
	for _, x := range all {
		s.end(x) // without a word, where it is kept
	}
	s.shaking.Wait()
	s.port.close()
}

// serve shakes hands, waits until the client has shown that it knows of the
// end, and then makes it a session.
func (s *Server) serve(ctx context.Context, l *handshake) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Handshake)
	defer cancel()
	defer s.port.freeSlot(l)
	conn, peer, err := s.handshake(ctx, l)
	stopped := errors.Is(ctx.Err(), context.Canceled)
	if !stopped {
		s.count.Handshake(err == nil)
	}
	if err != nil {
		l.Close()
		if !stopped {
			s.limitedLog.say("handshake", "from", l.first.peer.String(), "err", err)
		}
		return
	}
	defer l.Close()
	defer conn.Close()
	secret, err := record.Take(conn)
	if err != nil {
		s.limitedLog.say("handshake", "from", l.first.peer.String(), "err", err)
		return
	}
	l.finished(secret)
	select {
	case <-l.proven:
	case <-s.port.spare:
	case <-l.done: // the client has closed it
		return
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		// It is silent, and may have its reasons.
	}
	l.detach()
	conn.Close()
	if err := secret.Succeed(conn); err != nil {
		s.limitedLog.say("handshake", "from", l.first.peer.String(), "err", err)
		return
	}
	x := &session{server: s, id: l.id, first: l.first.peer, secret: *secret, path: pathTo(l.first, secret.Sealed(pingLength))}
	x.begin(&s.endpoint, peer, x)
	if s.admit(x) {
		if old := s.port.establish(l, x); old != nil {
			s.end(old)
		}
		s.mu.Lock()
		listed := x.listed
		s.mu.Unlock()
		if !listed { // it had to give way before it could be found
			s.port.unroute(x)
		}
	}
}

func (s *Server) handshake(ctx context.Context, l *handshake) (*dtls.Conn, Peer, error) {
	options := append(s.options[:len(s.options):len(s.options)], dtls.WithConnectionIDGenerator(func() []byte { return l.id[:] }))
	conn, err := dtls.ServerWithOptions(l, net.UDPAddrFromAddrPort(l.first.peer), options...)
	if err != nil {
		return nil, Peer{}, fmt.Errorf("exchange: handshake: %w", err)
	}
	l.conn = conn
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, Peer{}, fmt.Errorf("exchange: handshake: %w", err)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		conn.Close()
		return nil, Peer{}, errors.New("exchange: handshake: no state")
	}
	peer, err := peerOf(state.PeerCertificates)
	if err != nil {
		conn.Close()
	}
	if v, ok := s.handler.(Voucher); ok && err == nil {
		peer.Issuer = v.Issuer(state.PeerCertificates)
	}
	return conn, peer, err
}

// room reports whether a handshake may become a session. Who has one already is
// not known before the handshake: of those that begin when there is no room, a
// few a second are let try.
func (s *Server) room() bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.n < s.limits.Sessions || s.silent(s.all.front, now) || s.again.take(now, s.limits.Again, againBurst*s.limits.Again)
}

// againBurst is how many seconds' worth of Limits.Again may come at once.
const againBurst = 5

// silent reports whether x has missed a keep-alive; s.mu is held.
func (s *Server) silent(x *session, now time.Time) bool {
	return x != nil && now.Sub(x.heard) >= s.limits.KeepAlive
}

// admit makes room for x, and reports whether there is any: the same key's
// oldest session gives way to its newest, and who has missed a keep-alive to
// anybody. Nobody else does: a phone that is thrown out comes back, and throws
// out another.
func (s *Server) admit(x *session) bool {
	var out *session
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	own := s.byKey[x.peer.Key]
	full := s.all.n >= s.limits.Sessions
	switch {
	case len(own) > 0 && (full || len(own) >= s.limits.SessionsEach):
		out = own[0] // a phone that has started anew
	case full && s.silent(s.all.front, now):
		out = s.all.front
	case full:
		s.mu.Unlock()
		s.dropped("full", x.first)
		x.turnAway()
		return false
	}
	x.heard = now
	s.all.add(x)
	s.byKey[x.peer.Key] = append(own, x)
	s.mu.Unlock()
	s.count.Session(1)
	if out != nil {
		s.count.Dropped("session")
		s.end(out)
	}
	return true
}

// hear notes that x is alive.
func (s *Server) hear(x *session) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.listed {
		x.heard = now
		s.all.remove(x)
		s.all.add(x)
	}
}

// end closes x, once.
func (s *Server) end(x *session) {
	s.mu.Lock()
	if !x.listed {
		s.mu.Unlock()
		return
	}
	s.all.remove(x)
	own := s.byKey[x.peer.Key]
	if i := slices.Index(own, x); i >= 0 {
		own = slices.Delete(own, i, i+1)
	}
	if len(own) == 0 {
		delete(s.byKey, x.peer.Key)
	} else {
		s.byKey[x.peer.Key] = own
	}
	s.mu.Unlock()
	s.port.unroute(x)
	x.close()
	s.count.Session(-1)
}

// expire ends sessions that have been silent for too long, until ctx is done.
func (s *Server) expire(ctx context.Context) {
	timer := time.NewTimer(s.limits.Idle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		for {
			s.mu.Lock()
			x, left := s.all.front, s.limits.Idle
			if x != nil {
				left = time.Until(x.heard.Add(s.limits.Idle))
			}
			s.mu.Unlock()
			if left > 0 {
				timer.Reset(left)
				break
			}
			s.end(x)
		}
	}
}
