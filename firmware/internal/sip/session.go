package sip

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// An established call may be a session that expires unless one end says in time
// that it goes on (RFC 4028). We never ask for that, since sound and its reports
// tell whether a peer lives; but a peer or a proxy may, and we keep to it in either
// role.
const (
	shortest = 90        // seconds; a shorter session is refused (RFC 4028, 4)
	longest  = 24 * 3600 // seconds; more is as good as for ever
	margin   = 32        // seconds before the end of a session that the peer has not refreshed
)

// An expiry is what Session-Expires says.
type expiry struct {
	seconds   uint32
	refresher string // "uac", who has sent the request; "uas"; "": not said
}

// expiryIn reads the Session-Expires of a message; seconds is 0 where there is
// none, or one that is no number.
func expiryIn(msg headed) expiry {
	number, rest, _ := strings.Cut(valueOf(msg, "Session-Expires"), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if err != nil {
		return expiry{}
	}
	e := expiry{seconds: uint32(n)}
	for one := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(strings.ToLower(one), "=")
		if strings.TrimSpace(name) == "refresher" {
			e.refresher = strings.TrimSpace(value)
		}
	}
	return e
}

func (e expiry) header() gosip.Header {
	return gosip.NewHeader("Session-Expires", fmt.Sprintf("%d;refresher=%s", e.seconds, e.refresher))
}

// knowsTimer reports whether whoever sent req understands what expires.
func knowsTimer(req headed) bool {
	return offers(req, "Supported", optionTimer) || offers(req, "Require", optionTimer)
}

// agreedExpiry is what we answer to an INVITE or UPDATE that names an expiry: the
// peer refreshes if it can and does not want us to. One that is too short is
// refused before (checkSession), unless nobody would understand that: then there
// is none.
func agreedExpiry(req headed) expiry {
	e := expiryIn(req)
	switch knows := knowsTimer(req); {
	case e.seconds < shortest:
		return expiry{}
	case knows && e.refresher != "uas":
		e.refresher = "uac"
	default:
		e.refresher = "uas"
	}
	return e
}

// checkSession refuses a session that is too short (RFC 4028, 9).
func checkSession(req headed) refusal {
	if e := expiryIn(req); valueOf(req, "Session-Expires") != "" && e.seconds < shortest && knowsTimer(req) {
		return refuse(422, gosip.NewHeader("Min-SE", fmt.Sprint(shortest)))
	}
	return refusal{}
}

// A session is how long the call goes on by itself.
type session struct {
	seconds uint32 // 0: as long as it likes
	ours    bool   // we refresh it
	raised  bool   // the peer has wanted a longer one once
	update  bool   // the peer takes UPDATE
	stops   []func() bool
}

// expiry is what a request of ours in the call says of its session.
func (s session) expiry() []gosip.Header {
	if s.seconds == 0 {
		return nil
	}
	e := expiry{s.seconds, "uas"}
	if s.ours {
		e.refresher = "uac"
	}
	return []gosip.Header{e.header()}
}

// answerExpiry keeps to the expiry of a request of the peer's, and says so in the
// headers of the response.
func (c *Call) answerExpiry(req *gosip.Request) []gosip.Header {
	e := agreedExpiry(req)
	c.takeAllow(req)
	c.expire(e.seconds, e.refresher == "uas")
	switch {
	case e.seconds == 0:
		return nil
	case e.refresher == "uac": // RFC 4028, 9
		return []gosip.Header{e.header(), gosip.NewHeader("Require", optionTimer)}
	}
	return []gosip.Header{e.header()}
}

// takeExpiry keeps to what the peer has answered to a request of ours.
func (c *Call) takeExpiry(res *gosip.Response) {
	e := expiryIn(res)
	c.takeAllow(res)
	c.expire(e.seconds, e.refresher != "uas")
}

func (c *Call) takeAllow(msg headed) {
	if allow := values(msg, "Allow"); len(allow) > 0 {
		c.session.update = offers(msg, "Allow", string(gosip.UPDATE))
	}
}

// expire begins the session anew. Ours is refreshed in the middle and given up at
// its end; the peer's is given up as long before its end as the RFC has it
// (RFC 4028, 10).
func (c *Call) expire(seconds uint32, ours bool) {
	s := &c.session
	for _, stop := range s.stops {
		stop()
	}
	s.stops, s.seconds, s.ours = nil, min(seconds, longest), ours
	if s.seconds == 0 {
		return
	}
	unit := c.a.cfg.timers.session
	whole := time.Duration(s.seconds) * unit
	if ours {
		s.stops = append(s.stops, c.after(time.Duration(float64(whole)*c.a.cfg.timers.refresh), c.refresh), c.after(whole, c.expired))
	} else {
		s.stops = append(s.stops, c.after(whole-min(margin*unit, whole/3), c.expired))
	}
}

// expired: the session has not been refreshed.
func (c *Call) expired(ctx context.Context) {
	if c.state != up {
		return
	}
	c.end(0, ReasonUnreachable)
	c.bye(ctx, c.d)
}

// refresh says that the session goes on: by UPDATE, which touches no media, where
// the peer takes it. Until that is confirmed it is tried again and again.
func (c *Call) refresh(ctx context.Context) {
	if c.state == ended {
		return
	}
	const tries = 8 // in the half of the session that is left
	whole := time.Duration(c.session.seconds) * c.a.cfg.timers.session
	c.session.stops = append(c.session.stops, c.after(whole/2/tries, c.refresh))
	switch {
	case c.state != up:
	case c.session.update:
		c.updateOnly(ctx)
	case c.out == nil && c.in == nil:
		if err := c.invite(ctx, c.local, make(chan error, 1)); err != nil {
			c.a.log.Debug("sip: session not refreshed", "call", c.id.callID, "err", err)
			return
		}
		c.out.refreshes = true
	}
}

// updateOnly sends an UPDATE that changes nothing.
func (c *Call) updateOnly(ctx context.Context) {
	d := c.d
	c.exchange(ctx, &exchange{
		d: d, asking: true,
		build: func(p path) *gosip.Request {
			req := d.request(gosip.UPDATE, p, 0)
			for _, h := range c.session.expiry() {
				req.AppendHeader(h)
			}
			return req
		},
		response: func(ctx context.Context, res *gosip.Response) {
			switch {
			case res.IsProvisional() || c.state == ended:
			case res.IsSuccess():
				d.refresh(res.Contact())
				c.takeExpiry(res)
			case res.StatusCode == 422:
				if c.lengthen(res) {
					c.updateOnly(ctx)
				}
			case res.StatusCode == 405, res.StatusCode == 501:
				c.session.update = false
			case res.StatusCode == 481, res.StatusCode == 408:
				c.end(0, ReasonUnreachable)
				c.bye(ctx, d)
			}
		},
		failed: func(_ context.Context, err error) {
			c.a.log.Debug("sip: session not refreshed", "call", c.id.callID, "err", err)
		},
	})
}

// lengthen takes over that the peer wants longer sessions (RFC 4028, 7.3), once,
// and reports whether what was refused may be tried again.
func (c *Call) lengthen(res *gosip.Response) bool {
	least, err := strconv.ParseUint(valueOf(res, "Min-SE"), 10, 32)
	s := &c.session
	if err != nil || s.raised || uint32(least) <= s.seconds || least > longest {
		return false
	}
	s.raised, s.seconds = true, uint32(least)
	return true
}
