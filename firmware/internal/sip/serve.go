package sip

import (
	"context"
	"errors"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// handle takes each request that is not a retransmission. It is called on a
// goroutine of its own.
func (a *Agent) handle(req *gosip.Request, tx *gosip.ServerTx) {
	if req.IsAck() {
		a.handleACK(req)
		tx.Terminate() // an ACK is never answered
		return
	}
	if r := check(req); !r.taken() {
		a.refuse(tx, req, r)
		return
	}
	if tag, ok := req.To().Params.Get("tag"); ok && req.Method != gosip.CANCEL { // sipgo finds what a CANCEL is for
		a.inDialog(req, tx, tag)
		return
	}
	switch req.Method {
	case gosip.INVITE:
		a.invited(req, tx)
	case gosip.OPTIONS:
		if !a.owns(req.Recipient.User) {
			a.refuse(tx, req, refuse(404))
			return
		}
		a.respond(tx, req, 200, nil, capabilities()...)
	case gosip.BYE, gosip.UPDATE, gosip.INFO, gosip.PRACK, gosip.CANCEL:
		a.refuse(tx, req, refuse(481))
	case gosip.REFER:
		a.refuse(tx, req, refuse(603))
	default:
		a.refuse(tx, req, unsupported(req.Method))
	}
}

func capabilities() []gosip.Header {
	return []gosip.Header{
		gosip.NewHeader("Allow", allowed),
		gosip.NewHeader("Accept", taken),
	}
}

func unsupported(m gosip.RequestMethod) refusal {
	if strings.Contains(known, " "+string(m)+" ") {
		return refuse(405, gosip.NewHeader("Allow", allowed))
	}
	return refuse(501, gosip.NewHeader("Allow", allowed))
}

func (a *Agent) refuse(tx *gosip.ServerTx, req *gosip.Request, r refusal) {
	a.log.Debug("sip: request refused", "method", shown(string(req.Method)), "from", req.Source(), "code", r.code)
	a.respond(tx, req, r.code, nil, r.headers...)
}

// respond answers req.
func (a *Agent) respond(tx *gosip.ServerTx, req *gosip.Request, code int, body []byte, headers ...gosip.Header) {
	if err := tx.Respond(response(req, code, body, headers...)); err != nil {
		a.log.Debug("sip: response not sent", "code", code, "err", err)
	}
}

func response(req *gosip.Request, code int, body []byte, headers ...gosip.Header) *gosip.Response {
	res := gosip.NewResponseFromRequest(req, code, phrase(code), nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	if code > 100 {
		res.AppendHeader(gosip.NewHeader("Server", agentName))
	}
	setSDP(res, body)
	return res
}

func (a *Agent) handleACK(req *gosip.Request) {
	if !check(req).taken() {
		return
	}
	tag, _ := req.To().Params.Get("tag")
	c := a.find(req.CallID().Value(), tag)
	if c == nil || a.stranger(c, req) {
		return
	}
	c.box.post(func(ctx context.Context) { c.acked(ctx, req) })
}

// stranger reports whether req on a secure call came from another phone than
// the peer.
func (a *Agent) stranger(c *Call, req *gosip.Request) bool {
	if c.pin == [32]byte{} {
		return false
	}
	k := a.linkOf(req)
	return k == nil || k.fingerprint != c.pin
}

// linkOf is the TLS connection on which req came; nil for plain SIP.
func (a *Agent) linkOf(req *gosip.Request) *link {
	if req.Transport() != "TLS" {
		return nil
	}
	return a.tls.from(sourceOf(req.Source()))
}

func (a *Agent) inDialog(req *gosip.Request, tx *gosip.ServerTx, tag string) {
	c := a.find(req.CallID().Value(), tag)
	if c == nil {
		a.refuse(tx, req, refuse(481))
		return
	}
	if a.stranger(c, req) {
		a.refuse(tx, req, refuse(403))
		return
	}
	if !c.box.post(func(ctx context.Context) { c.requested(ctx, req, tx) }) {
		a.refuse(tx, req, refuse(481))
	}
}

// invited makes a call of an INVITE, or refuses it.
func (a *Agent) invited(req *gosip.Request, tx *gosip.ServerTx) {
	if !a.owns(req.Recipient.User) {
		a.refuse(tx, req, refuse(404))
		return
	}
	if offer := descriptionIn(req); offer != nil {
		if _, _, _, err := usable(offer, senderOf(req), a.cfg.Codecs); err != nil {
			a.refuse(tx, req, refuseOffer(err))
			return
		}
	}
	c := newIncoming(a, req, tx)
	if r := a.admit(c); !r.taken() {
		a.refuse(tx, req, r)
		return
	}
	if err := a.launch(c, nil); err != nil {
		a.remove(c)
		a.refuse(tx, req, refuse(503))
		return
	}
}

// refuseOffer is what to say to an offer that cannot be answered.
func refuseOffer(err error) refusal {
	if errors.Is(err, errBadSDP) {
		return refuse(400)
	}
	return refuse(488)
}

// admit registers an incoming call, unless its INVITE came to us by another way
// too (RFC 3261, 8.2.2.2), or too many calls wait already.
func (a *Agent) admit(c *Call) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := 0
	for id, o := range a.calls {
		if !o.incoming {
			continue
		}
		if id.callID == c.id.callID && o.firstTag == c.firstTag && o.firstSeq == c.firstSeq {
			return refuse(482)
		}
		if !o.settled.Load() {
			waiting++
		}
	}
	if waiting >= maxPending {
		return refuse(486)
	}
	a.calls[c.id] = c
	return refusal{}
}
