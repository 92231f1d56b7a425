package sip

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// What may be asked of us with Require, and what we say in Supported: provisional
// responses that are acknowledged (RFC 3262), and sessions that expire (RFC 4028).
const (
	optionReliable = "100rel"
	optionTimer    = "timer"
)

// options are those of us, as a Supported header says it.
var options = []string{optionReliable, optionTimer}

// offers reports whether msg has an option in a header, Require or Supported.
func offers(msg headed, name, option string) bool {
	return slices.ContainsFunc(values(msg, name), func(v string) bool { return strings.EqualFold(v, option) })
}

// unknownOptions are what msg requires and we cannot do (RFC 3261, 8.2.2.3).
func unknownOptions(msg headed) []string {
	return slices.DeleteFunc(values(msg, "Require"), func(v string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return strings.EqualFold(o, v) })
	})
}

// A reliable response is one of ours that the caller has to acknowledge by PRACK
// (RFC 3262, 3).
type reliable struct {
	seq  uint32          // its RSeq; 0: there was none yet
	res  *gosip.Response // nil: it has been acknowledged
	stop func() bool     // stops repeating it
}

// tell sends a provisional response, reliably if the caller requires that. One
// without a description is all that we have before somebody answers; where the
// first reliable one would have to bring the offer (RFC 3262, 5), there is none,
// and while one is not acknowledged there is no further one.
func (c *Call) tell(s *serving, code int, headers ...gosip.Header) {
	if !offers(s.req, "Require", optionReliable) {
		c.a.respond(s.tx, s.req, code, nil, headers...)
		return
	}
	if descriptionIn(s.req) == nil || s.told.res != nil {
		return
	}
	if s.told.seq++; s.told.seq == 1 {
		s.told.seq = firstRSeq()
	}
	headers = append(headers, gosip.NewHeader("Require", optionReliable), gosip.NewHeader("RSeq", fmt.Sprint(s.told.seq)))
	s.told.res = response(s.req, code, nil, headers...)
	c.send(s, s.told.res)
	c.repeatTold(s, c.a.cfg.timers.t1, c.a.cfg.timers.t1)
}

// firstRSeq is where the numbers of reliable responses begin: anywhere in the
// lower half of what there is (RFC 3262, 3).
func firstRSeq() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint32(b[:])>>2 + 1
}

func (c *Call) send(s *serving, res *gosip.Response) {
	if err := s.tx.Respond(res); err != nil {
		c.a.log.Debug("sip: response not sent", "call", c.id.callID, "code", res.StatusCode, "err", err)
	}
}

// repeatTold sends a reliable response again after wait, which it doubles each
// time, and refuses the call when it was in vain for 64*T1 (RFC 3262, 3).
func (c *Call) repeatTold(s *serving, wait, passed time.Duration) {
	s.told.stop = c.after(wait, func(context.Context) {
		if c.in != s || s.final != nil || s.told.res == nil {
			return
		}
		if passed >= c.a.cfg.timers.giveUp() {
			c.reject(504, ReasonUnreachable)
			return
		}
		c.send(s, s.told.res)
		c.repeatTold(s, 2*wait, passed+2*wait)
	})
}

// pracked takes a PRACK (RFC 3262, 3). What it acknowledges had no offer, so that
// one of its own comes too early.
func (c *Call) pracked(req *gosip.Request, tx *gosip.ServerTx) {
	s := c.in
	if s == nil || s.told.res == nil || valueOf(req, "RAck") != rack(s.told.seq, s.req) {
		c.a.refuse(tx, req, refuse(481))
		return
	}
	s.told.res = nil
	s.told.stop()
	if descriptionIn(req) != nil {
		c.a.refuse(tx, req, refuse(488))
		return
	}
	c.a.respond(tx, req, 200, nil)
}

// rack is what a PRACK says of the response that it acknowledges, of which seq is
// the RSeq, to an INVITE (RFC 3262, 7.2).
func rack(seq uint32, invite *gosip.Request) string {
	return fmt.Sprintf("%d %d %s", seq, invite.CSeq().SeqNo, gosip.INVITE)
}

// provisional is the number of a response that has to be acknowledged; ok is false
// for every other.
func provisional(res *gosip.Response) (seq uint32, ok bool) {
	if !offers(res, "Require", optionReliable) || tagOf(res) == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(valueOf(res, "RSeq"), 10, 32)
	return uint32(n), err == nil
}

// acknowledges sends the PRACK that a reliable response wants, and reports whether
// it is the next one of its phone: one that comes again, or too early, is as good
// as not there (RFC 3262, 4).
func (c *Call) acknowledges(ctx context.Context, i *inviting, res *gosip.Response, seq uint32) (next bool) {
	tag := tagOf(res)
	last, known := i.rseqs[tag]
	if known && seq != last+1 || !known && len(i.rseqs) >= maxForks {
		return false
	}
	if i.rseqs == nil {
		i.rseqs = make(map[string]uint32)
	}
	i.rseqs[tag] = seq
	d := *c.d
	d.learn(res)
	c.exchange(ctx, &exchange{
		d: &d, asking: true,
		build: func(p path) *gosip.Request {
			c.d.localSeq++ // one count for all phones that the INVITE has reached
			req := d.request(gosip.PRACK, p, c.d.localSeq)
			req.AppendHeader(gosip.NewHeader("RAck", rack(seq, i.req)))
			return req
		},
		response: func(context.Context, *gosip.Response) {},
		failed: func(_ context.Context, err error) {
			c.a.log.Debug("sip: PRACK not confirmed", "call", c.id.callID, "err", err)
		},
	})
	return true
}
