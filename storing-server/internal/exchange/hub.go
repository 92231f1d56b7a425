package exchange

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// observeTick is how long an Observe number lasts: they follow the clock, so
// that they rise over a refresh of an observation, also by another token, and
// over a restart of the server (RFC 7641, section 4.4). In the 128 seconds after
// which a client trusts its own clock more (section 3.4), 2^21 of them pass, of
// the 2^23 that a client can tell apart.
const observeTick = time.Second / (1 << 14)

// observeBits is how much of a number the option has, RFC 7641 section 2.
const observeBits = 24

// A hub knows who observes what, and owes them notifications: one goroutine
// sends those of all sessions.
type hub struct {
	wake chan struct{} // one slot

	mu    sync.Mutex
	byKey map[wire.Query]map[*observation]struct{}
	due   agenda
	began time.Time // reads the monotonic clock as well: numbers never go back
}

// An observation is one observed query. Its fields belong to hub.mu.
type observation struct {
	owner  *conversation
	token  message.Token
	key    wire.Query
	number uint64 // of the newest notification; the option has its lowest bits
	first  uint32 // the option of the answer that began it
	dirty  bool
	flying bool // a notification is not acknowledged yet
	gone   bool
	id     uint16
	sent   int
	// at is when it has to be seen to, while it is on the agenda: place is not
	// negative.
	at      time.Time
	place   int
	timeout time.Duration
}

func newHub() *hub {
	return &hub{wake: make(chan struct{}, 1), byKey: map[wire.Query]map[*observation]struct{}{}, began: time.Now()}
}

// number returns the first number after last that the clock allows.
func (h *hub) number(last uint64, now time.Time) uint64 {
	clock := uint64(h.began.UnixNano()+int64(now.Sub(h.began))) / uint64(observeTick)
	return max(last+1, clock)
}

func observeOption(number uint64) uint32 { return uint32(number & (1<<observeBits - 1)) }

// observe ends what c observes by token, and begins anew when that was asked
// for and c may. It returns nil when nothing is observed now.
func (h *hub) observe(c *conversation, token message.Token, key wire.Query, asked bool) *observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last uint64
	if old := c.observed[string(token)]; old != nil {
		last = old.number
		h.forget(old)
	}
	if !asked || c.ended || len(c.observed) >= c.limits.Observations {
		return nil
	}
	o := &observation{owner: c, token: append(message.Token(nil), token...), key: key, number: h.number(last, time.Now()), place: -1}
	o.first = observeOption(o.number)
	if c.observed == nil {
		c.observed = map[string]*observation{}
	}
	c.observed[string(token)] = o
	set := h.byKey[key]
	if set == nil {
		set = map[*observation]struct{}{}
		h.byKey[key] = set
	}
	set[o] = struct{}{}
	return o
}

// kept returns what c observes, to be resumed after a restart.
func (h *hub) kept(c *conversation) (out []keptObservable) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range c.observed {
		out = append(out, keptObservable{o.token, o.key.Path(), o.number})
	}
	return out
}

// resume goes on with an observation: whoever observes is told the present
// state, which may have changed meanwhile.
func (h *hub) resume(c *conversation, token []byte, key wire.Query, last uint64) {
	if o := h.observe(c, token, key, true); o != nil {
		h.mu.Lock()
		o.number = max(o.number, last)
		h.mu.Unlock()
		h.mark(o)
	}
}

// end forgets all that c observes.
func (h *hub) end(c *conversation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.ended = true
	for _, o := range c.observed {
		h.forget(o)
	}
}

// forget ends o; h.mu is held.
func (h *hub) forget(o *observation) {
	o.gone = true
	delete(o.owner.observed, string(o.token))
	if len(o.owner.observed) == 0 {
		o.owner.observed = nil // most sessions observe nothing
	}
	set := h.byKey[o.key]
	delete(set, o)
	if len(set) == 0 {
		delete(h.byKey, o.key)
	}
	if o.place >= 0 {
		heap.Remove(&h.due, o.place)
	}
}

// changed marks the observations of keys. It waits for nobody.
func (h *hub) changed(keys []wire.Query) {
	h.mu.Lock()
	any := false
	for _, k := range keys {
		for o := range h.byKey[k] {
			h.invalidate(o)
			any = true
		}
	}
	h.mu.Unlock()
	if any {
		h.rouse()
	}
}

