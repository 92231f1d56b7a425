// Package exchange is the server's side of CoAP over DTLS: it takes requests
// from sessions, answers each once however often it comes, and sends
// notifications to who observes.
//
// It knows messages, sessions and observations (RFC 7252 and 7641, over
// RFC 6347 and 9146). It refuses to know what a request means: that is its
// Handler's business.
//
// # Why
//
// The codec is go-coap's; its server is not used, since it tells sessions
// apart by remote address, which is what changes here, and waits for observers
// that are gone. A notification is confirmable, with one in flight for each
// observation: a lost one would leave a caller with an old address, and an
// observer that is gone is found out. What changes meanwhile is told by the
// next one, which carries the newest state alone.
//
// pion/dtls shakes hands, and has a session until the first record comes that
// shows that the client has the server's last message: until then a lost one
// must be sent again. From then on the session is one small struct, and one
// loop takes the records of all sessions; a larger machine has several, any of
// which takes any session's. Nothing in a loop waits: what must wait for the
// disk is answered by another goroutine.
package exchange

import (
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A Peer is who is at the other end of a session, as its handshake proved.
type Peer struct {
	Key wire.Fingerprint // of its certificate's key
	MAC wire.MAC         // which the certificate names
	// Issuer is the authority that vouches for both, as a Voucher says; empty:
	// none.
	Issuer string
}

// A Voucher is a Handler that knows authorities. It is asked once for each
// handshake whose signature is right.
type Voucher interface {
	// Issuer returns the authority that issued the first of the certificates;
	// empty: none.
	Issuer(certificates [][]byte) string
}

// A Request is one CoAP request.
type Request struct {
	Peer Peer
	// From is whence its datagram seemed to come; it is told to the peer, and
	// never believed.
	From netip.AddrPort
	// Message is the Handler's until Serve returns, and not after that.
	Message message.Message
}

// A Response is what a request is answered with.
type Response struct {
	Code    codes.Code
	Format  uint32 // Content-Format, when there is a payload
	Payload []byte
	// After is for how long the peer is asked to wait, where the code says that
	// it may ask again; zero: a few seconds.
	After time.Duration
	// Later is how long the answer to a non-confirmable request waits; of a session
	// one does, the newest, and a restart forgets it.
	Later time.Duration
	// Silent: a request that need not be answered is not (RFC 7967).
	Silent bool
	// Key, when it is not the zero value, is what an observation of this
	// response waits for.
	Key wire.Query
}

// A Handler answers requests. Its methods are called from many goroutines, and
// none of them may wait: all sessions wait with it.
type Handler interface {
	// Serve answers r. When that must wait for something, wait is not nil: it
	// is called once, and begins what has to be waited for, after which answer
	// is to be called once, from any goroutine.
	Serve(r Request) (resp Response, wait func(answer func(Response)))
	// Look returns the present answer to the query of an observation.
	Look(peer Peer, key wire.Query) Response
}

// Limits bound what the peers can take of this process.
type Limits struct {
	Sessions     int           // kept at a time; a newcomer finds no room, unless one was silent for KeepAlive
	SessionsEach int           // of one key
	KeepAlive    time.Duration // after that without a word a session may give way
	Handshakes   int           // unfinished at a time; the oldest that was not answered gives way
	Handshake    time.Duration // until one must be finished
	Again        float64       // handshakes a second that are tried with no room for a session, and may be of no use
	Idle         time.Duration // a session that says nothing for so long ends
	Observations int           // of one session
	Rate, Burst  float64       // requests a second of one session
	Loops        int           // goroutines that take datagrams, one at the least
}

const (
	sessionCost   = 6 << 10   // bytes, with what the collector has not freed
	handshakeCost = 100 << 10 // bytes
)

// DefaultLimits are for a machine with six gigabytes.
func DefaultLimits() Limits { return LimitsFor(6 << 30) }

// LimitsFor are for a machine, or a share of one, with so many bytes of memory:
// half of them for sessions, and a 32nd for handshakes.
func LimitsFor(memory uint64) Limits {
	return Limits{
		Sessions: int(min(max(memory/2/sessionCost, 1000), 4_000_000)), SessionsEach: 4, KeepAlive: 5 * time.Minute, // a phone speaks every four minutes at the least
		Handshakes: int(min(max(memory/32/handshakeCost, 256), 4096)), Handshake: 10 * time.Second, Again: 20,
		Idle: 10 * time.Minute, Observations: 32, Rate: 50, Burst: 200,
		Loops: runtime.GOMAXPROCS(0) / 2, // the rows and the socket want the rest
	}
}

// Counters are told of events, for metrics. All of its methods are called from
// many goroutines.
type Counters interface {
	Session(delta int)
	Handshake(ok bool)
	Dropped(why string)
	Notified()
}

// Transmission parameters of notifications, RFC 7252 section 4.8.
const (
	ackTimeout    = 2 * time.Second
	maxRetransmit = 4
)

// After how many seconds a request may come again that was turned away, said by
// Max-Age (RFC 7252, section 5.9.3.4, and RFC 8516).
const (
	unavailableFor = 5
	busyFor        = 1
)

// remembered is how many answers of a session are kept for requests that come
// again. A phone has one request on its way, seldom two.
const remembered = 16

// exchangeLifetime is for how long a message ID means the same message,
// RFC 7252 section 4.8.2.
const exchangeLifetime = 247 * time.Second

// A memory is the answers that a session gave last. It grows when there are
// more of one exchange's lifetime.
type memory struct {
	ring []remembrance
	next int // when all are used: which gives way
}

type remembrance struct {
	id      uint16
	waiting bool // it is not answered yet
	used    bool
	at      time.Time
	reply   []byte
}

// recall returns the answer to id when it came already: none while it waits
// for one.
func (m *memory) recall(id uint16, now time.Time) (reply []byte, known bool) {
	if r := m.of(id, now); r != nil {
		return r.reply, true
	}
	return nil, false
}

func (m *memory) of(id uint16, now time.Time) *remembrance {
	for i := range m.ring {
		if r := &m.ring[i]; r.used && r.id == id && now.Sub(r.at) < exchangeLifetime {
			return r
		}
	}
	return nil
}

// begin notes that id came at now, in the place of one that is as good as
// forgotten, if there is one.
func (m *memory) begin(id uint16, now time.Time) {
	at := -1
	for i, r := range m.ring {
		if !r.used || now.Sub(r.at) >= exchangeLifetime {
			at = i
			break
		}
	}
	switch {
	case at >= 0:
	case len(m.ring) < remembered:
		at = len(m.ring)
		m.ring = append(m.ring, remembrance{})
	default:
		at = m.next
		m.next = (m.next + 1) % remembered
	}
	r := &m.ring[at]
	*r = remembrance{id: id, waiting: true, used: true, at: now, reply: r.reply[:0]}
}

// end keeps a copy of the answer to id, unless that has given way.
func (m *memory) end(id uint16, now time.Time, reply []byte) {
	if r := m.of(id, now); r != nil && r.waiting {
		r.waiting, r.reply = false, append(r.reply, reply...)
	}
}

// drop forgets id: it was not answered for good, and may be another time.
func (m *memory) drop(id uint16, now time.Time) {
	if r := m.of(id, now); r != nil {
		r.used = false
	}
}

// A bucket lets rate a second pass, and burst at once.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// discard drops what is logged when no log was given.
func discard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
