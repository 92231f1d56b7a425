package exchange

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

// A session is one phone's, from its first request on: the state of its
// records, and its conversation. It is kept small, since there are as many as
// there are phones.
type session struct {
	server *Server
	id     connectionID   // that the peer sends, unless it sends none
	first  netip.AddrPort // where it shook hands
	conversation

	// Of the server, and under its lock.
	prev, next *session
	heard      time.Time
	listed     bool

	// Not held while a request is answered.
	records sync.Mutex
	secret  record.Session
	path    path
	held    [][]byte // messages that wait until the path is proven, at most heldMost
	closed  bool
}

// idLength returns how long the connection ID is that the peer sends; 0: none.
func (x *session) idLength() int { return x.secret.Own() }

// Of an alert, RFC 5246 section 7.2.
const (
	alertWarning      = 1
	alertFatal        = 2
	alertCloseNotify  = 0
	alertUserCanceled = 90
)

// receive takes one datagram with the session's connection ID, or from its
// address.
func (x *session) receive(data []byte, from place) {
	for len(data) > 0 {
		r, rest, ok := record.Split(data, x.idLength())
		if !ok || x.idLength() > 0 && connectionID(record.CID(r, len(x.id))) != x.id {
			x.drop("malformed record")
			return
		}
		data = rest
		x.records.Lock()
		if x.closed { // or kept for the next start
			x.records.Unlock()
			return
		}
		content, kind, latest, err := x.secret.Open(r)
		moved := err == nil && x.path.came(from, len(r), latest)
		x.records.Unlock()
		if err != nil {
			x.drop(refusal(err))
			continue
		}
		x.server.hear(x)
		if moved {
			x.hub.moved(&x.conversation)
		}
		switch kind {
		case record.TypeApplication:
			x.conversation.receive(content, plainAddr(from.peer))
		case record.TypeAlert:
			if len(content) == 2 && (content[0] == alertFatal || content[1] == alertCloseNotify) {
				x.server.end(x)
				return
			}
		default:
			// A handshake's last message once more, which was answered, or a new
			// handshake, which there is none of here.
			x.drop("handshake in a session")
		}
	}
}

func refusal(err error) string {
	switch err {
	case record.ErrReplayed:
		return "replayed"
	case record.ErrForged:
		return "forged"
	}
	return "malformed record"
}

// send implements sender.
func (x *session) send(message []byte) { x.seal(record.TypeApplication, message) }

const (
	// pingLength is a ping's, RFC 7252 section 3.
	pingLength = 4
	// heldMost is as many as an offer takes that a browser makes to a phone which has just
	// moved. Of a message that is neither sent nor held the other end hears after a pause.
	heldMost = 4
)

// answered implements sender: the answer may prove where the session is.
func (x *session) answered(id uint16, from netip.AddrPort) {
	x.records.Lock()
	defer x.records.Unlock()
	if !x.path.answered(id, from) {
		return
	}
	held := x.held
	x.held = nil
	for _, m := range held {
		x.put(record.TypeApplication, m, false)
	}
}

func (x *session) seal(kind byte, content []byte) {
	x.records.Lock()
	defer x.records.Unlock()
	now := time.Now()
	sent := x.put(kind, content, false)
	switch waits := !sent && kind == record.TypeApplication; {
	case waits && len(x.held) < heldMost:
		x.held = append(x.held, bytes.Clone(content))
	case !x.path.unproven():
		x.held = nil // it is where it was
	}
	switch {
	case kind != record.TypeApplication || !x.path.mayAsk(now):
	case !sent:
		id := x.newID()
		ping, err := wire.EncodeMessage(message.Message{Type: message.Confirmable, MessageID: int32(id)})
		if err == nil && x.put(record.TypeApplication, ping, true) {
			x.path.ask(id, now)
		}
	case isConfirmable(content):
		x.path.ask(binary.BigEndian.Uint16(content[2:]), now)
	}
}

// isConfirmable reports whether a message has to be answered (RFC 7252, section
// 3).
func isConfirmable(m []byte) bool {
	return len(m) >= 4 && message.Type(m[0]>>4&3) == message.Confirmable
}

// put sends one record, and reports false when it may not go to where the peer
// is until that has answered; x.records is held.
func (x *session) put(kind byte, content []byte, challenge bool) bool {
	if x.closed {
		return true
	}
	b := packets.Get().(*[]byte)
	out, err := x.secret.Seal((*b)[:0], kind, content)
	if err != nil { // after 2^48 records
		packets.Put(b)
		return true
	}
	*b = out
	to, may := x.path.to(len(out), challenge, time.Now())
	if !may {
		packets.Put(b)
		x.count.Dropped("unproven address")
		return false
	}
	if !x.server.port.out.post(b, to) {
		x.count.Dropped("overrun")
	}
	return true
}

// close tells the peer that there is nobody any more (RFC 5246, section 7.2.1),
// and sends nothing after that.
func (x *session) close() { x.endBy(alertWarning, alertCloseNotify) }

// turnAway is close for a peer that there is no room for.
func (x *session) turnAway() { x.endBy(alertFatal, alertUserCanceled) }

func (x *session) endBy(alert ...byte) {
	x.seal(record.TypeAlert, alert)
	x.records.Lock()
	x.closed = true
	x.records.Unlock()
	x.conversation.end()
}

// A sessionList lists sessions, the longest silent first.
type sessionList struct {
	front, back *session
	n           int
}

func (r *sessionList) add(x *session) {
	x.prev, x.next, x.listed = r.back, nil, true
	if r.back != nil {
		r.back.next = x
	} else {
		r.front = x
	}
	r.back = x
	r.n++
}

func (r *sessionList) remove(x *session) {
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		r.front = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		r.back = x.prev
	}
	x.prev, x.next, x.listed = nil, nil, false
	r.n--
}
