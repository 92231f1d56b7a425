// Package ring keeps the browsers that phones can call: which of them have a page open
// here, and the calls that wait for what such a page says.
//
// It knows tabs, links and offers. It refuses to know who may be called (package web),
// how a message of a link comes to a phone, and what page and phone say to each other
// once they have each other's descriptions: that goes directly.
package ring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
)

const (
	// tabsMost is how many pages may be open here, and tabsEach of one browser.
	tabsMost = 200
	tabsEach = 4
	// callsEach is how many calls of one browser may wait for its offer.
	callsEach = 4
	// offerWait is how long a page may take to make an offer. A phone waits longer.
	offerWait = 10 * time.Second
	// answerWait bounds what a phone makes of that.
	answerWait = 15 * time.Second
	// eventsMost is how many events a tab may not have read.
	eventsMost = 16
	// lastWords is how long a refusal may take to arrive.
	lastWords = 2 * time.Second
)

// Errors of tabs and calls.
var (
	ErrFull = errors.New("too many pages are open here")
	ErrOver = errors.New("this call is over, or another page has it")
)

// Refusals, as a phone reads them.
const (
	refusedBusy        = "busy"
	refusedUnreachable = "unreachable"
)

// An Event is what a tab hears of a call: that there is one, or Over.
type Event struct {
	Call string   // its name, for Offer and Refuse
	From wire.MAC // the phone that calls
	Over bool     // it is over, or another tab has it
}

// A Switch is all browsers that have a page open here. Its methods may be called
// concurrently.
type Switch struct {
	ctx   func() context.Context
	stand func(own wire.MAC) (page *link.Links, end func(), ok bool)

	mu    sync.Mutex
	tabs  int
	pages map[wire.MAC]*page
}

// New returns a Switch without pages, whose calls end with ctx. stand makes the end of the
// links to a browser, until end is called; not ok: it cannot now.
func New(ctx context.Context, stand func(own wire.MAC) (page *link.Links, end func(), ok bool)) *Switch {
	return &Switch{ctx: func() context.Context { return ctx }, stand: stand, pages: map[wire.MAC]*page{}}
}

// A page is one browser.
type page struct {
	own  wire.MAC
	end  func() // and waits for all that goes on
	tabs map[*Tab]struct{}
	// calls are those that wait for an offer, by name.
	calls map[string]*call
}

// A Tab is one open page of a browser.
type Tab struct {
	s      *Switch
	page   *page
	events chan Event
}

// A call waits for the offer of a tab, or its refusal.
type call struct {
	from    wire.MAC
	conn    *link.Conn
	heard   chan answer            // one slot: all that the phone says, or that it has hung up
	says    chan wire.BrowserOffer // one slot; whoever takes the call out of the map fills it
	answers chan answer            // one slot
}

type answer struct {
	wire.BrowserAnswer
	err error
}

// Attach opens a tab of a browser, which hears of calls until it is closed.
func (s *Switch) Attach(own wire.MAC) (*Tab, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pages[own]
	if s.tabs >= tabsMost || p != nil && len(p.tabs) >= tabsEach {
		return nil, fmt.Errorf("ring: open page of %v: %w", own, ErrFull)
	}
	if p == nil {
		links, stop, ok := s.stand(own)
		if !ok {
			return nil, fmt.Errorf("ring: open page of %v: %w", own, ErrFull)
		}
		p = &page{own: own, tabs: map[*Tab]struct{}{}, calls: map[string]*call{}}
		ctx, cancel := context.WithCancel(s.ctx()) // of the browser, whose tabs come and go
		var serving sync.WaitGroup
		serving.Go(func() { s.serve(ctx, p, links, &serving) })
		p.end = func() {
			cancel()
			serving.Wait() // the refusals are written
			stop()
		}
		s.pages[own] = p
	}
	t := &Tab{s: s, page: p, events: make(chan Event, eventsMost)}
	p.tabs[t] = struct{}{}
	s.tabs++
	for id, c := range p.calls { // that ring already
		t.events <- Event{Call: id, From: c.from}
	}
	return t, nil
}

// Close closes a tab, and reports whether it was the browser's last: then whoever calls
// is refused.
func (t *Tab) Close() (last bool) {
	t.s.mu.Lock()
	delete(t.page.tabs, t)
	t.s.tabs--
	if last = len(t.page.tabs) == 0; last {
		delete(t.s.pages, t.page.own)
	}
	t.s.mu.Unlock()
	if last {
		t.page.end()
	}
	return last
}

