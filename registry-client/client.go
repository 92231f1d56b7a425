package registry

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

const (
	// requestMost bounds a request whose context has no deadline: about what
	// RFC 7252 calls MAX_TRANSMIT_SPAN at our ACK_TIMEOUT.
	requestMost = 30 * time.Second
	// handshakeMost bounds one handshake: four flights of a second each, with
	// room for two losses. Where there is another server to try, it gets
	// handshakeEach.
	handshakeMost = 10 * time.Second
	handshakeEach = 3 * time.Second
	// aliveFor is how long a message of the server proves that it is there.
	aliveFor = 1 * time.Second
)

// ErrNoServer: nobody has said yet where the storing server is.
var ErrNoServer = errors.New("no storing server is known")

// A Resolver looks hosts up. net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A Config says how a Client works.
type Config struct {
	Server   string // as SetServer takes it; may be empty until then
	Identity Identity
	Pins     Pins
	Log      *slog.Logger

	// What follows has defaults.
	Resolver   Resolver      // net.DefaultResolver
	Listen     ListenFunc    // a UDP socket on an ephemeral port
	AckTimeout time.Duration // 1 s, RFC 7252's ACK_TIMEOUT
}

// A Client makes requests of one storing server, over one DTLS session that it
// keeps while addresses change. It repeats a request until it is answered or
// its context is done, and never longer than 30 s; what must arrive is the
// Announcer's business. It is safe for concurrent use.
type Client struct {
	cfg  Config
	log  *slog.Logger
	lost chan struct{} // one slot: a session ended by itself

	dialing chan struct{} // held by whoever makes a session

	mu       sync.Mutex
	servers  []string // host:port each; any of them answers for any phone
	server   string   // the one of them whose turn it is; empty when none is known
	turn     int      // counts the changes of server
	local    netip.Addr
	session  *session
	sessions uint64 // made so far
	closed   bool
	watchers sync.WaitGroup
}

