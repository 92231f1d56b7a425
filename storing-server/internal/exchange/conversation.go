package exchange

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A conversation is the CoAP side of one session: what was answered and what
// is observed. It knows nothing of DTLS; send puts one datagram on its way.
type conversation struct {
	handler Handler
	hub     *hub
	limits  Limits
	peer    Peer
	send    func([]byte)
	count   Counters

	// Of the goroutine that receives.
	memory memory
	bucket bucket

	mu       sync.Mutex
	nextID   uint16
	observed map[string]*observation // by token
	wake     chan struct{}           // one slot, for the notifier
	notifier bool                    // is running
	ended    bool
	stop     chan struct{}
	running  sync.WaitGroup
}

// An observation is one observed query. Its fields belong to conversation.mu.
type observation struct {
	owner   *conversation
	token   message.Token
	key     wire.Query
	number  uint32
	dirty   bool
	flying  bool // a notification is not acknowledged yet
	id      uint16
	sent    int
	resend  time.Time
	timeout time.Duration
}

func newConversation(h Handler, hub *hub, l Limits, peer Peer, count Counters, send func([]byte)) *conversation {
	return &conversation{
		handler: h, hub: hub, limits: l, peer: peer, send: send, count: count,
		nextID:   uint16(rand.Uint32()),
		observed: map[string]*observation{},
		wake:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
	}
}

// end forgets all observations and waits for the notifier.
func (c *conversation) end() {
	c.mu.Lock()
	if !c.ended {
		c.ended = true
		close(c.stop)
	}
	for _, o := range c.observed {
		c.hub.remove(o)
	}
	clear(c.observed)
	c.mu.Unlock()
	c.running.Wait()
}

// receive takes one datagram of the session.
func (c *conversation) receive(ctx context.Context, data []byte, from func() netip.AddrPort) {
	m, err := wire.DecodeMessage(data)
	if err != nil {
		if len(data) > wire.MaxMessage {
			c.count.Dropped("oversized")
		} else {
			c.count.Dropped("malformed")
		}
		return // RFC 7252 section 4.2: silently ignored, as if it was lost
	}
	id := uint16(m.MessageID)
	switch {
	case m.Type == message.Acknowledgement || m.Type == message.Reset:
		c.settle(id, m.Type == message.Reset)
	case m.Code == codes.Empty:
		if m.Type == message.Confirmable { // a ping
			c.reply(message.Message{Type: message.Reset, MessageID: m.MessageID})
		}
	case m.Code < 32: // a request
		c.request(ctx, m, from)
	case m.Type == message.Confirmable: // a response that was never asked for
		c.reply(message.Message{Type: message.Reset, MessageID: m.MessageID})
	}
}

func (c *conversation) request(ctx context.Context, m message.Message, from func() netip.AddrPort) {
	id := uint16(m.MessageID)
	now := time.Now()
	if reply, known := c.memory.recall(id, now); known {
		c.count.Dropped("repeated")
		if reply != nil {
			c.send(reply)
		}
		return
	}
	if !c.bucket.take(now, c.limits.Rate, c.limits.Burst) {
		// Not remembered: the same request may pass later.
		c.count.Dropped("rate")
		body, _ := wire.EncodeProblem(wire.Problem{Reason: wire.ReasonBusy, Detail: "too many requests"})
		c.reply(c.answer(m, Response{Code: wire.CodeTooManyRequests, Format: wire.FormatProblem, Payload: body}))
		return
	}
	resp := c.handler.Serve(ctx, Request{Peer: c.peer, From: from, Message: m})
	if resp.Code >= codes.BadRequest && resp.Code != codes.NotFound {
		c.count.Dropped(fmt.Sprintf("refused %d.%02d", resp.Code>>5, resp.Code&31))
	}
	out := c.answer(m, resp)
	if resp.Key != (wire.Query{}) {
		var o *observation
		if out, o = c.observe(m, out, resp); o != nil {
			// What changed between the answer and the observation.
			if again := c.handler.Look(c.peer, resp.Key); again.Code != resp.Code || !bytes.Equal(again.Payload, resp.Payload) {
				defer o.changed()
			}
		}
	}
	reply, err := wire.EncodeMessage(out)
	if err != nil {
		c.count.Dropped("unanswerable")
		return
	}
	c.memory.remember(id, now, reply)
	c.send(reply)
}

// answer makes a response to m: piggy-backed on the acknowledgement of a
// confirmable request, else non-confirmable.
func (c *conversation) answer(m message.Message, r Response) message.Message {
	out := message.Message{Type: message.Acknowledgement, MessageID: m.MessageID, Token: m.Token, Code: r.Code}
	if m.Type == message.NonConfirmable {
		c.mu.Lock()
		c.nextID++
		out.Type, out.MessageID = message.NonConfirmable, int32(c.nextID)
		c.mu.Unlock()
	}
	if len(r.Payload) > 0 {
		out.Options = append(out.Options, wire.UintOption(message.ContentFormat, r.Format))
		out.Payload = r.Payload
	}
	switch r.Code {
	case codes.ServiceUnavailable:
		out.Options = append(out.Options, wire.UintOption(message.MaxAge, unavailableFor))
	case wire.CodeTooManyRequests:
		out.Options = append(out.Options, wire.UintOption(message.MaxAge, busyFor))
	}
	return out
}

