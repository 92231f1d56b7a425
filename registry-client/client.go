package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
)

const (
	// requestMost bounds a request whose context has no deadline: about what
	// RFC 7252 calls MAX_TRANSMIT_SPAN at our ACK_TIMEOUT.
	requestMost = 30 * time.Second
	// aliveFor is how long a message of the server proves that it is there.
	aliveFor = 100 * time.Millisecond
)

// ErrNoServer: nobody says where the storing server is: it was not named yet, or no
// name server knows the name.
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
	Resolver Resolver // net.DefaultResolver
	// Order returns the addresses of a server that can be reached at all, best
	// first (RFC 6724, section 6). By default it is the Resolver's.
	Order      func([]netip.Addr) []netip.Addr
	Listen     ListenFunc    // a UDP socket on an ephemeral port
	AckTimeout time.Duration // 1 s, RFC 7252's ACK_TIMEOUT
	// Tap wraps each association with a server, whose reads and writes are whole
	// messages of CoAP in the clear. By default nothing does.
	Tap func(net.Conn) net.Conn
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
	groups   [][]string     // host:port each
	named    [][]string     // of them those that were set: groups may begin with the server of another region
	anew     func()         // has the running race begin anew; nil: none runs
	server   string         // the one of them whose turn it is; empty when none is known
	shunned  netip.AddrPort // where the last session was lost
	locals   []netip.Addr   // to send from; empty: the kernel chooses
	moves    int            // counts changes of locals
	session  *session
	sessions uint64        // made so far
	renewed  chan struct{} // closed when the next one is made
	closed   bool
	regions  regions
	watchers sync.WaitGroup
	links    *link.Links
}

