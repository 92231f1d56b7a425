package exchange

import (
	"container/list"
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
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	"flexphone/registry-client/wire"
)

// A Server answers on one UDP port.
type Server struct {
	port    *port
	options []dtls.ServerOption
	handler Handler
	limits  Limits
	count   Counters
	log     *slog.Logger
	crier   *crier
	hub     *hub

	running sync.WaitGroup

	mu     sync.Mutex
	order  *list.List // of *session, the longest silent first
	byKey  map[wire.Fingerprint][]*session
	closed bool
}

type session struct {
	conn *dtls.Conn
	peer Peer
	at   *list.Element
}

// Listen opens address (host:port, UDP) and shows cert to who comes.
func Listen(ctx context.Context, address string, cert tls.Certificate, h Handler, l Limits, count Counters, log *slog.Logger) (*Server, error) {
	log = discard(log)
	s := &Server{
		handler: h, limits: l, count: count, log: log, crier: newCrier(log), hub: newHub(),
		order: list.New(), byKey: map[wire.Fingerprint][]*session{},
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
	if s.port, err = openPort(ctx, address, l.Handshakes, s.dropped); err != nil {
		return nil, fmt.Errorf("exchange: listen on %s: %w", address, err)
	}
	return s, nil
}

// dropped counts and logs a datagram that nobody got.
func (s *Server) dropped(why string, from netip.AddrPort) {
	s.count.Dropped(why)
	s.crier.say(why, "from", from.String())
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
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	defer s.running.Wait()
	defer s.shut()
	return s.port.read(func(l *line) { s.running.Go(func() { s.serve(ctx, l) }) })
}

// shut closes all sessions, and then the port: a closing session still says
// so to its peer.
func (s *Server) shut() {
	s.mu.Lock()
	s.closed = true
	var all []*session
	for e := s.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*session))
	}
	s.mu.Unlock()
	for _, x := range all {
		x.conn.Close()
	}
	s.port.close()
}

// serve shakes hands and then reads one session to its end.
func (s *Server) serve(ctx context.Context, l *line) {
	conn, peer, err := s.handshake(ctx, l)
	s.port.settled(l)
	if ctx.Err() == nil {
		s.count.Handshake(err == nil)
	}
	if err != nil {
		l.Close()
		if ctx.Err() == nil {
			s.crier.say("handshake", "from", l.first.String(), "err", err)
		}
		return
	}
	defer conn.Close()
	me := &session{conn: conn, peer: peer}
	if !s.admit(me) {
		return
	}
	s.count.Session(1)
	defer s.count.Session(-1)
	defer s.dismiss(me)
	talk := newConversation(s.handler, s.hub, s.limits, peer, loud{s.count, s.crier, peer}, func(b []byte) {
		_, _ = conn.Write(b) // lost like any datagram may be
	})
	defer talk.end()
	buf := make([]byte, 2048)
	from := func() netip.AddrPort { return remote(conn) }
	for {
		if err := conn.SetReadDeadline(time.Now().Add(s.limits.Idle)); err != nil {
			return
		}
		n, err := conn.Read(buf)
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() && !errors.Is(err, context.DeadlineExceeded) {
				continue
			}
			return
		}
		s.heard(me)
		talk.receive(ctx, buf[:n], from)
	}
}

func (s *Server) handshake(ctx context.Context, l *line) (*dtls.Conn, Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Handshake)
	defer cancel()
	options := append(s.options[:len(s.options):len(s.options)], dtls.WithConnectionIDGenerator(func() []byte { return l.id[:] }))
	conn, err := dtls.ServerWithOptions(l, net.UDPAddrFromAddrPort(l.first), options...)
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

func remote(conn net.Conn) netip.AddrPort {
	if a, ok := conn.RemoteAddr().(*net.UDPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}

// admit makes room for x, and reports whether the server still runs.
func (s *Server) admit(x *session) bool {
	var out []*session
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	x.at = s.order.PushBack(x)
	own := append(s.byKey[x.peer.Key], x)
	s.byKey[x.peer.Key] = own
	if len(own) > s.limits.SessionsEach {
		out = append(out, own[0]) // a phone that has started anew
	}
	if s.order.Len() > s.limits.Sessions {
		out = append(out, s.order.Front().Value.(*session))
	}
	s.mu.Unlock()
	for _, old := range out {
		s.count.Dropped("session")
		old.conn.Close() // its own goroutine dismisses it
	}
	return true
}

func (s *Server) heard(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order.MoveToBack(x.at)
}

func (s *Server) dismiss(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order.Remove(x.at)
	own := s.byKey[x.peer.Key]
	for i, y := range own {
		if y == x {
			own = append(own[:i:i], own[i+1:]...)
			break
		}
	}
	if len(own) == 0 {
		delete(s.byKey, x.peer.Key)
	} else {
		s.byKey[x.peer.Key] = own
	}
}