func (c *conversation) reply(m message.Message) {
	if out, err := wire.EncodeMessage(m); err == nil {
		c.send(out)
	}
}

// observe begins or ends an observation as m asks, and returns the answer that
// says so (RFC 7641, section 4.1).
func (c *conversation) observe(m, out message.Message, r Response) (message.Message, *observation) {
	register, asked := wire.Uint(m, message.Observe)
	c.mu.Lock()
	defer c.mu.Unlock()
	token := string(m.Token)
	old := c.observed[token]
	if old != nil {
		c.forget(old)
	}
	if !asked || register != 0 || r.Code != codes.Content || c.ended || len(c.observed) >= c.limits.Observations {
		return out, nil
	}
	o := &observation{owner: c, token: append(message.Token(nil), m.Token...), key: r.Key, number: 2}
	c.observed[token] = o
	c.hub.add(o)
	if !c.notifier {
		c.notifier = true
		c.running.Go(c.notify)
	}
	out.Options = append(message.Options{wire.UintOption(message.Observe, o.number)}, out.Options...)
	return out, o
}

// forget ends o; c.mu is held.
func (c *conversation) forget(o *observation) {
	delete(c.observed, string(o.token))
	c.hub.remove(o)
}

// changed marks o; it is called by the hub and never waits for a peer.
func (o *observation) changed() {
	c := o.owner
	c.mu.Lock()
	o.dirty = true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// settle takes an acknowledgement or a reset of a notification.
func (c *conversation) settle(id uint16, reset bool) {
	c.mu.Lock()
	for _, o := range c.observed {
		if o.id == id && o.sent > 0 {
			if reset {
				c.forget(o)
			}
			o.flying = false
			break
		}
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// notify sends notifications until the conversation ends.
func (c *conversation) notify() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := c.notifyDue(time.Now())
		var alarm <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			alarm = timer.C
		}
		select {
		case <-c.wake:
		case <-alarm:
		case <-c.stop:
			return
		}
	}
}

// notifyDue sends what is due at now, and returns when something will be.
func (c *conversation) notifyDue(now time.Time) (next time.Time) {
	c.mu.Lock()
	var due []*observation
	for _, o := range c.observed {
		if o.flying && !now.Before(o.resend) {
			if o.sent > maxRetransmit {
				c.forget(o) // nobody there (RFC 7641, section 4.5)
				c.count.Dropped("observer")
				continue
			}
			due = append(due, o)
		} else if !o.flying && o.dirty {
			o.sent, o.timeout = 0, time.Duration(float64(ackTimeout)*(1+rand.Float64()/2))
			due = append(due, o)
		}
	}
	for _, o := range due {
		// A retransmission carries the newest state too, as a new message
		// (RFC 7641, section 4.5.2).
		c.nextID++
		o.id, o.flying, o.dirty = c.nextID, true, false
		o.number = (o.number + 1) & (1<<24 - 1)
		o.sent++
		o.resend = now.Add(o.timeout)
		o.timeout *= 2
	}
	for _, o := range c.observed {
		if o.flying && (next.IsZero() || o.resend.Before(next)) {
			next = o.resend
		}
	}
	c.mu.Unlock()
	for _, o := range due {
		c.tell(o)
	}
	return next
}

// tell sends o's present state.
func (c *conversation) tell(o *observation) {
	r := c.handler.Look(c.peer, o.key)
	c.mu.Lock()
	m := message.Message{Type: message.Confirmable, MessageID: int32(o.id), Token: o.token, Code: r.Code, Payload: r.Payload}
	if r.Code == codes.Content {
		m.Options = append(m.Options, wire.UintOption(message.Observe, o.number))
	} else {
		c.forget(o) // RFC 7641, section 4.2: an error ends it
	}
	c.mu.Unlock()
	if len(r.Payload) > 0 {
		m.Options = append(m.Options, wire.UintOption(message.ContentFormat, r.Format))
	}
	c.count.Notified()
	c.reply(m)
}

// A hub knows who observes what.
type hub struct {
	mu    sync.Mutex
	byKey map[wire.Query]map[*observation]struct{}
}

func newHub() *hub { return &hub{byKey: map[wire.Query]map[*observation]struct{}{}} }

func (h *hub) add(o *observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.byKey[o.key]
	if set == nil {
		set = map[*observation]struct{}{}
		h.byKey[o.key] = set
	}
	set[o] = struct{}{}
}

func (h *hub) remove(o *observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.byKey[o.key]
	delete(set, o)
	if len(set) == 0 {
		delete(h.byKey, o.key)
	}
}

// changed marks the observations of keys.
func (h *hub) changed(keys []wire.Query) {
	var hit []*observation
	h.mu.Lock()
	for _, k := range keys {
		for o := range h.byKey[k] {
			hit = append(hit, o)
		}
	}
	h.mu.Unlock()
	for _, o := range hit {
		o.changed()
	}
}
