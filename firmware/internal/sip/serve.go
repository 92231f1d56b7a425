package sip

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// handle takes each request that is not a retransmission. It is called on a
// goroutine of its own, and what it gets has passed the screen.
func (a *Agent) handle(req *gosip.Request, tx *gosip.ServerTx) {
	if req.IsAck() {
		a.handleACK(req)
		tx.Terminate() // an ACK is never answered
		return
	}
	if r := check(req); !r.taken() {
		a.turnAway(tx, req, r)
		return
	}
	tag, tagged := req.To().Params.Get("tag")
	if tagged && !a.isFirst(req, tag) && req.Method != gosip.CANCEL { // sipgo finds what a CANCEL is for
		a.inDialog(req, tx, tag)
		return
	}
	switch req.Method {
	case gosip.INVITE:
		a.invited(req, tx)
	case gosip.OPTIONS:
		if !a.owns(called(req.Recipient)) {
			a.turnAway(tx, req, refuse(404))
			return
		}
		a.turnAway(tx, req, refuse(200, capabilities()...))
	case gosip.REFER:
		a.turnAway(tx, req, refuse(603))
	default: // of a dialog that there is not
		a.turnAway(tx, req, refuse(481))
	}
}

// called is the user that a request URI names. An escaped letter is the letter
// (RFC 3261, 19.1.4), and of a telephone number the parameters and what only helps
// to read it do not count (19.1.6; RFC 3966, 5.1.1).
func called(u gosip.Uri) string {
	user := plainText(u.User)
	if kind, _ := u.UriParams.Get("user"); strings.EqualFold(kind, "phone") {
		user, _, _ = strings.Cut(user, ";")
		user = strings.NewReplacer("-", "", ".", "", "(", "", ")", "").Replace(user)
	}
	return user
}

// plainText is a part of a URI without its escapes.
func plainText(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

func capabilities() []gosip.Header {
	return []gosip.Header{
		gosip.NewHeader("Allow", allowed),
		gosip.NewHeader("Accept", taken),
		gosip.NewHeader("Supported", strings.Join(options, ", ")),
	}
}

// unsupported is the status for a method that is not taken.
func unsupported(method string) int {
	if strings.Contains(refused, " "+method+" ") {
		return 405
	}
	return 501
}

// firstTag is the tag with which a request outside a dialog is answered. The screen
// writes it into To before sipgo has the request, because sipgo answers a CANCEL's
// INVITE by itself and must not see it change. It is the same when the request
// comes again (RFC 3261, 8.2.7), and nobody can guess it (19.3).
func (a *Agent) firstTag(callID, fromTag string, seq uint32) string {
	mac := hmac.New(sha256.New, a.secret[:])
	fmt.Fprintf(mac, "%q %q %d", callID, fromTag, seq)
	return hex.EncodeToString(mac.Sum(nil)[:12])
}

// isFirst reports whether tag is the screen's, which whoever sent req does not know
// yet.
func (a *Agent) isFirst(req *gosip.Request, tag string) bool {
	from, _ := req.From().Params.Get("tag")
	return tag == a.firstTag(req.CallID().Value(), from, req.CSeq().SeqNo)
}

// turnAway answers a request that nothing is kept of, not even its transaction:
// when it comes again it is answered again, and in the same way (RFC 3261, 8.2.7).
func (a *Agent) turnAway(tx *gosip.ServerTx, req *gosip.Request, r refusal) {
	a.refuse(tx, req, r)
	tx.Terminate()
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
	if c.key() == [32]byte{} {
		return false
	}
	k := a.linkOf(req)
	return k == nil || k.fingerprint != c.key()
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
		a.turnAway(tx, req, refuse(481))
		return
	}
	if a.stranger(c, req) {
		a.turnAway(tx, req, refuse(403))
		return
	}
	if !c.kept.add(tx) && req.Method != gosip.BYE { // which ends all of it
		a.turnAway(tx, req, refuse(500, gosip.NewHeader("Retry-After", "2")))
		return
	}
	if !c.box.post(func(ctx context.Context) { c.requested(ctx, req, tx) }) {
		a.turnAway(tx, req, refuse(481))
	}
}

// invited makes a call of an INVITE, or refuses it.
func (a *Agent) invited(req *gosip.Request, tx *gosip.ServerTx) {
	if !a.owns(called(req.Recipient)) {
		a.turnAway(tx, req, refuse(404))
		return
	}
	if offer := descriptionIn(req); offer != nil && a.cfg.Answerable != nil {
		if err := a.cfg.Answerable(offer, hostOfSender(req), a.linkOf(req) != nil); err != nil {
			a.turnAway(tx, req, refuseOffer(err))
			return
		}
	}
	c := newIncoming(a, req, tx)
	if r := a.admit(c, tx); !r.taken() {
		a.turnAway(tx, req, r)
		return
	}
	if err := a.launch(c, nil); err != nil {
		a.remove(c)
		a.turnAway(tx, req, refuse(503))
		return
	}
}

// refuseOffer is what to say to an offer that cannot be answered.
func refuseOffer(err error) refusal {
	if errors.Is(err, ErrDescription) {
		return refuse(400)
	}
	return refuse(488, gosip.NewHeader("Warning", `304 `+agentName+` "`+ErrNoMedia.Error()+`"`)) // RFC 3261, 20.43
}

// admit registers an incoming call, unless its INVITE came to us by another way
// too (RFC 3261, 8.2.2.2), or too many calls wait already, or are kept.
func (a *Agent) admit(c *Call, tx *gosip.ServerTx) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, o := range a.calls {
		if o.incoming && id.callID == c.id.callID && o.firstTag == c.firstTag && o.firstSeq == c.firstSeq {
			return refuse(482)
		}
	}
	if !a.hasRoom(c.key(), c.source) {
		return refuse(486)
	}
	if !a.kept[a.known.of(c.key())].add(tx) {
		return refuse(503, gosip.NewHeader("Retry-After", "2"))
	}
	a.calls[c.id] = c
	return refusal{}
}

// room is hasRoom for who does not hold a.mu.
func (a *Agent) room(key [32]byte, source netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hasRoom(key, source)
}

// called are the calls to us of that Call-ID.
func (a *Agent) called(callID string) []*Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*Call
	for id, c := range a.calls {
		if c.incoming && id.callID == callID {
			out = append(out, c)
		}
	}
	return out
}