// mark is changed for one observation.
func (h *hub) mark(o *observation) {
	h.mu.Lock()
	h.invalidate(o)
	h.mu.Unlock()
	h.rouse()
}

// invalidate notes that o's answer is another; h.mu is held.
func (h *hub) invalidate(o *observation) {
	o.dirty = true
	if !o.flying && !o.gone && o.place < 0 {
		o.at = time.Time{} // now
		heap.Push(&h.due, o)
	}
}

func (h *hub) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// moved: what c was told lately may have gone to where it is not any more, and is told once
// more. Both ends of a call that move at once wait for just that.
func (h *hub) moved(c *conversation) {
	h.mu.Lock()
	any := false
	for _, o := range c.observed {
		if !o.flying {
			continue
		}
		o.flying = false
		if o.place >= 0 {
			heap.Remove(&h.due, o.place)
		}
		h.invalidate(o)
		any = true
	}
	h.mu.Unlock()
	if any {
		h.rouse()
	}
}

// settle takes an acknowledgement or a reset of a notification to c.
func (h *hub) settle(c *conversation, id uint16, reset bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range c.observed {
		if o.id != id || o.sent == 0 {
			continue
		}
		o.flying = false
		if o.place >= 0 {
			heap.Remove(&h.due, o.place)
		}
		if reset {
			h.forget(o)
		} else if o.dirty {
			h.invalidate(o)
			h.rouse()
		}
		return
	}
}

// run sends notifications until ctx is done.
func (h *hub) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var alarm <-chan time.Time
		o, next := h.take(time.Now())
		switch {
		case o != nil:
			h.tell(o)
			continue
		case !next.IsZero():
			timer.Reset(time.Until(next))
			alarm = timer.C
		}
		select {
		case <-h.wake:
		case <-alarm:
		case <-ctx.Done():
			return
		}
	}
}

// take returns an observation whose notification is to be sent now, or else
// when there will be one.
func (h *hub) take(now time.Time) (o *observation, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.due) > 0 {
		o := h.due[0]
		if o.at.After(now) {
			return nil, o.at
		}
		if !o.flying {
			o.sent, o.timeout = 0, time.Duration(float64(ackTimeout)*(1+rand.Float64()/2))
		} else if o.sent > maxRetransmit {
			o.owner.drop("observer")
			h.forget(o) // nobody there (RFC 7641, section 4.5)
			continue
		}
		// A retransmission carries the newest state too, as a new message
		// (RFC 7641, section 4.5.2).
		o.id, o.flying, o.dirty = o.owner.newID(), true, false
		o.number = h.number(o.number, now)
		o.sent++
		o.at = now.Add(o.timeout)
		o.timeout *= 2
		heap.Fix(&h.due, 0)
		return o, time.Time{}
	}
	return nil, time.Time{}
}

// tell sends o's present state.
func (h *hub) tell(o *observation) {
	c := o.owner
	r := c.handler.Look(c.peer, o.key)
	h.mu.Lock()
	if o.gone {
		h.mu.Unlock()
		return
	}
	m := message.Message{Type: message.Confirmable, MessageID: int32(o.id), Token: o.token, Code: r.Code, Payload: r.Payload}
	if r.Code == codes.Content {
		m.Options = append(m.Options, wire.UintOption(message.Observe, observeOption(o.number)))
	} else {
		h.forget(o) // RFC 7641, section 4.2: an error ends it
	}
	h.mu.Unlock()
	if len(r.Payload) > 0 {
		m.Options = append(m.Options, wire.UintOption(message.ContentFormat, r.Format))
	}
	c.count.Notified()
	d := drafts.Get().(*draft)
	defer drafts.Put(d)
	c.write(d, m)
}

// An agenda is a heap of observations, the most urgent first.
type agenda []*observation

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i, j
}

func (a *agenda) Push(x any) {
	o := x.(*observation)
	o.place = len(*a)
	*a = append(*a, o)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	o := (*a)[last]
	(*a)[last], *a = nil, (*a)[:last]
	o.place = -1
	return o
}
