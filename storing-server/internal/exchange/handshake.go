package exchange

import (
	"encoding/binary"
	"net"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/deadline"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
	"flexphone/storing-server/internal/sockets"
)

// handshakeQueue is how many datagrams of a session wait for it; more are dropped.
const handshakeQueue = 32

type connectionID [wire.ConnectionIDLength]byte

type datagram struct {
	data []byte
	from place
}

// A handshake is one handshake's share of the port: a net.PacketConn for pion/dtls
// that receives what the port routes to it, until a session takes its place.
//
// pion chooses its cookies at random, and would keep a state for each hello to
// remember them. The port has checked the client's cookie by then, so the handshake
// plays the first round through inside: it gives pion the hello without its
// cookie, takes pion's request for one, makes the client's cookie the one that
// pion waits for, and gives it the hello as it came.
type handshake struct {
	port   *port
	id     connectionID
	first  place    // whence the hello came
	random [32]byte // of the hello
	hello  datagram
	shift  uint64 // added to the numbers of records before encryption

	conn  *dtls.Conn
	queue chan datagram
	read  *deadline.Deadline
	done  chan struct{}
	once  sync.Once

	// offered is when the server's half was first sent, in nanoseconds of Unix;
	// 0: not yet. answered is set when anything has come after the hello.
	offered  atomic.Int64
	answered atomic.Bool

	// proven is closed when the client has shown that it has the server's last
	// message.
	proven chan struct{}

	mu      sync.Mutex
	peek    *record.Session // nil: the server has not finished shaking hands
	isDone  bool            // proven is closed
	session *session        // once there is one
	kept    []datagram      // for it
}

func newHandshake(p *port, id connectionID, data []byte, greeting hello, from place) *handshake {
	h := &handshake{
		port: p, id: id, first: from, random: greeting.random(),
		hello: datagram{append([]byte(nil), data...), from},
		// The server's first record has the number of the hello that it answers
		// (RFC 6347, section 4.2.1); pion has spent 0 on its own request.
		shift: greeting.sequence - 1,
		queue: make(chan datagram, handshakeQueue), read: deadline.New(), done: make(chan struct{}),
		proven: make(chan struct{}),
	}
	h.queue <- datagram{greeting.first(), from}
	return h
}

// give queues one datagram, whose bytes are the handshake's from now on.
func (h *handshake) give(d datagram) bool {
	select {
	case h.queue <- d:
		return true
	default:
		return false
	}
}

// sealed takes a datagram of encrypted records, and reports whether there was
// room for it. The first that carries a request is the client's proof. Other
// records are pion's business.
func (h *handshake) sealed(d datagram) bool {
	h.mu.Lock()
	session := h.session
	if session != nil {
		h.mu.Unlock()
		session.receive(d.data, d.from)
		return true
	}
	defer h.mu.Unlock()
	room := len(h.kept) < handshakeQueue
	switch {
	case h.isDone, h.peek != nil && h.judge(d):
	case h.peek != nil:
		return h.give(d)
	default:
		// It may be part of the handshake, and it may be a request that has
		// overtaken the end of this side's.
		room = h.give(datagram{append([]byte(nil), d.data...), d.from}) && room
	}
	if room {
		h.kept = append(h.kept, d)
	}
	return room
}

// judge reports whether d is the proof; h.mu is held.
func (h *handshake) judge(d datagram) bool {
	for data := d.data; len(data) > 0; {
		r, rest, ok := record.Split(data, h.peek.Own())
		if !ok {
			return false
		}
		if kind, err := h.peek.Peek(r); err == nil && kind == record.TypeApplication {
			h.isDone = true
			close(h.proven)
			return true
		}
		data = rest
	}
	return false
}

// finished says that the server has finished shaking hands. peek is a copy of
// the session.
func (h *handshake) finished(peek *record.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peek = peek
	for i, d := range h.kept {
		if h.judge(d) {
			h.kept = h.kept[i:]
			return
		}
	}
	h.kept = nil // pion has had them
}

// detach ends pion's part: nothing that it says reaches the socket any more, and
// what the client sends is kept for the session.
func (h *handshake) detach() {
	h.mu.Lock()
	if !h.isDone {
		h.isDone = true // no proof came; it goes on as if
		close(h.proven)
	}
	h.mu.Unlock()
	h.once.Do(func() { close(h.done) })
}

// handOver gives x what is kept, and whatever comes.
func (h *handshake) handOver(x *session) {
	for {
		h.mu.Lock()
		kept := h.kept
		h.kept = nil
		if len(kept) == 0 {
			h.session = x
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		for _, d := range kept {
			x.receive(d.data, d.from)
		}
	}
}

// ReadFrom implements net.PacketConn.
func (h *handshake) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case <-h.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-h.queue:
		return copy(p, d.data), net.UDPAddrFromAddrPort(d.from.peer), nil
	case <-h.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	case <-h.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. Hands are shaken with whom the hello came from.
func (h *handshake) WriteTo(p []byte, _ net.Addr) (int, error) {
	select {
	case <-h.done:
		return 0, net.ErrClosed
	default:
	}
	if isVerifyRequest(p) {
		// In the goroutine of pion's handshake, which alone uses its cookie.
		if greeting, ok := parseHello(h.hello.data); ok && adopt(h.conn, greeting.cookie) {
			h.give(h.hello)
		}
		return len(p), nil
	}
	h.offered.CompareAndSwap(0, time.Now().UnixNano())
	if err := sockets.Answer(h.port.conn, renumber(p, h.shift), h.first.peer, h.first.by); err != nil {
		return 0, err
	}
	return len(p), nil
}

func isVerifyRequest(p []byte) bool {
	return len(p) > recordHeader && p[0] == typeHandshake && p[3] == 0 && p[4] == 0 && p[recordHeader] == messageHelloVerifyRequest
}

// adopt makes cookie the one that conn's handshake waits for. pion/dtls has no
// option for it: this writes into its memory, and reports whether it is as
// expected.
func adopt(conn *dtls.Conn, cookie []byte) bool {
	state := reflect.ValueOf(conn).Elem().FieldByName("state")
	if state.Kind() != reflect.Struct {
		return false
	}
	field := state.FieldByName("cookie")
	if field.Kind() != reflect.Slice || field.Type().Elem().Kind() != reflect.Uint8 || field.Len() != len(cookie) {
		return false
	}
	copy(field.Bytes(), cookie)
	return true
}

// renumber adds shift to the numbers of p's records that are not encrypted:
// there the number is protected by nothing.
func renumber(p []byte, shift uint64) []byte {
	if shift == 0 || len(p) < recordHeader || p[3] != 0 || p[4] != 0 {
		return p
	}
	out := append([]byte(nil), p...)
	for rest := out; len(rest) >= recordHeader && rest[0] != typeConnectionID; {
		if rest[3] == 0 && rest[4] == 0 {
			n := (recordSequence(rest) + shift) & (1<<48 - 1)
			copy(rest[5:11], appendUint48(nil, n))
		}
		end := recordHeader + int(binary.BigEndian.Uint16(rest[11:]))
		if end > len(rest) {
			break
		}
		rest = rest[end:]
	}
	return out
}

// Close implements net.PacketConn.
func (h *handshake) Close() error {
	h.once.Do(func() {
		close(h.done)
		h.port.remove(h)
	})
	return nil
}

// LocalAddr implements net.PacketConn.
func (h *handshake) LocalAddr() net.Addr { return h.port.conn.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (h *handshake) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (h *handshake) SetReadDeadline(t time.Time) error {
	h.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn. A datagram never waits long.
func (h *handshake) SetWriteDeadline(time.Time) error { return nil }
