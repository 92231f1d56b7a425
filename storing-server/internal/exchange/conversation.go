package exchange

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A endpoint is what all conversations of a server share.
type endpoint struct {
	handler    Handler
	hub        *hub
	limits     Limits
	count      Counters
	limitedLog *limitedLog
}

// A conversation is the CoAP side of one session: what was answered and what
// is observed. It knows nothing of DTLS.
type conversation struct {
	*endpoint
	peer   Peer
	sender sender
	nextID atomic.Uint32

	mu     sync.Mutex
	memory memory
	bucket bucket
	later  *time.Timer // sends the answer that waits; nil: none ever did

	// Of the hub, and under its lock.
	observed map[string]*observation // by token
	ended    bool
}

// A sender puts one message on its way, without waiting.
type sender interface {
	send(message []byte)
	// answered tells that the peer has acknowledged or refused the message with
	// an ID.
	answered(id uint16, from netip.AddrPort)
}

func (c *conversation) begin(t *endpoint, peer Peer, s sender) {
	c.endpoint, c.peer, c.sender = t, peer, s
	c.nextID.Store(rand.Uint32())
}

// end forgets all observations, and the answer that waits.
func (c *conversation) end() {
	c.mu.Lock()
	if c.later != nil {
		c.later.Stop()
	}
	c.mu.Unlock()
	c.hub.end(c)
}

// drop counts and logs what is turned away of this session. That a request
// came again is nobody's fault.
func (c *conversation) drop(why string) {
	c.count.Dropped(why)
	if why != repeated {
		c.limitedLog.say(why, "mac", c.peer.MAC.String())
	}
}

const repeated = "repeated"

// A draft is room to read and to write a message in.
type draft struct {
	options [wire.MaxOptions]message.Option
	buf     []byte
}

var drafts = sync.Pool{New: func() any { return &draft{buf: make([]byte, 0, wire.MaxMessage)} }}

// receive takes one message of the session.
func (c *conversation) receive(data []byte, from netip.AddrPort) {
	d := drafts.Get().(*draft)
	defer drafts.Put(d)
	m := message.Message{Options: d.options[:0]}
	if err := wire.DecodeInto(&m, data); err != nil {
		if len(data) > wire.MaxMessage {
			c.drop("oversized")
		} else {
			c.drop("malformed")
		}
		// RFC 7252, section 4.2: who waits for an answer to this would wait in
		// vain. What is no message of this version is ignored (section 3).
		if len(data) >= 4 && data[0]>>6 == 1 && isConfirmable(data) {
			c.write(d, message.Message{Type: message.Reset, MessageID: int32(binary.BigEndian.Uint16(data[2:]))})
		}
		return
	}
	switch {
	case m.Type == message.Acknowledgement || m.Type == message.Reset:
		c.hub.settle(c, uint16(m.MessageID), m.Type == message.Reset)
		c.sender.answered(uint16(m.MessageID), from)
	case m.Code == codes.Empty:
		if m.Type == message.Confirmable { // a ping
			c.write(d, message.Message{Type: message.Reset, MessageID: m.MessageID})
		}
	case m.Code < 32: // a request
		c.request(d, m, from)
	case m.Type == message.Confirmable: // a response that was never asked for
		c.write(d, message.Message{Type: message.Reset, MessageID: m.MessageID})
	}
}

func (c *conversation) request(d *draft, m message.Message, from netip.AddrPort) {
	id, now := uint16(m.MessageID), time.Now()
	c.mu.Lock()
	if reply, known := c.memory.recall(id, now); known {
		if len(reply) > 0 {
			c.sender.send(reply)
		}
		c.mu.Unlock()
		c.drop(repeated)
		return
	}
	if !c.bucket.take(now, c.limits.Rate, c.limits.Burst) {
		c.mu.Unlock()
		// Not remembered: the same request may pass later.
		c.drop("rate")
		body, _ := wire.EncodeProblem(wire.Problem{Reason: wire.ReasonBusy, Detail: "too many requests"})
		c.write(d, c.answer(m, Response{Code: wire.CodeTooManyRequests, Format: wire.FormatProblem, Payload: body}))
		return
	}
	c.memory.begin(id, now)
	c.mu.Unlock()
	resp, wait := c.handler.Serve(Request{Peer: c.peer, From: from, Message: m})
	if wait == nil && resp.Later > 0 {
		c.answerLater(m, resp, now)
		return
	}
	if wait == nil {
		c.finish(d, m, resp)
		return
	}
	// What is left of m when its datagram is gone.
	head := message.Message{Type: m.Type, MessageID: m.MessageID, Token: append(message.Token(nil), m.Token...)}
	wait(func(resp Response) {
		d := drafts.Get().(*draft)
		defer drafts.Put(d)
		c.finish(d, head, resp)
	})
}