// Open reports whether a browser has a page open here.
func (s *Switch) Open(own wire.MAC) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages[own] != nil
}

// Events are those of the tab's browser.
func (t *Tab) Events() <-chan Event { return t.events }

// tell tells all tabs; s.mu is held. A tab that does not read hears no more.
func (p *page) tell(e Event) {
	for t := range p.tabs {
		select {
		case t.events <- e:
		default:
		}
	}
}

// serve takes the links that phones open to a browser.
func (s *Switch) serve(ctx context.Context, p *page, links *link.Links, serving *sync.WaitGroup) {
	for {
		conn, err := links.Accept(ctx)
		if err != nil {
			return
		}
		serving.Go(func() { s.ring(ctx, p, conn) })
	}
}

// ring is one call, until the page and the phone have each other's descriptions.
func (s *Switch) ring(ctx context.Context, p *page, conn *link.Conn) {
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(offerWait + answerWait)) // never fails
	from, _ := conn.RemoteAddr().(link.Addr)                     // it is always one
	c := &call{from: from.MAC, conn: conn, heard: make(chan answer, 1), says: make(chan wire.BrowserOffer, 1), answers: make(chan answer, 1)}
	reading.Go(func() {
		a, err := wire.ReadBrowserAnswer(conn)
		c.heard <- answer{a, err}
	})
	id := strings.ToLower(rand.Text())
	s.mu.Lock()
	full := len(p.calls) >= callsEach
	if !full {
		p.calls[id] = c
		p.tell(Event{Call: id, From: c.from})
	}
	s.mu.Unlock()
	if full {
		c.refuse(refusedBusy)
		return
	}
	late := time.NewTimer(offerWait)
	defer late.Stop()
	reason := refusedUnreachable
	select {
	case o := <-c.says:
		c.exchange(ctx, o)
		return
	case a := <-c.heard: // before it was asked: it has hung up
		c.heard <- a
		reason = ""
	case <-late.C:
	case <-ctx.Done():
	}
	if s.take(p, id) == nil { // a tab has just said something
		c.exchange(ctx, <-c.says)
	} else if reason != "" {
		c.refuse(reason)
	}
}

// exchange brings what a tab has said to the phone, and its answer back.
func (c *call) exchange(ctx context.Context, o wire.BrowserOffer) {
	if o.Refusal != "" {
		c.answers <- answer{}
		c.refuse(o.Refusal)
		return
	}
	if err := wire.WriteBrowserOffer(c.conn, o); err != nil {
		c.answers <- answer{err: err}
		return
	}
	select {
	case a := <-c.heard: // by the deadline of conn
		c.answers <- a
	case <-ctx.Done():
		c.answers <- answer{err: ErrOver}
	}
}

// refuse tells the phone why, and waits until it has read that.
func (c *call) refuse(reason string) {
	_ = c.conn.SetDeadline(time.Now().Add(lastWords)) // never fails
	if wire.WriteBrowserOffer(c.conn, wire.BrowserOffer{Refusal: reason}) == nil {
		<-c.heard // it closes the link
	}
}

// take takes a call out of those that wait, so that one alone says something; nil: it is
// not there. The other tabs hear that it is over.
func (s *Switch) take(p *page, id string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := p.calls[id]
	if c != nil {
		delete(p.calls, id)
		p.tell(Event{Call: id, From: c.from, Over: true})
	}
	return c
}

// Offer brings the offer of a tab to the phone that calls its browser, and the answer
// back. The first tab that makes one has the call; the others get ErrOver.
func (s *Switch) Offer(ctx context.Context, own wire.MAC, id string, o wire.BrowserOffer) (wire.BrowserAnswer, error) {
	if err := o.Validate(); err != nil {
		return wire.BrowserAnswer{}, err
	}
	s.mu.Lock()
	p := s.pages[own]
	s.mu.Unlock()
	var c *call
	if p != nil {
		c = s.take(p, id)
	}
	if c == nil {
		return wire.BrowserAnswer{}, fmt.Errorf("ring: answer call: %w", ErrOver)
	}
	c.says <- o
	select {
	case a := <-c.answers:
		return a.BrowserAnswer, a.err
	case <-ctx.Done():
		return wire.BrowserAnswer{}, fmt.Errorf("ring: answer call: %w", ctx.Err())
	}
}