// NewClient returns a client that has sent nothing yet.
func NewClient(cfg Config) (*Client, error) {
	if len(cfg.Identity.Certificate.Certificate) == 0 || cfg.Pins == nil || cfg.Log == nil {
		return nil, errors.New("registry: make client: want an identity, pins and a log")
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Listen == nil {
		cfg.Listen = listenUDP
	}
	if cfg.AckTimeout == 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	c := &Client{
		cfg: cfg, log: cfg.Log,
		lost:    make(chan struct{}, 1),
		dialing: make(chan struct{}, 1),
	}
	if cfg.Server != "" {
		if err := c.SetServer(cfg.Server); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// SetServer changes the server to host or host:port, or to several of them with
// commas between, any of which answers for any phone: when one does not answer,
// the next is asked. A session with a server that is not among them ends.
func (c *Client) SetServer(server string) error {
	var all []string
	for one := range strings.SplitSeq(server, ",") {
		full, err := withPort(strings.TrimSpace(one))
		if err != nil {
			return fmt.Errorf("registry: set server: %w", err)
		}
		all = append(all, full)
	}
	c.mu.Lock()
	var old *session
	c.servers = all
	if !slices.Contains(all, c.server) {
		c.server = all[0]
		old, c.session = c.session, nil
	}
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
}

// pass gives the turn to the server after tried, which did not answer. It
// reports whether there is another, or may be another address of the same.
func (c *Client) pass(tried string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == tried {
		c.turn++
		at := slices.Index(c.servers, tried)
		c.server = c.servers[(at+1)%len(c.servers)]
	}
	return len(c.servers) > 1
}

// withPort adds the port to a host, a bare IPv6 address too.
func withPort(server string) (string, error) {
	if a, err := netip.ParseAddr(server); err == nil {
		return net.JoinHostPort(a.String(), strconv.Itoa(wire.DefaultPort)), nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, strconv.Itoa(wire.DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || len(host) > 253 {
		return "", fmt.Errorf("%q is not a host or host:port", server)
	}
	for _, r := range host {
		if r <= ' ' || r == '/' || r == 0x7f {
			return "", fmt.Errorf("%q is not a host or host:port", server)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// Server returns the server whose turn it is as host:port, empty when none is
// known.
func (c *Client) Server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// Move lets the packets of this session, and of those to come, leave from
// local. It sends nothing: the session's next request tells the server.
func (c *Client) Move(ctx context.Context, local netip.Addr) error {
	c.mu.Lock()
	c.local = local
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	conn, err := c.cfg.Listen(ctx, local)
	if err != nil {
		return fmt.Errorf("registry: move to %v: %w", local, err)
	}
	s.sock.move(conn)
	return nil
}

// Lost receives after a session has ended by itself: the server closed it, or
// did not answer in it.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Close ends the session. Requests fail from now on.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	s := c.session
	c.session = nil
	c.mu.Unlock()
	if s != nil {
		s.close()
	}
	c.watchers.Wait()
	return nil
}

// Register implements Server.
func (c *Client) Register(ctx context.Context, r wire.Registration) (wire.Receipt, error) {
	body, err := wire.EncodeRegistration(r)
	if err != nil {
		return wire.Receipt{}, fmt.Errorf("registry: register %v: %w", r.MAC, err)
	}
	opts := append(wire.PathOptions([]string{wire.PathDirectory}),
		wire.UintOption(message.ContentFormat, wire.FormatCBOR))
	m, _, _, err := c.send(ctx, request{code: codes.POST, options: opts, payload: body})
	if err == nil && m.Code != codes.Created && m.Code != codes.Changed {
		err = refusal(m)
	}
	if err != nil {
		return wire.Receipt{}, fmt.Errorf("registry: register %v: %w", r.MAC, err)
	}
	receipt, err := wire.DecodeReceipt(m.Payload)
	if err != nil {
		return wire.Receipt{}, fmt.Errorf("registry: register %v: %w", r.MAC, err)
	}
	return receipt, nil
}

// Release implements Server.
func (c *Client) Release(ctx context.Context, mac wire.MAC, sequence uint64) error {
	w := wire.Withdrawal{MAC: mac, Sequence: sequence}
	if err := w.Validate(); err != nil {
		return fmt.Errorf("registry: release %v: %w", mac, err)
	}
	opts := wire.PathOptions([]string{wire.PathDirectory})
	for _, q := range w.Queries() {
		opts = append(opts, message.Option{ID: message.URIQuery, Value: []byte(q)})
	}
	m, _, _, err := c.send(ctx, request{code: codes.DELETE, options: opts})
	if err == nil && m.Code != codes.Deleted {
		err = refusal(m)
	}
	if err != nil {
		return fmt.Errorf("registry: release %v: %w", mac, err)
	}
	return nil
}

// Resolve implements Server.
func (c *Client) Resolve(ctx context.Context, q wire.Query) (wire.Row, error) {
	if err := q.Validate(); err != nil {
		return wire.Row{}, fmt.Errorf("registry: resolve: %w", err)
	}
	m, _, _, err := c.send(ctx, request{code: codes.GET, options: lookupOptions(q, false)})
	if err == nil && m.Code != codes.Content {
		err = refusal(m)
	}
	if err != nil {
		return wire.Row{}, fmt.Errorf("registry: resolve %v: %w", q, err)
	}
	row, err := wire.DecodeRow(m.Payload)
	if err != nil {
		return wire.Row{}, fmt.Errorf("registry: resolve %v: %w", q, err)
	}
	return row, nil
}

// Alive returns the number of the session with the server, after it has made
// sure that the server answers in it: a session that it has lost is replaced,
// and the number is then another.
func (c *Client) Alive(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestMost)
	defer cancel()
	for {
		s, made, err := c.acquire(ctx)
		if err != nil {
			return 0, fmt.Errorf("registry: probe server: %w", err)
		}
		if made || s.quiet() < aliveFor {
			return s.id, nil
		}
		if err = s.ping(ctx, keptRetransmit); err == nil {
			return s.id, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("registry: probe server: %w", unreachable(ctx.Err()))
		}
		c.drop(s)
	}
}

// send makes one request in the session, and in a new one when the server has
// lost that. It returns the session, and the subscription of an observing
// request.
func (c *Client) send(ctx context.Context, r request) (message.Message, *session, *subscription, error) {
	limited, cancel := context.WithTimeout(ctx, requestMost)
	defer cancel()
	for {
		s, made, err := c.acquire(limited)
		if err != nil {
			return message.Message{}, nil, nil, err
		}
		retransmit := maxRetransmit
		if !made {
			retransmit = keptRetransmit
		}
		m, sub, err := s.do(limited, r, retransmit)
		if err == nil {
			return m, s, sub, nil
		}
		if limited.Err() != nil {
			if retransmit == maxRetransmit && ctx.Err() == nil {
				c.drop(s) // not an answer in all that time
			}
			return m, nil, nil, unreachable(limited.Err())
		}
		if !errors.Is(err, errSessionLost) && !errors.Is(err, errNoAnswer) {
			return m, nil, nil, err
		}
		c.drop(s)
		if made {
			return m, nil, nil, unreachable(err)
		}
	}
}

// acquire returns the session, and whether it was made for this call.
func (c *Client) acquire(ctx context.Context) (*session, bool, error) {
	select {
	case c.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, false, unreachable(ctx.Err())
	}
	defer func() { <-c.dialing }()
	c.mu.Lock()
	s, server, local, closed := c.session, c.server, c.local, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, false, unreachable(net.ErrClosed)
	case server == "":
		return nil, false, unreachable(ErrNoServer)
	case s != nil && !s.lost():
		return s, false, nil
	case s != nil:
		c.drop(s)
	}
	s, server, err := c.dialAny(ctx, local)
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	if c.closed || c.server != server {
		c.mu.Unlock()
		s.close()
		return nil, false, unreachable(errSessionLost)
	}
	c.session = s
	moved := c.local != local
	local = c.local
	c.watchers.Go(func() { // tells Lost when the session ends
		<-s.done
		c.mu.Lock()
		current := c.session == s
		c.mu.Unlock()
		if current {
			c.tellLost()
		}
	})
	c.mu.Unlock()
	if moved {
		if err := c.Move(ctx, local); err != nil {
			c.log.Debug("session not moved", "err", err)
		}
	}
	return s, true, nil
}

// dialAny shakes hands with the server whose turn it is, or else with the next
// that answers, and returns which that is.
func (c *Client) dialAny(ctx context.Context, local netip.Addr) (s *session, server string, err error) {
	c.mu.Lock()
	n := len(c.servers)
	c.mu.Unlock()
	most := handshakeMost
	if n > 1 {
		most = handshakeEach
	}
	for range n {
		server = c.Server()
		if s, err = c.dial(ctx, server, local, most); err == nil || ctx.Err() != nil || !c.pass(server) {
			break
		}
		c.log.Debug("server does not answer", "server", server, "err", err)
	}
	return s, server, err
}

// dial shakes hands with server, for no longer than most.
func (c *Client) dial(ctx context.Context, server string, local netip.Addr, most time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	remote, err := c.lookup(ctx, server, local)
	if err != nil {
		return nil, unreachable(err)
	}
	conn, err := c.cfg.Listen(ctx, local)
	if err != nil && local.IsValid() {
		// The address is gone already: let the kernel choose another.
		conn, err = c.cfg.Listen(ctx, netip.Addr{})
	}
	if err != nil {
		return nil, unreachable(err)
	}
	sock := newSocket(conn)
	var pinErr error
	association, err := dtls.ClientWithOptions(sock, net.UDPAddrFromAddrPort(remote),
		dtls.WithCertificates(c.cfg.Identity.Certificate),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()),
		dtls.WithFlightInterval(c.cfg.AckTimeout),
		dtls.WithInsecureSkipVerify(true), // pinned below, no authority is trusted
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 {
				pinErr = fmt.Errorf("server shows no certificate: %w", ErrServerKey)
				return pinErr
			}
			cert, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			pinErr = c.cfg.Pins.Check(server, FingerprintOf(cert))
			return pinErr
		}),
	)
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("set up DTLS: %w", err)
	}
	if err := association.HandshakeContext(ctx); err != nil {
		association.Close()
		sock.Close()
		if pinErr != nil {
			return nil, pinErr
		}
		return nil, unreachable(err)
	}
	c.mu.Lock()
	c.sessions++
	id := c.sessions
	c.mu.Unlock()
	c.log.Debug("session made", "server", server, "session", id)
	return newSession(id, server, sock, association, c.cfg.AckTimeout), nil
}

// lookup returns an address of the server's of local's family: the first, and
// after each failure the next.
func (c *Client) lookup(ctx context.Context, server string, local netip.Addr) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(server)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
	}
	network := "ip"
	switch {
	case local.Is4():
		network = "ip4"
	case local.Is6():
		network = "ip6"
	}
	addrs, err := c.cfg.Resolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(addrs) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s has no address", host)
	}
	c.mu.Lock()
	turn := c.turn
	c.mu.Unlock()
	return netip.AddrPortFrom(addrs[turn%len(addrs)].Unmap(), uint16(port)), nil
}