// answerLater has m answered after resp.Later, instead of what waits already.
func (c *conversation) answerLater(m message.Message, resp Response, now time.Time) {
	head := message.Message{Type: message.NonConfirmable, Token: append(message.Token(nil), m.Token...)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory.end(uint16(m.MessageID), now, nil)
	if c.later != nil {
		c.later.Stop()
	}
	c.later = time.AfterFunc(resp.Later, func() {
		d := drafts.Get().(*draft)
		defer drafts.Put(d)
		c.write(d, c.answer(head, resp)) // nowhere, when the session has ended
	})
}

// finish sends the answer to m, and remembers it.
func (c *conversation) finish(d *draft, m message.Message, resp Response) {
	if resp.Code >= codes.BadRequest && resp.Code != codes.NotFound {
		c.drop(refusals[resp.Code])
	}
	if resp.Silent && m.Type == message.NonConfirmable {
		c.mu.Lock()
		c.memory.drop(uint16(m.MessageID), time.Now()) // nothing is lost if it is taken twice
		c.mu.Unlock()
		return
	}
	out := c.answer(m, resp)
	if resp.Key != (wire.Query{}) {
		var o *observation
		if out, o = c.observe(m, out, resp); o != nil {
			// What changed between the answer and the observation.
			if again := c.handler.Look(c.peer, resp.Key); again.Code != resp.Code || !bytes.Equal(again.Payload, resp.Payload) {
				defer c.hub.mark(o)
			}
		}
	}
	reply, err := wire.AppendMessage(d.buf[:0], out)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.memory.drop(uint16(m.MessageID), time.Now())
		c.drop("unanswerable")
		return
	}
	c.memory.end(uint16(m.MessageID), time.Now(), reply)
	c.sender.send(reply)
}

// refusals names the codes of refusals, for metrics.
var refusals = func() (names [256]string) {
	for code := range names {
		names[code] = fmt.Sprintf("refused %d.%02d", code>>5, code&31)
	}
	return names
}()

// answer makes a response to m: piggy-backed on the acknowledgement of a
// confirmable request, else non-confirmable.
func (c *conversation) answer(m message.Message, r Response) message.Message {
	out := message.Message{Type: message.Acknowledgement, MessageID: m.MessageID, Token: m.Token, Code: r.Code}
	if m.Type == message.NonConfirmable {
		out.Type, out.MessageID = message.NonConfirmable, int32(c.newID())
	}
	if len(r.Payload) > 0 {
		out.Options = append(out.Options, wire.UintOption(message.ContentFormat, r.Format))
		out.Payload = r.Payload
	}
	after := uint32(r.After / time.Second)
	switch {
	case r.Code == codes.ServiceUnavailable:
		out.Options = append(out.Options, wire.UintOption(message.MaxAge, max(after, unavailableFor)))
	case r.Code == wire.CodeTooManyRequests:
		out.Options = append(out.Options, wire.UintOption(message.MaxAge, max(after, busyFor)))
	}
	return out
}

func (c *conversation) newID() uint16 { return uint16(c.nextID.Add(1)) }

// write sends m, which nobody remembers.
func (c *conversation) write(d *draft, m message.Message) {
	if out, err := wire.AppendMessage(d.buf[:0], m); err == nil {
		c.sender.send(out)
	}
}

// observe begins or ends an observation as m asks, and returns the answer that
// says so (RFC 7641, section 4.1).
func (c *conversation) observe(m, out message.Message, r Response) (message.Message, *observation) {
	register, asked := wire.Uint(m, message.Observe)
	o := c.hub.observe(c, m.Token, r.Key, asked && register == 0 && r.Code == codes.Content)
	if o == nil {
		return out, nil
	}
	out.Options = append(message.Options{wire.UintOption(message.Observe, o.first)}, out.Options...)
	return out, o
}
