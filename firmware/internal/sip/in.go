package sip

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// serving is an INVITE of the peer's from its arrival to its ACK.
type serving struct {
	req      *gosip.Request
	tx       *gosip.ServerTx
	lm       LocalMedia
	media    Media
	offered  bool            // the offer is in our 200, the answer will be in the ACK
	final    *gosip.Response // our 200
	stop     func() bool     // stops repeating it
	told     reliable        // the last provisional response that wants a PRACK
	byeAfter bool            // hung up meanwhile
	up       chan error      // of Answer; nil for a re-INVITE
}

func newIncoming(a *Agent, req *gosip.Request, tx *gosip.ServerTx) *Call {
	tag, _ := req.To().Params.Get("tag") // the screen's
	d := dialogOf(req, tag)
	c := newCall(a, dialogID{d.callID, d.localTag})
	c.incoming, c.d = true, d
	c.firstTag, c.firstSeq = d.remoteTag, d.remoteSeq
	c.dest = sourceOf(req.Source())
	c.source, c.host = c.dest.Addr(), hostOfSender(req)
	c.offer = descriptionIn(req)
	c.peer = Peer{User: shown(plainText(req.From().Address.User)), DisplayName: shown(req.From().DisplayName), Addr: c.dest}
	if to, _, ok := hop(d.target); ok {
		c.peer.Addr = to
	}
	if k := a.linkOf(req); k != nil {
		c.link = k
		c.bind(k.fingerprint)
		c.peer.Relayed = k.user != ""
		c.peer.Known = a.known.of(k.fingerprint) == known
	}
	c.begin = func(ctx context.Context) { c.arrived(ctx, req, tx) }
	c.publish()
	return c
}

// arrived takes the call up and shows it to the user.
func (c *Call) arrived(ctx context.Context, req *gosip.Request, tx *gosip.ServerTx) {
	if c.link != nil {
		c.a.tls.hold(c.link)
	}
	c.heardFrom(req)
	c.in = &serving{req: req, tx: tx}
	c.open++
	c.a.respond(tx, req, 100, nil)
	c.watch(ctx, tx)
	c.expires(req, tx)
	select {
	case c.a.incoming <- c:
	default:
		c.reject(486, ReasonBusy)
	}
}

// watch brings CANCEL, and an ACK that sipgo takes for the INVITE's own, to
// the call.
func (c *Call) watch(ctx context.Context, tx *gosip.ServerTx) {
	var lost <-chan struct{}
	k := c.link
	enough := func() {}
	if k != nil {
		lost, enough = k.closed, c.a.tls.watch(k, c.a.cfg.timers.quiet)
	}
	c.aside(func() {
		defer enough()
		for {
			select {
			case ack := <-tx.Acks():
				c.box.post(func(ctx context.Context) { c.acked(ctx, ack) })
			case <-lost:
				lost = nil
				c.box.post(func(context.Context) { c.abandoned(k, tx) })
			case <-tx.Done():
				return
			case <-ctx.Done():
				return
			}
		}
	})
	if !tx.OnCancel(func(*gosip.Request) {
		c.box.post(func(context.Context) { c.cancelled(tx) })
	}) {
		c.box.post(func(context.Context) { c.cancelled(tx) })
	}
}

// cancelled: the caller has given up. sipgo has answered 200 and 487.
func (c *Call) cancelled(tx *gosip.ServerTx) {
	if c.in == nil || c.in.tx != tx || c.in.final != nil { // it crossed our 200
		return
	}
	c.served(ErrEnded)
	forget(tx)
	if c.state == starting {
		c.end(487, ReasonCancelled)
	}
}

// abandoned: the connection k is gone on which the caller waits for an answer. If it
// has not closed it, a phone of ours has moved, and calls anew.
func (c *Call) abandoned(k *link, tx *gosip.ServerTx) {
	wait := c.a.cfg.timers.anew
	if k.shut.Load() {
		wait = min(wait, c.a.cfg.timers.shut)
	}
	if k.silent.Load() && k.user != "" { // which took so much longer to find out
		wait -= min(wait, c.a.cfg.timers.far-c.a.cfg.timers.look)
	}
	c.a.log.Debug("sip: connection to the caller is gone", "call", c.id.callID, "closed", k.shut.Load(), "silent", k.silent.Load())
	c.missed(k, tx, wait)
}

// missed gives the caller up that was on k, unless it calls anew for so long. Time in which
// this phone has no way to it does not count.
func (c *Call) missed(k *link, tx *gosip.ServerTx, wait time.Duration) {
	step := min(wait, time.Second)
	c.after(step, func(context.Context) {
		if c.in == nil || c.in.tx != tx || c.in.final != nil {
			return
		}
		if c.a.reaches(k) {
			wait -= step
		}
		if wait > 0 {
			c.missed(k, tx, wait)
			return
		}
		c.served(ErrEnded)
		if c.state == starting {
			c.end(0, ReasonUnreachable)
		}
	})
}

// expires ends the ringing when the caller's patience does, if it has said when
// that is (RFC 3261, 13.3.1).
func (c *Call) expires(req *gosip.Request, tx *gosip.ServerTx) {
	h := req.GetHeader("Expires")
	if h == nil {
		return
	}
	// What is not a number says nothing; more than a day is as good as for ever.
	seconds, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 32)
	if err != nil || seconds > 24*60*60 {
		return
	}
	c.after(time.Duration(seconds)*time.Second, func(context.Context) {
		if c.state == starting && c.in != nil && c.in.tx == tx && c.in.final == nil {
			c.reject(487, ReasonCancelled)
		}
	})
}