// drop ends s and forgets it; the next session is with the next server.
func (c *Client) drop(s *session) {
	c.mu.Lock()
	current := c.session == s
	if current {
		c.session = nil
	}
	c.mu.Unlock()
	s.close()
	if current {
		c.pass(s.server)
		c.tellLost()
	}
}

func (c *Client) tellLost() {
	select {
	case c.lost <- struct{}{}:
	default:
	}
}

// withdraw sends one non-confirmable GET with an observation's token.
func (s *session) withdraw(token uint64, opts message.Options) {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.mu.Unlock()
	out, err := wire.EncodeMessage(message.Message{
		Type: message.NonConfirmable, MessageID: int32(id), Code: codes.GET,
		Token: binary.BigEndian.AppendUint64(nil, token), Options: opts,
	})
	if err == nil {
		_, _ = s.conn.Write(out) // lost like any datagram may be
	}
}

func lookupOptions(q wire.Query, observe bool) message.Options {
	opts := wire.PathOptions(q.Path())
	if observe { // number 6 stands before Uri-Path, 11
		opts = append(message.Options{wire.UintOption(message.Observe, 0)}, opts...)
	}
	return append(opts, wire.UintOption(message.Accept, wire.FormatCBOR))
}

// A StaleError is ErrStale with the number that the row holds.
type StaleError struct{ Sequence uint64 }

