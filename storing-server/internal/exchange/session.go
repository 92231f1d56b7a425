package exchange

import (
	"net/netip"
	"sync"
	"time"

	"flexphone/storing-server/internal/record"
)

// A session is one phone's, from its first request on: the state of its
// records, and its conversation. It is kept small, since there are as many as
// there are phones.
type session struct {
	server *Server
	id     connectionID
	conversation

	// Of the server, and under its lock.
	prev, next *session
	heard      time.Time
	listed     bool

	// Not held while a request is answered.
	records sync.Mutex
	secret  record.Session
	to      netip.AddrPort // whence its newest record came
	closed  bool
}

// Of an alert, RFC 5246 section 7.2.
const (
	alertWarning     = 1
	alertFatal       = 2
	alertCloseNotify = 0
)

// receive takes one datagram with the session's connection ID.
func (x *session) receive(data []byte, from netip.AddrPort) {
	for len(data) > 0 {
		r, rest, ok := record.Split(data, len(x.id))
		if !ok || connectionID(record.CID(r, len(x.id))) != x.id {
			x.drop("malformed record")
			return
		}
		data = rest
		x.records.Lock()
		content, kind, latest, err := x.secret.Open(r)
		if err == nil && latest {
			x.to = from // RFC 9146, section 6
		}
		x.records.Unlock()
		if err != nil {
			x.drop(refusal(err))
			continue
		}
		x.server.hear(x)
		switch kind {
		case record.TypeApplication:
			x.conversation.receive(content, netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()))
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

func (x *session) seal(kind byte, content []byte) {
	b := parcels.Get().(*[]byte)
	x.records.Lock()
	defer x.records.Unlock()
	out, err := x.secret.Seal((*b)[:0], kind, content)
	if x.closed || err != nil { // after 2^48 records
		parcels.Put(b)
		return
	}
	*b = out
	if !x.server.port.out.post(b, x.to) {
		x.count.Dropped("overrun")
	}
}

// close tells the peer that there is nobody any more (RFC 5246, section 7.2.1),
// and sends nothing after that.
func (x *session) close() {
	x.seal(record.TypeAlert, []byte{alertWarning, alertCloseNotify})
	x.records.Lock()
	x.closed = true
	x.records.Unlock()
	x.conversation.end()
}

// A roll lists sessions, the longest silent first.
type roll struct {
	front, back *session
	n           int
}

func (r *roll) add(x *session) {
	x.prev, x.next, x.listed = r.back, nil, true
	if r.back != nil {
		r.back.next = x
	} else {
		r.front = x
	}
	r.back = x
	r.n++
}

func (r *roll) remove(x *session) {
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
