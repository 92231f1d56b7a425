package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"flexphone/internal/sipcheck"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/sockets"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// What may be taken of this process.
const (
	perSource      = 50 // datagrams and messages a second of one network
	perSourceBurst = 200
	atOnce         = 512   // requests being answered; more are dropped
	maxStreams     = 16384 // TCP and TLS connections; one of TLS takes 24 KiB
	maxStreamsEach = 128   // of them from one network, such as an office behind one address
	streamIdle     = 10 * time.Minute
	streamPause    = 10 * time.Second // within a message, a handshake or a write
	guessRate      = 0.1              // wrong passwords a second of one network
	guessBurst     = 10
	complaintRate  = 0.1 // log lines a second about a disk that takes nothing
)

// Rows is what the server needs of a store.
type Rows interface {
	Resolve(q wire.Query) (wire.Row, bool)
	Phone(mac wire.MAC) (store.Phone, bool)
	Binding(mac wire.MAC) (store.Binding, bool)
	Bind(ctx context.Context, mac wire.MAC, b store.Binding, lifetime time.Duration) (wire.Row, error)
}

// Options say where a Server listens and by what rules.
type Options struct {
	Listen string // host:port, UDP and TCP; empty: neither
	TLS    string // host:port; empty: no TLS
	// Cert says which certificate a connection is shown, for TLS.
	Cert   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Policy trust.Policy
	Rows   Rows
	Log    *slog.Logger
	// Count is called with each request's method and answer, for metrics; code
	// 0: dropped. It may be nil.
	Count func(method string, code int)
}

// A Server answers SIP phones.
type Server struct {
	rows       Rows
	policy     trust.Policy
	log        *slog.Logger
	count      func(string, int)
	sign       signer
	sources    *trust.Limiter[trust.Network]
	guesses    *trust.Limiter[trust.Network]
	complaints *trust.Limiter[struct{}]
	busy       chan struct{}
	udp        *net.UDPConn
	asked      *sockets.Sources // of udp
	streams    []net.Listener   // TCP, TLS
	at         []netip.AddrPort // of all of them

	mu  sync.Mutex
	all map[net.Conn]struct{}
}

// Listen opens what o asks for.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{
		rows: o.Rows, policy: o.Policy, log: o.Log, count: o.Count, sign: newSigner(),
		sources:    trust.NewLimiter[trust.Network](perSource, perSourceBurst),
		guesses:    trust.NewLimiter[trust.Network](guessRate, guessBurst),
		complaints: trust.NewLimiter[struct{}](complaintRate, 1),
		busy:       make(chan struct{}, atOnce),
		all:        map[net.Conn]struct{}{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.count == nil {
		s.count = func(string, int) {}
	}
	if err := s.listen(ctx, o); err != nil {
		s.shut()
		return nil, fmt.Errorf("sip: %w", err)
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, o Options) error {
	connections := trust.NewConnections(mostStreams(), maxStreamsEach, o.Policy.Exempt)
	limit := func(l net.Listener) net.Listener { return connections.Listener(l, func() { s.count("", 0) }) }
	if o.Listen != "" {
		tcp, udp, err := sockets.Both(ctx, o.Listen)
		if err != nil {
			return err
		}
		s.streams, s.udp = append(s.streams, limit(tcp)), udp
		if s.asked, err = sockets.SourcesOf(udp); err != nil {
			return err
		}
	}
	if o.TLS != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.TLS)
		if err != nil {
			return fmt.Errorf("listen on TLS %s: %w", o.TLS, err)
		}
		s.streams = append(s.streams, tls.NewListener(limit(l), &tls.Config{
			GetCertificate: o.Cert, MinVersion: tls.VersionTLS12,
		}))
	}
	for _, l := range s.streams {
		at := l.Addr().(*net.TCPAddr).AddrPort()
		s.at = append(s.at, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	return nil
}

// Addrs returns where it listens: UDP and TCP first, then TLS, as asked for.
func (s *Server) Addrs() (out []net.Addr) {
	for _, l := range s.streams {
		out = append(out, l.Addr())
	}
	return out
}

// ours reports whether at is one of this server's own sockets.
func (s *Server) ours(at netip.AddrPort) bool {
	for _, mine := range s.at {
		if mine == at || mine.Port() == at.Port() && mine.Addr().IsUnspecified() && local(at.Addr()) {
			return true
		}
	}
	return false
}

// local reports whether a is an address of this machine.
func local(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(l net.Addr) bool {
		p, err := netip.ParsePrefix(l.String())
		return err == nil && p.Addr() == a
	})
}

// Serve answers until ctx is done, and waits for its goroutines.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer s.shut()
	ended := make(chan error, 1+len(s.streams))
	begin := func(part func() error) { running.Go(func() { ended <- part() }) }
	if s.udp != nil {
		begin(func() error { return s.datagrams(ctx, &running) })
	}
	for _, l := range s.streams {
		begin(func() error { return s.accept(ctx, l, &running) })
	}
	err := <-ended
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("sip: %w", err)
}

// Close closes the sockets of a Server that was never asked to serve.
func (s *Server) Close() { s.shut() }

// shut closes everything.
func (s *Server) shut() {
	if s.udp != nil {
		s.udp.Close()
	}
	for _, l := range s.streams {
		l.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		c.Close()
	}
}

// allow reports whether a network may have one more message answered.
func (s *Server) allow(at trust.Network) bool {
	return s.policy.Exempt.Has(at) || s.sources.Allow(at, time.Now())
}