// Error implements error.
func (e *StaleError) Error() string { return fmt.Sprintf("%v: the row has %d", ErrStale, e.Sequence) }

// Is makes a StaleError an ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// busyMost bounds what a server may ask a phone to wait.
const busyMost = 5 * time.Minute

// A BusyError is ErrUnreachable with how long the server asks to wait: it
// answers, and can do no more now.
type BusyError struct{ After time.Duration }

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("storing server is busy: it asks to wait for %v", e.After)
}

// Is makes a BusyError an ErrUnreachable.
func (e *BusyError) Is(target error) bool { return target == ErrUnreachable }

// refusal turns an answer of class 4 or 5 into an error that callers know.
func refusal(m message.Message) error {
	p, err := wire.DecodeProblem(m.Payload)
	if err != nil {
		p = wire.Problem{}
	}
	code := fmt.Sprintf("server says %d.%02d", m.Code>>5, m.Code&31)
	if p.Detail != "" {
		code += " " + strconv.Quote(p.Detail)
	}
	switch {
	case p.Reason == wire.ReasonStale:
		return fmt.Errorf("%s: %w", code, &StaleError{p.Sequence})
	case p.Reason == wire.ReasonForeign, p.Reason == wire.ReasonIdentity:
		return fmt.Errorf("%s: %w", code, ErrForeign)
	case m.Code == codes.NotFound:
		return fmt.Errorf("%s: %w", code, ErrUnknown)
	case m.Code == codes.Forbidden, m.Code == codes.Unauthorized:
		return fmt.Errorf("%s: %w", code, ErrRefused)
	case m.Code>>5 == 5, m.Code == wire.CodeTooManyRequests:
		seconds, _ := wire.Uint(m, message.MaxAge)
		// It may pass.
		return fmt.Errorf("%s: %w", code, &BusyError{After: min(time.Duration(seconds)*time.Second, busyMost)})
	}
	return errors.New(code)
}

// unreachable marks an error as one that may pass.
func unreachable(err error) error {
	if errors.Is(err, ErrUnreachable) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// jitter returns between half of d and d, so that phones do not retry in step.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
