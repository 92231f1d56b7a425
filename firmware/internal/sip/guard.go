package sip

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxStreams      = 128 // TCP connections that others opened, and as many of TLS
	maxStreamsPerIP = 16  // of them from one host
)

// A guard is a TCP listener with a bounded number of open connections, in all and
// from one address. Where they are too many, the newest is let in and another one
// gives way: of the address that has the most, the one that has been silent for
// the longest time and carries no call. So connections that say nothing keep
// nobody out, not even for as long as they may stay.
type guard struct {
	net.Listener
	stall time.Duration // see endStalled

	mu    sync.Mutex
	open  map[netip.AddrPort]*stream
	hosts map[netip.Prefix]int // how many each has open
	clock int64                // counts what happens to them
}

func newGuard(l net.Listener, stall time.Duration) *guard {
	return &guard{Listener: l, stall: stall, open: make(map[netip.AddrPort]*stream), hosts: make(map[netip.Prefix]int)}
}

// A stream is a connection that somebody else opened.
type stream struct {
	net.Conn
	g      *guard
	from   netip.AddrPort
	since  int64        // on the guard's clock
	spoke  int64        // likewise; 0: it has said nothing yet. Guarded by g.mu
	calls  atomic.Int32 // that need it
	known  atomic.Bool  // it is of a phone that is known by its key
	closed chan struct{}
	forget func()
}

// Accept returns the next connection, closing another one if need be.
func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		_ = endStalled(c, g.stall) // then it takes longer until its end is known
		s := &stream{Conn: c, g: g, from: addrPortOf(c.RemoteAddr()), closed: make(chan struct{})}
		s.forget = sync.OnceFunc(s.gone)
		out, ok := g.admit(s)
		if out != nil {
			out.Close()
		}
		if !ok {
			c.Close()
			continue
		}
		return s, nil
	}
}

// admit counts s in, and says which one has to go for it.
func (g *guard) admit(s *stream) (out *stream, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	host := networkOf(s.from.Addr())
	switch {
	case g.hosts[host] >= maxStreamsPerIP:
		out = g.weakest(func(o *stream) bool { return networkOf(o.from.Addr()) == host })
	case len(g.open) >= maxStreams:
		most := 0
		for _, o := range g.open {
			if o.calls.Load() == 0 {
				most = max(most, g.hosts[networkOf(o.from.Addr())])
			}
		}
		out = g.weakest(func(o *stream) bool { return g.hosts[networkOf(o.from.Addr())] == most })
	}
	if out != nil {
		g.drop(out)
	} else if g.hosts[host] >= maxStreamsPerIP || len(g.open) >= maxStreams {
		return nil, false // all of them carry calls
	}
	g.clock++
	s.since = g.clock
	g.open[s.from] = s
	g.hosts[host]++
	return out, true
}

// weakest is the one of some connections that can be done without most easily.
func (g *guard) weakest(of func(*stream) bool) *stream {
	var out *stream
	for _, o := range g.open {
		if o.calls.Load() == 0 && of(o) && (out == nil || o.weaker(out)) {
			out = o
		}
	}
	return out
}

// weaker reports whether s gives way before o: those of known phones come last.
func (s *stream) weaker(o *stream) bool {
	if is, other := s.known.Load(), o.known.Load(); is != other {
		return other
	}
	return cmp.Or(cmp.Compare(s.spoke, o.spoke), cmp.Compare(s.since, o.since)) < 0
}

// drop forgets s; g.mu is held.
func (g *guard) drop(s *stream) {
	if g.open[s.from] != s {
		return
	}
	delete(g.open, s.from)
	host := networkOf(s.from.Addr())
	if g.hosts[host]--; g.hosts[host] <= 0 {
		delete(g.hosts, host)
	}
}

// from is the open connection from that address; nil if there is none.
func (g *guard) from(at netip.AddrPort) *stream {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open[at]
}

func (s *stream) gone() {
	close(s.closed)
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.g.drop(s)
}

// speaks notes that the other end has said something that makes sense.
func (s *stream) speaks() {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.g.clock++
	s.spoke = s.g.clock
}

func (s *stream) alive() bool {
	select {
	case <-s.closed:
		return false
	default:
		return true
	}
}

// Close closes the connection. It may be called more than once.
func (s *stream) Close() error {
	s.forget()
	return s.Conn.Close()
}