// datagrams answers what comes by UDP.
func (s *Server) datagrams(ctx context.Context, running *sync.WaitGroup) error {
	buf, info := make([]byte, 1<<16), make([]byte, sockets.ControlRoom)
	for {
		n, k, _, from, err := s.udp.ReadMsgUDPAddrPort(buf, info)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP message about an earlier answer
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if n > maxMessage || !s.allow(trust.NetworkOf(from.Addr())) {
			s.count("", 0)
			continue
		}
		select {
		case s.busy <- struct{}{}:
		default:
			s.count("", 0)
			continue
		}
		text, by := append([]byte(nil), buf[:n]...), s.asked.Of(info[:k])
		running.Go(func() {
			defer func() { <-s.busy }()
			if out, to := s.answer(ctx, text, from); out != nil {
				_ = sockets.Answer(s.udp, out, to, by) // lost like any datagram may be
			}
		})
	}
}

// answer reads one datagram and says what goes where.
func (s *Server) answer(ctx context.Context, text []byte, from netip.AddrPort) ([]byte, netip.AddrPort) {
	m, err := sipcheck.Read(text)
	if err != nil {
		s.count("", 0)
		return nil, netip.AddrPort{}
	}
	return s.respond(ctx, m, from)
}

// respond answers one message; a response of somebody's needs none.
func (s *Server) respond(ctx context.Context, m *sipcheck.Message, from netip.AddrPort) ([]byte, netip.AddrPort) {
	if !m.IsRequest() {
		return nil, netip.AddrPort{}
	}
	return s.reply(m, s.handle(ctx, m, from), from)
}

// reply writes how a request is answered, and says where that goes.
func (s *Server) reply(req *sipcheck.Message, r reply, from netip.AddrPort) ([]byte, netip.AddrPort) {
	s.count(req.Method, r.code)
	if r.code == 0 {
		return nil, netip.AddrPort{}
	}
	return req.Answer(from, r.code, reasons[r.code], append(r.headers, header{Name: "Server", Value: serverName})...), req.Way(from)
}

// accept takes connections of one listener.
func (s *Server) accept(ctx context.Context, l net.Listener, running *sync.WaitGroup) error {
	for {
		c, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				c.Close()
			}
			return net.ErrClosed
		}
		if err != nil { // out of descriptors, say: others may go
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		s.keep(c, true)
		running.Go(func() {
			defer s.keep(c, false)
			defer c.Close()
			s.stream(ctx, c, from)
		})
	}
}

// keep remembers which connections there are, to close them at the end.
func (s *Server) keep(c net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open {
		s.all[c] = struct{}{}
	} else {
		delete(s.all, c)
	}
}

// mostStreams is how many connections there may be: maxStreams, but at most one
// for every other descriptor of this process, since the rows want some as well.
func mostStreams() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur/2 > maxStreams {
		return maxStreams
	}
	return int(files.Cur / 2)
}

// stream answers what comes by one connection, one after the other, until it
// ends, is silent for too long, or says what is no SIP.
func (s *Server) stream(ctx context.Context, c net.Conn, from netip.AddrPort) {
	if t, ok := c.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(ctx, streamPause)
		err := t.HandshakeContext(ctx)
		cancel()
		if err != nil {
			return
		}
	}
	at := trust.NetworkOf(from.Addr())
	buf := make([]byte, 4096)
	var text []byte      // of the message that is not whole yet
	begun := time.Time{} // when that began
	for {
		until := time.Now().Add(streamIdle)
		if len(text) > 0 {
			until = begun.Add(streamPause)
		}
		if c.SetReadDeadline(until) != nil {
			return
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if len(text) == 0 && strings.Trim(string(buf[:n]), "\r\n") == "" { // a keep-alive: RFC 5626, section 3.5.1
			if !s.allow(at) || n == 4 && !write(c, []byte("\r\n")) {
				return
			}
			continue
		}
		if len(text) == 0 {
			begun = time.Now()
		}
		text = append(text, buf[:n]...)
		rest, ok := s.messages(ctx, c, text, from)
		if !ok {
			return
		}
		if len(rest) < len(text) { // the next one has begun just now
			begun = time.Now()
		}
		text = append(text[:0], rest...)
	}
}

// messages answers the whole messages at the beginning of what a connection has
// brought, and returns what is left of it. ok is false when nothing more is to be
// read from it: where the next message begins is not known, nobody reads the
// answers, or it is too much.
func (s *Server) messages(ctx context.Context, c net.Conn, text []byte, from netip.AddrPort) (rest []byte, ok bool) {
	at := trust.NetworkOf(from.Addr())
	for len(text) > 0 {
		n, err := sipcheck.Next(text)
		if err != nil {
			s.refuse(c, text[:n], from)
			return nil, false
		}
		if n == 0 {
			return bytes.TrimLeft(text, "\r\n"), len(text) <= maxMessage
		}
		m, err := sipcheck.Read(text[:n])
		if err != nil || n > maxMessage || !s.allow(at) {
			return nil, false
		}
		if out, _ := s.respond(ctx, m, from); out != nil && !write(c, out) {
			return nil, false
		}
		text = text[n:]
	}
	return nil, true
}

// refuse answers a request in a stream that does not say where it ends
// (RFC 3261, section 18.3), of which text is the header, where it is one.
func (s *Server) refuse(c net.Conn, text []byte, from netip.AddrPort) {
	m, err := sipcheck.Read(text)
	if err != nil || !m.IsRequest() {
		s.count("", 0)
		return
	}
	if out, _ := s.reply(m, answer(400), from); out != nil {
		write(c, out)
	}
}

// write reports whether b is on its way.
func write(c net.Conn, b []byte) bool {
	if c.SetWriteDeadline(time.Now().Add(streamPause)) != nil {
		return false
	}
	_, err := c.Write(b)
	return err == nil
}
