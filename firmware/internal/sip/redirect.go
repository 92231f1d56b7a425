package sip

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	gosip "github.com/emiago/sipgo/sip"
)

// maxRedirects is how many places a call is led to before it is given up.
const maxRedirects = 5

// A redirection is where a call has been and may yet go (RFC 3261, 8.1.3.4).
type redirection struct {
	seen map[string]bool // each place is tried once: that ends loops
	next []gosip.Uri     // places to try, the best first
}

// redirected follows a 3xx, or goes on to another place that one has named when
// the last one is no good, and reports whether it does. A phone that is called by
// its key is where its row says, and nowhere else.
func (c *Call) redirected(ctx context.Context, res *gosip.Response) bool {
	if c.state != starting || c.target.Pin != [32]byte{} {
		return false
	}
	switch res.StatusCode {
	case 300, 301, 302:
		c.redirection.add(c.d.target, res)
	case 486, 600, 603, 604, 606: // that was the right place
		return false
	}
	return c.tryNext(ctx)
}

// tryNext calls at the next place that is one; false: there is none.
func (c *Call) tryNext(ctx context.Context) bool {
	r := &c.redirection
	for len(r.next) > 0 && len(r.seen) <= maxRedirects && c.state == starting {
		to := r.next[0]
		r.next = r.next[1:]
		at, transport, ok := hop(to)
		key := placeOf(to)
		if !ok || r.seen[key] || c.a.isHere(at) {
			continue
		}
		r.seen[key] = true
		c.a.log.Info("sip: call redirected", "call", c.id.callID, "to", key)
		c.leadTo(to, at)
		if transport == "TLS" {
			c.connectAny(ctx, at)
		} else if !c.callAgain(ctx) {
			return false
		}
		return true
	}
	return false
}

// add notes where a response from was leads to.
func (r *redirection) add(was gosip.Uri, res *gosip.Response) {
	if r.seen == nil {
		r.seen = map[string]bool{placeOf(was): true}
	}
	type choice struct {
		uri gosip.Uri
		q   float64
	}
	var all []choice
	for _, h := range res.GetHeaders("Contact") {
		to, ok := h.(*gosip.ContactHeader)
		if !ok || !reachable(to.Address) {
			continue
		}
		q := 1.0
		if said, has := to.Params.Get("q"); has {
			if n, err := strconv.ParseFloat(said, 64); err == nil {
				q = n
			}
		}
		uri := *to.Address.Clone()
		uri.Headers = nil
		all = append(all, choice{uri, q})
	}
	slices.SortStableFunc(all, func(a, b choice) int { return cmp.Compare(b.q, a.q) })
	var best []gosip.Uri
	for _, one := range all[:min(len(all), maxForks)] {
		best = append(best, one.uri)
	}
	r.next = append(best, r.next...)
	r.next = r.next[:min(len(r.next), maxForks)]
}

// placeOf tells places apart.
func placeOf(u gosip.Uri) string {
	at, transport, _ := hop(u)
	return fmt.Sprintf("%s %s@%v", transport, plainText(u.User), at)
}

// isHere reports whether at is this phone itself.
func (a *Agent) isHere(at netip.AddrPort) bool {
	if at.Port() != a.sip.Port() && at.Port() != a.sips.Port() {
		return false
	}
	from, err := localFor(at)
	return err == nil && from == at.Addr().Unmap()
}

// leadTo makes the call one to another place: with the same Call-ID and the same
// From, so that whoever gets it twice knows (RFC 3261, 8.1.3.4).
func (c *Call) leadTo(to gosip.Uri, at netip.AddrPort) {
	d := c.d
	d.remoteTag, d.routes, d.recordRouteCompleted = "", nil, false
	d.target = to
	c.dest, c.nat, c.media = at, false, Media{}
	c.carriedBy(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.Addr, c.peer.Called = at, false // whoever that is
}

// callAgain sends the INVITE to where the call is led now, and reports whether it
// could.
func (c *Call) callAgain(ctx context.Context) bool {
	if err := c.inviteFirst(ctx); err != nil {
		c.a.log.Warn("sip: no offer", "err", err)
		return false
	}
	return true
}

// connectAny connects by TLS to a place whose key nobody has told us (sips, or
// transport=tls). Whoever is there is the peer from then on, and is known by its
// key as one of our own phones is.
func (c *Call) connectAny(ctx context.Context, at netip.AddrPort) {
	c.open++
	c.aside(func() {
		k, _, err := c.a.tls.dial(ctx, place{addr: at})
		posted := c.box.post(func(ctx context.Context) {
			c.open--
			switch {
			case err == nil && c.state == starting:
				c.use(k)
				c.bind(k.fingerprint)
				if !c.callAgain(ctx) {
					c.end(0, ReasonFailed)
				}
			case err == nil:
				c.a.tls.release(k)
			case !c.tryNext(ctx):
				c.end(failure(fmt.Errorf("%w: %w", errUnreachable, err)))
			}
		})
		if !posted && err == nil {
			c.a.tls.release(k)
		}
	})
}
