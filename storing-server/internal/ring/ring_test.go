package ring

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
)

// A wiring carries the messages of two ends of links, which hang together.
type wiring struct {
	from wire.MAC
	mu   *sync.Mutex
	to   **link.Links
}

func (w wiring) Post(m wire.LinkMessage) {
	w.mu.Lock()
	to := *w.to
	w.mu.Unlock()
	m.Peer = w.from
	if to != nil {
		go to.Came(m)
	}
}
func (wiring) Lost() bool            { return false }
func (wiring) Doubt(context.Context) {}

var (
	own   = wire.BrowserMAC([3]byte{1, 2, 3})
	phone = wire.MAC{2, 0, 0x5e, 0, 0x53, 1}
)

// between has script run with a switch, and the phone's end of its links to the browser.
func between(t *testing.T, script func(t *testing.T, s *Switch, phone *link.Links)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		var mu sync.Mutex
		var page *link.Links
		calls := new(*link.Links)
		*calls = link.New(phone, wiring{phone, &mu, &page})
		defer (*calls).Close()
		s := New(ctx, func(own wire.MAC) (*link.Links, func(), bool) {
			mu.Lock()
			defer mu.Unlock()
			page = link.New(own, wiring{own, &mu, calls})
			return page, page.Close, true
		})
		script(t, s, *calls)
	})
}

func dial(t *testing.T, from *link.Links) *link.Conn {
	t.Helper()
	conn, err := from.Dial(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// refused reads why a call is not taken.
func refused(t *testing.T, conn *link.Conn, want string) {
	t.Helper()
	o, err := wire.ReadBrowserOffer(conn)
	if err != nil || o.Refusal != want {
		t.Errorf("the phone reads %+v, %v; want it refused: %s", o, err, want)
	}
	conn.Close()
}

// A page that says nothing is given up, one that is busy or closed says so at once, and
// no more calls wait than may.
func TestManyCalls(t *testing.T) {
	between(t, func(t *testing.T, s *Switch, phone *link.Links) {
		tab, err := s.Attach(own)
		if err != nil {
			t.Fatal(err)
		}
		var waiting []*link.Conn
		for range callsEach {
			waiting = append(waiting, dial(t, phone))
			if e := <-tab.Events(); e.Over || e.From != (wire.MAC{2, 0, 0x5e, 0, 0x53, 1}) {
				t.Errorf("the tab hears %+v", e)
			}
		}
		began := time.Now()
		refused(t, dial(t, phone), refusedBusy)
		if took := time.Since(began); took > time.Second {
			t.Errorf("one too many is told after %v", took)
		}
		for _, conn := range waiting {
			refused(t, conn, refusedUnreachable)
		}
		if took := time.Since(began); took < offerWait-time.Second || took > offerWait+3*time.Second {
			t.Errorf("a page that says nothing is given up after %v; want %v", took, offerWait)
		}
		for range callsEach {
			if e := <-tab.Events(); !e.Over {
				t.Errorf("the tab hears %+v; want that a call is over", e)
			}
		}
		conn := dial(t, phone)
		<-tab.Events()
		closed := make(chan bool)
		go func() { closed <- tab.Close() }()
		refused(t, conn, refusedUnreachable)
		if !<-closed || s.Open(own) {
			t.Error("it was not the last tab")
		}
	})
}

// A browser has so many tabs, and the server so many in all.
func TestManyTabs(t *testing.T) {
	between(t, func(t *testing.T, s *Switch, _ *link.Links) {
		var all []*Tab
		attach := func(own wire.MAC, want error) {
			t.Helper()
			tab, err := s.Attach(own)
			if !errors.Is(err, want) {
				t.Fatalf("tab %d: %v; want %v", len(all)+1, err, want)
			}
			if tab != nil {
				all = append(all, tab)
			}
		}
		for range tabsEach {
			attach(own, nil)
		}
		attach(own, ErrFull)
		for i := len(all); i < tabsMost; i++ {
			attach(wire.BrowserMAC([3]byte{9, byte(i)}), nil)
		}
		attach(wire.BrowserMAC([3]byte{8}), ErrFull)
		for i, tab := range all {
			if last := tab.Close(); last != (i >= tabsEach-1) {
				t.Errorf("tab %d was the last: %v", i+1, last)
			}
		}
		attach(own, nil)
		all[len(all)-1].Close()
		if _, err := s.Offer(t.Context(), own, "x", wire.BrowserOffer{Refusal: "busy"}); !errors.Is(err, ErrOver) {
			t.Errorf("an offer of a browser that is closed: %v", err)
		}
	})
}
