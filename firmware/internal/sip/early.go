package sip

import (
	"context"

	gosip "github.com/emiago/sipgo/sip"
)

// overhear brings a provisional response to its call in the order in which it
// was read. sipgo handles each response on a goroutine of its own and drops a
// provisional one that a 2xx overtakes; but that may be the only one with a
// description.
func (a *Agent) overhear(msg gosip.Message) {
	res, ok := msg.(*gosip.Response)
	if !ok || !res.IsProvisional() || res.StatusCode == 100 {
		return
	}
	id, from, seq, via := res.CallID(), res.From(), res.CSeq(), res.Via()
	if id == nil || from == nil || seq == nil || via == nil || seq.MethodName != gosip.INVITE {
		return
	}
	tag, _ := from.Params.Get("tag")
	branch, _ := via.Params.Get("branch")
	if c := a.find(id.Value(), tag); c != nil && !c.incoming {
		c.box.post(func(ctx context.Context) { c.progress(ctx, branch, res) })
	}
}

// progress takes a provisional response to the INVITE of that branch.
func (c *Call) progress(ctx context.Context, branch string, res *gosip.Response) {
	i := c.out
	if c.state != starting || i == nil || i.done || !i.x.sent {
		return
	}
	if ours, _ := i.req.Via().Params.Get("branch"); branch != ours {
		return
	}
	seq, reliable := provisional(res)
	if reliable && !c.acknowledges(ctx, i, res, seq) {
		return
	}
	if res.StatusCode == 180 || res.StatusCode == 183 {
		c.events.push(Event{Kind: Progress, Code: res.StatusCode})
		c.early(i, res, reliable)
	}
}

// early takes a description that came before the final response. Each phone
// that answers through a proxy is a dialog with a description of its own
// (RFC 3261, 13.2.2.4), and the last one to describe itself is heard.
//
// Reliably it is the answer, and what the same phone says later is none: whatever
// changes then, an UPDATE has changed.
func (c *Call) early(i *inviting, res *gosip.Response, reliable bool) {
	answer, tag := descriptionIn(res), tagOf(res)
	if answer == nil || i.firm[tag] {
		return
	}
	m, err := i.lm.Take(answer, hostOfSender(res))
	if err != nil {
		c.a.log.Debug("sip: early description not usable", "call", c.id.callID, "err", err)
		return
	}
	if _, known := i.early[tag]; !known && len(i.early) >= maxForks {
		return
	}
	if i.early == nil {
		i.early, i.firm = make(map[string]Media), make(map[string]bool)
	}
	i.early[tag], i.firm[tag] = m, reliable
	if c.media.Equal(m) {
		return
	}
	c.media = m
	c.events.push(Event{Kind: Early, Media: m})
}
