package trust

import (
	"net"
	"sync"
)

// Connections bound how many there are at the same time, in all and of one
// network, so that nobody takes all of them. They are safe for concurrent use.
type Connections struct {
	most, each int

	mu   sync.Mutex
	all  int
	from map[Network]int
}

// NewConnections allows most of them, and each network so many of these.
func NewConnections(most, each int) *Connections {
	return &Connections{most: most, each: each, from: map[Network]int{}}
}

func (c *Connections) begin(at Network) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.from[at] >= c.each {
		return false
	}
	c.all++
	c.from[at]++
	return true
}

func (c *Connections) end(at Network) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.from[at]--; c.from[at] == 0 {
		delete(c.from, at)
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
		if g.open.begin(at) {
			return &admitted{Conn: c, leave: sync.OnceFunc(func() { g.open.end(at) })}, nil
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
	leave func()
}

// Close implements net.Conn.
func (a *admitted) Close() error {
	defer a.leave()
	return a.Conn.Close()
}
