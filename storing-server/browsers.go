package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/ring"
	"flexphone/storing-server/internal/store"
)

// browserLingers is for how long the link of a browser is there after the phone's answer,
// so that its end arrives.
const browserLingers = 5 * time.Second

// browsers are pages: each is an end of links of its own. One that calls a phone is, as
// long as offer and answer take; one that phones call, as long as it is open. It is a
// web.Caller.
type browsers struct {
	rows  *store.Store
	relay *links.Relay
	ring  *ring.Switch                                             // of those that phones call
	pass  func(to wire.Fingerprint, path string, body []byte) bool // set before the first call
	seen  func(wire.Fingerprint) netip.Addr                        // likewise: as what a phone is seen here; zero: it has no session
	// seenAway is the same of the other servers of the cluster, which are asked; nil: there are none.
	seenAway func(wire.Fingerprint) netip.Addr

	mu   sync.Mutex
	open map[wire.MAC]*link.Links
}

func newBrowsers(ctx context.Context, rows *store.Store, relay *links.Relay) *browsers {
	b := &browsers{rows: rows, relay: relay, open: map[wire.MAC]*link.Links{}}
	b.ring = ring.New(ctx, b.stand)
	return b
}

// stand makes the links of a browser that phones call.
func (b *browsers) stand(own wire.MAC) (page *link.Links, end func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[own] != nil {
		return nil, nil, false
	}
	page = link.New(own, carrier{b, own})
	b.open[own] = page
	return page, func() { b.end(own, page) }, true
}

// Call implements web.Caller.
func (b *browsers) Call(ctx context.Context, to wire.MAC, o wire.BrowserOffer) (wire.BrowserAnswer, error) {
	own, page := b.begin()
	defer time.AfterFunc(browserLingers, func() { b.end(own, page) })
	conn, err := page.Dial(ctx, to)
	if err != nil {
		return wire.BrowserAnswer{}, err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until) // never fails
	}
	if err := wire.WriteBrowserOffer(conn, o); err != nil {
		return wire.BrowserAnswer{}, err
	}
	return wire.ReadBrowserAnswer(conn)
}

// where is where a phone may be spoken to: first as what it is seen, which is a NAT's where it is
// behind one, and then where its row says that it is.
func (b *browsers) where(m wire.MAC) (all []netip.Addr) {
	row, ok := b.rows.Resolve(wire.Query{MAC: m})
	if !ok {
		return nil
	}
	if at := b.seen(row.Fingerprint); at.IsValid() {
		all = append(all, at)
	}
	return append(all, row.Addrs...)
}

// away is as what another server of the cluster sees a phone that has no session here; zero: none
// does.
func (b *browsers) away(m wire.MAC) netip.Addr {
	row, ok := b.rows.Resolve(wire.Query{MAC: m})
	if !ok || b.seenAway == nil || b.seen(row.Fingerprint).IsValid() {
		return netip.Addr{}
	}
	return b.seenAway(row.Fingerprint)
}

// begin makes the links of one page.
func (b *browsers) begin() (own wire.MAC, page *link.Links) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		var n [3]byte
		rand.Read(n[:]) // never fails
		if own = wire.BrowserMAC(n); b.open[own] == nil {
			page = link.New(own, carrier{b, own})
			b.open[own] = page
			return own, page
		}
	}
}

func (b *browsers) end(own wire.MAC, page *link.Links) {
	page.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, own)
}

// came takes a message of a link for a page, and reports whether that is here.
func (b *browsers) came(to wire.MAC, body []byte) bool {
	b.mu.Lock()
	page := b.open[to]
	b.mu.Unlock()
	if page == nil {
		return false
	}
	if m, err := wire.DecodeLink(body); err == nil {
		page.Came(m)
	}
	return true
}

// A carrier carries the messages of one page, under the limits of any link.
type carrier struct {
	*browsers
	own wire.MAC
}

// Post implements link.Carrier.
func (c carrier) Post(m wire.LinkMessage) {
	to, ok := c.rows.Resolve(wire.Query{MAC: m.Peer})
	verdict := links.Nobody
	if ok && to.Fingerprint != (wire.Fingerprint{}) {
		verdict = c.relay.Pass(c.own, m, time.Now(), func() bool {
			passed := m
			passed.Peer = c.own
			body, err := wire.EncodeLink(passed)
			return err == nil && c.pass(to.Fingerprint, wire.PathLink, body)
		})
	}
	if verdict != links.Passed {
		c.mu.Lock()
		page := c.open[c.own]
		c.mu.Unlock()
		busy := verdict == links.TooMuch || verdict == links.Nobody
		if page != nil {
			page.Refuse(m.Link, fmt.Errorf("storing-server: call from a browser: not passed on: %s", verdict), busy)
		}
	}
}

// Lost implements link.Carrier.
func (carrier) Lost() bool { return false }

// Doubt implements link.Carrier: the phone finds its server by itself.
func (carrier) Doubt(context.Context) {}
