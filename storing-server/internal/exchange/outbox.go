package exchange

import (
	"net"
	"sync"

	"golang.org/x/net/ipv6"
)

const (
	// atOnce is how many datagrams one system call takes or brings.
	atOnce = 64
	// outboxMost is how many datagrams wait for the socket; more are lost, as
	// on the way.
	outboxMost = 8192
)

// An outbox sends what sessions say, many datagrams by one system call: what is
// posted while a call lasts goes with the next one. Who posts waits for nothing.
type outbox struct {
	conn *ipv6.PacketConn // the calls are the same for IPv4
	wake chan struct{}    // one slot
	done chan struct{}    // closed when run has ended

	mu     sync.Mutex
	posted []packet
	closed bool
}

// A packet is one datagram, in a buffer of the pool of packets.
type packet struct {
	data *[]byte
	to   place
}

var packets = sync.Pool{New: func() any {
	b := make([]byte, 0, maxDatagram)
	return &b
}}

func newOutbox(conn *net.UDPConn) *outbox {
	return &outbox{conn: ipv6.NewPacketConn(conn), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// post takes a buffer of the pool, and reports whether there was room.
func (o *outbox) post(data *[]byte, to place) bool {
	o.mu.Lock()
	room := len(o.posted) < outboxMost && !o.closed
	if room {
		o.posted = append(o.posted, packet{data, to})
	}
	first := len(o.posted) == 1
	o.mu.Unlock()
	if !room {
		packets.Put(data)
		return false
	}
	if first {
		o.rouse()
	}
	return true
}

func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run sends until close.
func (o *outbox) run() {
	defer close(o.done)
	var batch []packet
	var ms [atOnce]ipv6.Message
	var to [atOnce]net.UDPAddr
	for i := range ms {
		ms[i].Buffers = make([][]byte, 1)
		ms[i].Addr = &to[i]
		to[i].IP = make(net.IP, 0, net.IPv6len)
	}
	for {
		o.mu.Lock()
		batch, o.posted = o.posted, batch[:0]
		closed := o.closed
		o.mu.Unlock()
		if len(batch) == 0 {
			if closed {
				return
			}
			<-o.wake
			continue
		}
		for rest := batch; len(rest) > 0; {
			n := min(len(rest), atOnce)
			for i, p := range rest[:n] {
				ms[i].Buffers[0], ms[i].OOB = *p.data, p.to.by.Control()
				to[i].Port, to[i].Zone = int(p.to.peer.Port()), p.to.peer.Addr().Zone()
				if a := p.to.peer.Addr(); a.Is4() {
					b := a.As4()
					to[i].IP = append(to[i].IP[:0], b[:]...)
				} else {
					b := a.As16()
					to[i].IP = append(to[i].IP[:0], b[:]...)
				}
			}
			for sent := 0; sent < n; {
				k, err := o.conn.WriteBatch(ms[sent:n], 0)
				if err != nil && k <= 0 {
					if ms[sent].OOB != nil {
						ms[sent].OOB = nil // this host may have the address no longer that it was asked by
						continue
					}
					k = 1 // what the kernel refuses is lost, as on the way
				}
				sent += k
			}
			for _, p := range rest[:n] {
				packets.Put(p.data)
			}
			rest = rest[n:]
		}
	}
}

// close sends what was posted, and waits until it is on its way.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.rouse()
	<-o.done
}