// ownPath is how the peer's next request is to reach us.
func (c *Call) ownPath(ctx context.Context) (path, error) { return c.wayfinder(c.d)(ctx) }

func (c *Call) ring(ctx context.Context) error {
	p, err := c.ownPath(ctx)
	if err != nil {
		return err
	}
	c.tell(c.in, 180, contact(c.a.cfg.User, p), gosip.NewHeader("Allow", allowed))
	return nil
}

// refusedTime is how long a refusal is repeated for a caller who does not
// acknowledge it: at 0.5, 1.5 and 3.5 s (RFC 3261, 17.2.1). The 32 s of the RFC
// would keep every call of a flood for as long.
const refusedTime = 4 * time.Second

// forget ends the transaction of an INVITE that is refused.
func forget(tx *gosip.ServerTx) { time.AfterFunc(refusedTime, tx.Terminate) }

// reject refuses the call.
func (c *Call) reject(code int, reason string) {
	c.a.respond(c.in.tx, c.in.req, code, nil)
	forget(c.in.tx)
	c.served(ErrEnded)
	c.end(code, reason)
}

// accept answers the call with lm.
func (c *Call) accept(ctx context.Context, lm LocalMedia, answeredUp chan error) error {
	c.in.up = answeredUp
	if err := c.agree(ctx, c.in, lm); err != nil {
		c.in.up = nil
		return err
	}
	c.state = answered
	c.settled.Store(true)
	if !c.in.offered {
		c.events.push(Event{Kind: Early, Media: c.in.media})
	}
	return nil
}

// agree sends a 200 with lm and repeats it until the ACK comes.
func (c *Call) agree(ctx context.Context, s *serving, lm LocalMedia) error {
	var body []byte
	var err error
	s.lm = lm
	if offer := descriptionIn(s.req); offer != nil {
		body, s.media, err = lm.Answer(offer, hostOfSender(s.req))
	} else {
		s.offered = true
		body, err = lm.Offer()
	}
	if err != nil {
		return err
	}
	p, err := c.ownPath(ctx)
	if err != nil {
		return err
	}
	headers := append([]gosip.Header{contact(c.a.cfg.User, p)}, capabilities()...)
	headers = append(headers, c.answerExpiry(s.req)...)
	ok := response(s.req, 200, body, headers...)
	if err := s.tx.Respond(ok); errors.Is(err, gosip.ErrTransactionCanceled) { // the CANCEL was first
		return ErrEnded
	} else if err != nil {
		c.a.log.Debug("sip: 200 not sent", "call", c.id.callID, "err", err)
	}
	s.final = ok
	c.repeat(s, c.a.cfg.timers.t1, c.a.cfg.timers.t1)
	return nil
}

// repeat sends the 200 again after wait, which it doubles each time up to t2,
// and gives up after 64*T1 (RFC 3261, 13.3.1.4).
func (c *Call) repeat(s *serving, wait, passed time.Duration) {
	s.stop = c.after(wait, func(ctx context.Context) {
		if c.in != s {
			return
		}
		if passed >= c.a.cfg.timers.giveUp() {
			c.unacknowledged(ctx, s)
			return
		}
		if err := s.tx.Respond(s.final); err != nil {
			c.a.log.Debug("sip: 200 not repeated", "call", c.id.callID, "err", err)
		}
		next := min(2*wait, c.a.cfg.timers.t2)
		c.repeat(s, next, passed+next)
	})
}

// unacknowledged: the caller has not said that it knows of our 200.
func (c *Call) unacknowledged(ctx context.Context, s *serving) {
	c.served(ErrEnded)
	c.end(0, ReasonUnreachable)
	c.bye(ctx, c.d)
}

// acked takes the ACK of a 200.
func (c *Call) acked(ctx context.Context, req *gosip.Request) {
	s := c.in
	if s == nil || s.final == nil || !c.believes(sourceOf(req.Source())) || req.CSeq() == nil || req.CSeq().SeqNo != s.req.CSeq().SeqNo {
		return
	}
	if c.state == ended {
		c.served(ErrEnded)
		if s.byeAfter {
			c.bye(ctx, c.d)
		}
		return
	}
	if s.offered {
		m, err := s.lm.Take(descriptionIn(req), hostOfSender(req))
		if err != nil {
			c.a.log.Debug("sip: answer in ACK not usable", "call", c.id.callID, "err", err)
			c.served(ErrEnded)
			c.end(488, ReasonNoCodec)
			c.bye(ctx, c.d)
			return
		}
		s.media = m
	}
	first := c.state == answered
	c.local, c.media, c.state = s.lm, s.media, up
	if first {
		c.events.push(Event{Kind: Established, Media: c.media})
	} else if s.offered {
		c.events.push(Event{Kind: Changed, Media: c.media})
	}
	c.served(nil)
}

// served is done with the peer's INVITE.
func (c *Call) served(err error) {
	s := c.in
	if s == nil {
		return
	}
	c.in = nil
	c.open--
	for _, stop := range []func() bool{s.stop, s.told.stop} {
		if stop != nil {
			stop()
		}
	}
	if s.up != nil {
		s.up <- err
	}
}