// NewClient returns a client that has sent nothing yet.
func NewClient(cfg Config) (*Client, error) {
	if len(cfg.Identity.Certificate.Certificate) == 0 || cfg.Pins == nil || cfg.Log == nil {
		return nil, errors.New("registry: make client: want an identity, pins and a log")
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Order == nil {
		cfg.Order = func(all []netip.Addr) []netip.Addr { return all }
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
		dialing: make(chan struct{}, 1), renewed: make(chan struct{}),
	}
	c.links = link.New(cfg.Identity.MAC, carrier{c})
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
	return c.SetServers([][]string{strings.Split(server, ",")})
}

// SetServers is SetServer for servers that are named more and less certainly:
// those of a later group are tried when none of those before has answered for a
// while.
func (c *Client) SetServers(groups [][]string) error {
	var all [][]string
	for _, group := range groups {
		var g []string
		for _, one := range group {
			full, err := wire.HostPort(strings.TrimSpace(one))
			if err != nil {
				return fmt.Errorf("registry: set server: %w", err)
			}
			g = append(g, full)
		}
		if len(g) > 0 {
			all = append(all, g)
		}
	}
	c.mu.Lock()
	var old *session
	same := slices.EqualFunc(all, c.named, slices.Equal)
	if c.anew != nil && !same {
		c.anew()
	}
	if c.named = all; !same || c.groups == nil { // else the phone may have moved to another region's
		c.groups = all
	}
	if !c.knows(c.server) {
		c.server = ""
		if len(all) > 0 {
			c.server = all[0][0]
		}
		old, c.session = c.session, nil
	}
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
}

// knows reports whether server is among those that were set; c.mu is held.
func (c *Client) knows(server string) bool {
	return slices.ContainsFunc(c.groups, func(g []string) bool { return slices.Contains(g, server) })
}

// Server returns the server of the present session, or the one whose turn it is,
// as host:port; empty when none is known.
func (c *Client) Server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// Move lets the packets of this session, and of those to come, leave from that of
// locals which suits the server. It sends nothing: the session's next request tells
// the server. A session with a server to whose family of addresses none of them
// belongs ends.
func (c *Client) Move(ctx context.Context, locals ...netip.Addr) error {
	c.mu.Lock()
	c.locals = slices.Clone(locals)
	c.moves++
	s, others := c.session, c.regions.clients()
	c.mu.Unlock()
	for _, o := range others {
		if err := o.Move(ctx, locals...); err != nil {
			c.log.Debug("session with another region's server not moved", "err", err)
		}
	}
	if s == nil {
		return nil
	}
	local := localFor(s.remote, locals)
	if !local.IsValid() && len(locals) > 0 {
		c.mu.Lock()
		if c.session == s {
			c.session = nil
		}
		c.mu.Unlock()
		s.close()
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
	s, others := c.session, c.regions.clients()
	c.session = nil
	c.mu.Unlock()
	for _, o := range others {
		_ = o.Close() // always nil
	}
	c.links.Close()
	if s != nil {
		s.close()
	}
	c.watchers.Wait()
	return nil
}

// register is Register at the client's own server. Of the addresses of a kind, the
// one that the kernel reaches the server from is announced first.
func (c *Client) register(ctx context.Context, r wire.Registration) (wire.Receipt, error) {
	if err := r.Validate(); err != nil {
		return wire.Receipt{}, fmt.Errorf("registry: register %v: %w", r.MAC, err)
	}
	body := func(server netip.AddrPort) ([]byte, error) {
		r.Addrs = bestFirst(r.Addrs, sourceTo(server))
		return wire.EncodeRegistration(r)
	}
	opts := append(wire.PathOptions([]string{wire.PathDirectory}),
		wire.UintOption(message.ContentFormat, wire.FormatCBOR))
	m, _, _, err := c.send(ctx, request{code: codes.POST, options: opts, body: body})
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

// resolve is Resolve at the client's own server.
func (c *Client) resolve(ctx context.Context, q wire.Query, ticket wire.Ticket) (wire.Row, error) {
	if err := q.Validate(); err != nil {
		return wire.Row{}, fmt.Errorf("registry: resolve: %w", err)
	}
	m, _, _, err := c.send(ctx, request{code: codes.GET, options: lookupOptions(q, false, ticket)})
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
		if r.body != nil {
			if r.payload, err = r.body(s.remote); err != nil {
				return message.Message{}, nil, nil, err
			}
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
	s, server, locals, moves, closed := c.session, c.server, c.locals, c.moves, c.closed
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
	s, err := c.dialNewest(ctx, locals)
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	if c.closed || !c.knows(s.server) {
		c.mu.Unlock()
		s.close()
		return nil, false, unreachable(errSessionLost)
	}
	c.session, c.server = s, s.server
	close(c.renewed)
	c.renewed = make(chan struct{})
	moved := c.moves != moves
	locals = c.locals
	c.watchers.Go(func() { // tells Lost when the session ends
		<-s.done
		c.mu.Lock()
		current := c.session == s
		c.mu.Unlock()
		if current {
			c.tellLost()
			c.links.Lost()
		}
	})
	c.mu.Unlock()
	if moved {
		if err := c.Move(ctx, locals...); err != nil {
			c.log.Debug("session not moved", "err", err)
		}
	}
	return s, true, nil
}

// dialNewest shakes hands with the first server that answers of those that are known
// then: whoever is named while nobody answers is tried too.
func (c *Client) dialNewest(ctx context.Context, locals []netip.Addr) (*session, error) {
	for {
		race, anew := context.WithCancel(ctx)
		c.mu.Lock()
		c.anew = anew
		c.mu.Unlock()
		s, err := c.dialAny(race, locals)
		c.mu.Lock()
		c.anew = nil
		c.mu.Unlock()
		again := err != nil && race.Err() != nil && ctx.Err() == nil
		anew()
		if !again {
			return s, err
		}
	}
}

// drop ends s and forgets it; the next session is with the next server.
func (c *Client) drop(s *session) {
	c.mu.Lock()
	current := c.session == s
	if current {
		c.session = nil
		c.pass(s)
	}
	c.mu.Unlock()
	s.close()
	if current {
		c.tellLost()
		c.links.Lost()
	}
}

// pass gives the turn to the server after that of s, and the last turn to its
// address; c.mu is held.
func (c *Client) pass(s *session) {
	c.shunned = s.remote
	for _, group := range c.groups {
		if at := slices.Index(group, s.server); at >= 0 {
			c.server = group[(at+1)%len(group)]
		}
	}
}

func (c *Client) tellLost() {
	select {
	case c.lost <- struct{}{}:
	default:
	}
}

func lookupOptions(q wire.Query, observe bool, ticket wire.Ticket) message.Options {
	opts := wire.PathOptions(q.Path())
	if observe { // number 6 stands before Uri-Path, 11
		opts = append(message.Options{wire.UintOption(message.Observe, 0)}, opts...)
	}
	if ticket != "" {
		opts = append(opts, message.Option{ID: message.URIQuery, Value: []byte(ticket.Query())})
	}
	return append(opts, wire.UintOption(message.Accept, wire.FormatCBOR))
}
