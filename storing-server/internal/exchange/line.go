package exchange

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/deadline"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

// lineQueue is how many datagrams of a session wait for it; more are dropped.
const lineQueue = 32

type connectionID [wire.ConnectionIDLength]byte

type datagram struct {
	data []byte
	from netip.AddrPort
}

// A line is one handshake's share of the port: a net.PacketConn for pion/dtls
// that receives what the port routes to it, until a session takes its place.
//
// pion chooses its cookies at random, and would keep a state for each hello to
// remember them. The port has checked the client's cookie by then, so the line
// plays the first round through inside: it gives pion the hello without its
// cookie, takes pion's request for one, makes the client's cookie the one that
// pion waits for, and gives it the hello as it came.
type line struct {
	port   *port
	id     connectionID
	first  netip.AddrPort // whence the hello came
	random [32]byte       // of the hello
	hello  datagram
	shift  uint64 // added to the numbers of records before encryption

	conn  *dtls.Conn
	queue chan datagram
	read  *deadline.Deadline
	done  chan struct{}
	once  sync.Once

	// proven is closed when the client has shown that it has the server's last
	// message.
	proven chan struct{}

	mu     sync.Mutex
	peek   *record.Session // nil: the server has not finished shaking hands
	isDone bool            // proven is closed
	heir   *session        // once there is one
	kept   []datagram      // for it
}

func newLine(p *port, id connectionID, data []byte, h hello, from netip.AddrPort) *line {
	l := &line{
		port: p, id: id, first: from, random: h.random(),
		hello: datagram{append([]byte(nil), data...), from},
		// The server's first record has the number of the hello that it answers
		// (RFC 6347, section 4.2.1); pion has spent 0 on its own request.
		shift: h.sequence - 1,
		queue: make(chan datagram, lineQueue), read: deadline.New(), done: make(chan struct{}),
		proven: make(chan struct{}),
	}
	l.queue <- datagram{h.first(), from}
	return l
}

// give queues one datagram, whose bytes are the line's from now on.
func (l *line) give(d datagram) bool {
	select {
	case l.queue <- d:
		return true
	default:
		return false
	}
}

// sealed takes a datagram of encrypted records, and reports whether there was
// room for it. The first that carries a request is the client's proof. Other
// records are pion's business.
func (l *line) sealed(d datagram) bool {
	l.mu.Lock()
	heir := l.heir
	if heir != nil {
		l.mu.Unlock()
		heir.receive(d.data, d.from)
		return true
	}
	defer l.mu.Unlock()
	room := len(l.kept) < lineQueue
	switch {
	case l.isDone, l.peek != nil && l.judge(d):
	case l.peek != nil:
		return l.give(d)
	default:
		// It may be part of the handshake, and it may be a request that has
		// overtaken the end of this side's.
		room = l.give(datagram{append([]byte(nil), d.data...), d.from}) && room
	}
	if room {
		l.kept = append(l.kept, d)
	}
	return room
}

// judge reports whether d is the proof; l.mu is held.
func (l *line) judge(d datagram) bool {
	for data := d.data; len(data) > 0; {
		r, rest, ok := record.Split(data, len(l.id))
		if !ok {
			return false
		}
		if kind, err := l.peek.Peek(r); err == nil && kind == record.TypeApplication {
			l.isDone = true
			close(l.proven)
			return true
		}
		data = rest
	}
	return false
}

// finished says that the server has finished shaking hands. peek is a copy of
// the session.
func (l *line) finished(peek *record.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peek = peek
	for i, d := range l.kept {
		if l.judge(d) {
			l.kept = l.kept[i:]
			return
		}
	}
	l.kept = nil // pion has had them
}

// hush ends pion's part: nothing that it says reaches the socket any more, and
// what the client sends is kept for the heir.
func (l *line) hush() {
	l.mu.Lock()
	if !l.isDone {
		l.isDone = true // no proof came; it goes on as if
		close(l.proven)
	}
	l.mu.Unlock()
	l.once.Do(func() { close(l.done) })
}

// bequeath gives x what is kept, and whatever comes.
func (l *line) bequeath(x *session) {
	for {
		l.mu.Lock()
		kept := l.kept
		l.kept = nil
		if len(kept) == 0 {
			l.heir = x
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, d := range kept {
			x.receive(d.data, d.from)
		}
	}
}

// ReadFrom implements net.PacketConn.
func (l *line) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case <-l.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-l.queue:
		return copy(p, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-l.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	case <-l.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn.
func (l *line) WriteTo(p []byte, to net.Addr) (int, error) {
	select {
	case <-l.done:
		return 0, net.ErrClosed
	default:
	}
	if isVerifyRequest(p) {
		// In the goroutine of pion's handshake, which alone uses its cookie.
		if h, ok := parseHello(l.hello.data); ok && adopt(l.conn, h.cookie) {
			l.give(l.hello)
		}
		return len(p), nil
	}
	return l.port.conn.WriteTo(renumber(p, l.shift), to)
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
func (l *line) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.port.remove(l)
	})
	return nil
}

// LocalAddr implements net.PacketConn.
func (l *line) LocalAddr() net.Addr { return l.port.conn.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (l *line) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (l *line) SetReadDeadline(t time.Time) error {
	l.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn. A datagram never waits long.
func (l *line) SetWriteDeadline(time.Time) error { return nil }
