package trust

import (
	"net"
	"sync"
	"time"
)

// Connections bound how many there are at the same time, in all and of one
// network, so that nobody takes all of them. They are safe for concurrent use.
type Connections struct {
	most, each int
	exempt     Exempt

	mu      sync.Mutex
	all     int
	from    map[Network]int
	waiting map[*admitted]time.Time // since when nothing of theirs is answered; nil: nobody gives way
}

// NewConnections allows most of them, and each network that is not exempt so
// many of these.
func NewConnections(most, each int, exempt Exempt) *Connections {
	return &Connections{most: most, each: each, exempt: exempt, from: map[Network]int{}}
}

// GiveWay lets a new connection in where there are too many: the one gives way
// that has asked for nothing for the longest time. Busy says which have.
func (c *Connections) GiveWay() *Connections {
	c.waiting = map[*admitted]time.Time{}
	return c
}

// Busy notes that a request of a connection is being answered until done is
// called, if it is one of a Listener whose connections give way.
func Busy(conn net.Conn) (done func()) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // of TLS
		conn = t.NetConn()
	}
	a, ok := conn.(*admitted)
	if !ok {
		return func() {}
	}
	a.open.count(a, 1)
	return sync.OnceFunc(func() { a.open.count(a, -1) })
}

// count notes how many requests of a are being answered: so many more.
func (c *Connections) count(a *admitted, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.busy += more
	switch {
	case c.waiting == nil || a.left:
	case a.busy == 0:
		c.waiting[a] = time.Now()
	default:
		delete(c.waiting, a)
	}
}

// displace ends the connection that has waited longest, of one network where
// one is given, and reports whether there was any.
func (c *Connections) displace(at *Network) bool {
	c.mu.Lock()
	var oldest *admitted
	for a, since := range c.waiting {
		if (at == nil || a.at == *at) && (oldest == nil || since.Before(c.waiting[oldest])) {
			oldest = a
		}
	}
	c.mu.Unlock()
	if oldest == nil {
		return false
	}
	oldest.Close()
	return true
}

// admit is begin that lets another give way: of the same network first, and of
// all only when this network has not its share.
func (c *Connections) admit(at Network) bool {
	if c.begin(at) || c.displace(&at) && c.begin(at) {
		return true
	}
	c.mu.Lock()
	share := c.from[at] >= c.each && !c.exempt.Has(at)
	c.mu.Unlock()
	return !share && c.displace(nil) && c.begin(at)
}

func (c *Connections) begin(at Network) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.from[at] >= c.each && !c.exempt.Has(at) {
		return false
	}
	c.all++
	c.from[at]++
	return true
}

func (c *Connections) end(a *admitted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.left = true
	delete(c.waiting, a)
	c.all--
	if c.from[a.at]--; c.from[a.at] == 0 {
		delete(c.from, a.at)
	}
}

// Listener returns l without the connections that are too many: they are closed
// at once, and refused is called for each. It may be nil.
func (c *Connections) Listener(l net.Listener, refused func()) net.Listener {
	return &gate{l, c, refused}
}

type gate struct {
	net.Listener
	open    *Connections
	refused func()
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var at Network
		if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			at = NetworkOf(tcp.AddrPort().Addr())
		}
		if g.open.admit(at) {
			a := &admitted{Conn: c, open: g.open, at: at}
			a.leave = sync.OnceFunc(func() { g.open.end(a) })
			g.open.count(a, 0)
			return a, nil
		}
		c.Close()
		if g.refused != nil {
			g.refused()
		}
	}
}

// An admitted connection is counted until it is closed.
type admitted struct {
	net.Conn
	open  *Connections
	at    Network
	leave func()
	// Under open's lock.
	busy int // requests that are being answered
	left bool
}

// Close implements net.Conn.
func (a *admitted) Close() error {
	defer a.leave()
	return a.Conn.Close()
}
