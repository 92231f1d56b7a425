package sip

import (
	"context"

	gosip "github.com/emiago/sipgo/sip"
)

// requested takes a request in the dialog.
func (c *Call) requested(ctx context.Context, req *gosip.Request, tx *gosip.ServerTx) {
	if tag, _ := req.From().Params.Get("tag"); c.d.remoteTag != "" && tag != c.d.remoteTag {
		c.a.refuse(tx, req, refuse(481))
		return
	}
	if !c.believes(sourceOf(req.Source())) {
		c.doubt(ctx, req, tx)
		return
	}
	if c.state == ended && req.Method != gosip.BYE {
		c.a.refuse(tx, req, refuse(481))
		return
	}
	if err := c.d.admit(req); err != nil {
		c.a.refuse(tx, req, refuse(500))
		return
	}
	c.heardFrom(req)
	switch req.Method {
	case gosip.BYE:
		c.a.respond(tx, req, 200, nil)
		c.byed(req)
	case gosip.INVITE:
		c.reinvited(ctx, req, tx)
	case gosip.UPDATE:
		c.updated(ctx, req, tx)
	case gosip.OPTIONS:
		c.a.respond(tx, req, 200, nil, capabilities()...)
	case gosip.INFO:
		c.a.refuse(tx, req, infoAnswer(req))
	case gosip.REFER:
		c.a.refuse(tx, req, refuse(603))
	case gosip.PRACK:
		c.pracked(req, tx)
	default:
		c.a.refuse(tx, req, refuse(unsupported(string(req.Method)), gosip.NewHeader("Allow", allowed)))
	}
}

// infoAnswer takes digits in INFO without believing them: ours come by RFC
// 4733, and a peer that sends both would dial twice.
func infoAnswer(req *gosip.Request) refusal {
	kind := req.ContentType()
	if len(req.Body()) == 0 || kind != nil && (isType(kind.Value(), "application/dtmf-relay") || isType(kind.Value(), "application/dtmf")) {
		return refuse(200)
	}
	return refuse(415)
}

// reinvited takes an INVITE that changes the call, or refreshes it.
func (c *Call) reinvited(ctx context.Context, req *gosip.Request, tx *gosip.ServerTx) {
	var wanted LocalMedia
	if c.elsewhere(req) { // so our own INVITE went to nobody, and this is no glare
		wanted = c.out.lm
		c.overtake()
	}
	switch {
	case c.in != nil && c.in.final == nil: // answer the first one first (RFC 3261, 14.2)
		c.a.refuse(tx, req, refuse(500, gosip.NewHeader("Retry-After", "1")))
		return
	case c.out != nil, c.in != nil && c.in.offered, c.state == starting:
		c.a.refuse(tx, req, refuse(491))
		return
	}
	c.overtaken(ctx)
	lm := c.local
	if wanted != nil {
		lm = wanted
	}
	s := &serving{req: req, tx: tx}
	c.in = s
	c.open++
	c.watch(ctx, tx)
	was := c.d.target
	c.d.refresh(req.Contact())
	if err := c.agree(ctx, s, lm); err != nil {
		c.a.log.Debug("sip: change refused", "call", c.id.callID, "err", err)
		c.d.target = was
		c.a.refuse(tx, req, refuseOffer(err))
		c.served(ErrEnded)
		return
	}
	c.moved(s)
}

// elsewhere reports whether the peer sends req from another place than the one
// to which a change of ours has gone without any response.
func (c *Call) elsewhere(req *gosip.Request) bool {
	if c.out == nil || c.out.agreed == nil || c.out.tentative {
		return false
	}
	is, _, ok := hop(req.Contact().Address)
	was, _, _ := hop(c.d.target)
	return ok && is != was
}

// overtaken: the peer sends a request that it cannot send without our 200, so
// the ACK is on its way or lost.
func (c *Call) overtaken(ctx context.Context) {
	if c.in != nil && c.in.final != nil && !c.in.offered {
		c.acked(ctx, c.in.req)
	}
}

// moved reports media that the peer has changed, or a peer that has moved.
func (c *Call) moved(s *serving) {
	elsewhere := false
	if to, _, ok := hop(c.d.target); ok {
		elsewhere = c.setPeerAddr(to)
	}
	if i := c.out; c.state == starting && i != nil && !s.media.Equal(c.media) { // it has answered early
		i.early[c.d.remoteTag], c.media = s.media, s.media
		c.events.push(Event{Kind: Early, Media: c.media})
	}
	if c.state == up && !s.offered && (!s.media.Equal(c.media) || elsewhere) {
		c.media = s.media
		c.events.push(Event{Kind: Changed, Media: c.media})
	}
}

// updated takes an UPDATE (RFC 3311), which is a re-INVITE without ACK.
func (c *Call) updated(ctx context.Context, req *gosip.Request, tx *gosip.ServerTx) {
	offer := descriptionIn(req)
	if offer != nil {
		switch {
		case c.in != nil && c.in.final == nil: // its first offer has no answer yet (5.2)
			c.a.refuse(tx, req, refuse(500, gosip.NewHeader("Retry-After", "1")))
			return
		case c.out != nil && !c.out.firm[c.d.remoteTag], c.in != nil && c.in.offered:
			c.a.refuse(tx, req, refuse(491))
			return
		}
	}
	c.overtaken(ctx)
	s := &serving{req: req, tx: tx, media: c.media}
	was := c.d.target
	c.d.refresh(req.Contact())
	var body []byte
	if offer != nil {
		var err error
		if body, s.media, err = c.local.Answer(offer, hostOfSender(req)); err != nil {
			c.d.target = was
			c.a.refuse(tx, req, refuseOffer(err))
			return
		}
	}
	headers := append(capabilities(), c.answerExpiry(req)...)
	if to, err := c.contactNow(); err == nil {
		headers = append(headers, to)
	}
	c.a.respond(tx, req, 200, body, headers...)
	c.moved(s)
}

func (c *Call) contactNow() (*gosip.ContactHeader, error) {
	if c.link != nil {
		return contact(c.a.cfg.User, c.a.linkPath(c.link, c.Peer().Addr.Addr())), nil
	}
	dest, transport := c.plainHop(c.d)
	p, err := c.a.plainPath(dest, transport)
	if err != nil {
		return nil, err
	}
	return contact(c.a.cfg.User, p), nil
}
