package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

var (
	byNumber = phone.Destination{Number: "102"}
	byMAC    = phone.Destination{MAC: theMAC}
)

// Whom a number is, by what its row says.
func TestResolve(t *testing.T) {
	row := rowOf("192.0.2.9")
	browserRow := wire.Row{MAC: wire.BrowserMAC([3]byte{1, 2, 3}), Number: "102", Name: "Ada", State: wire.Online}
	secure := sip.Target{User: "02005e005302", Addr: netip.MustParseAddrPort("192.0.2.9:5061"), Pin: row.Fingerprint}
	for _, tt := range []struct {
		name string
		row  wire.Row
		to   phone.Destination
		want phone.Peer
		err  error
	}{
		{"a number", row, byNumber, phone.Peer{Name: "102", Target: secure}, nil},
		{"a MAC that has a number", row, byMAC, phone.Peer{Name: "102", Target: secure}, nil},
		{"a MAC that has none", with(row, func(r *wire.Row) { r.Number = "" }), byMAC, phone.Peer{Name: theMAC.Digits(), Target: secure}, nil},
		{"a phone without TLS", with(row, func(r *wire.Row) { r.Ports.SIPS = 0 }), byNumber,
			phone.Peer{Name: "102", Target: sip.Target{User: "02005e005302", Addr: netip.MustParseAddrPort("192.0.2.9:5060")}}, nil},
		{"an offline phone", with(row, func(r *wire.Row) { r.State = wire.Offline }), byNumber, phone.Peer{}, phone.ErrOffline},
		{"a phone without an address", with(row, func(r *wire.Row) { r.Addrs = nil }), byNumber, phone.Peer{}, phone.ErrOffline},
		{"a browser", browserRow, byNumber, phone.Peer{Name: "browser: Ada", Target: sip.Target{User: "066272010203", Browser: true}}, nil},
		{"a browser whose page is closed", with(browserRow, func(r *wire.Row) { r.State = wire.Offline }), byNumber, phone.Peer{}, phone.ErrOffline},
		{"an unknown number", row, phone.Destination{Number: "103"}, phone.Peer{}, phone.ErrUnknown},
	} {
		in(t, func(t *testing.T, w *world) {
			if got, err := w.Directory.Resolve(t.Context(), tt.to); got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.err)
			}
		}, tt.row)
	}
}

// Whoever dials an address gets it, whatever the storing server does.
func TestAnAddressNeedsNoServer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.resolve = silent
		p, err := w.Directory.Resolve(t.Context(), phone.Destination{Addr: netip.MustParseAddr("10.77.0.9")})
		want := phone.Peer{Name: "10.77.0.9", Target: sip.Target{User: "10.77.0.9", Addr: netip.MustParseAddrPort("10.77.0.9:5060")}}
		if p != want || err != nil || len(w.asked) > 0 || w.took() > 0 {
			t.Errorf("%+v, %v after %v and %v; want %+v at once", p, err, w.asked, w.took(), want)
		}
	})
}

// A server that cannot be asked is neither an unknown number nor an absent phone,
// and nobody waits for it longer than a person does.
func TestAServerThatCannotBeAsked(t *testing.T) {
	for m, took := range map[mood]time.Duration{no: 0, silent: resolveWait, late: lateBy, busy: time.Second, full: 0} {
		answers := m == late || m == busy
		in(t, func(t *testing.T, w *world) {
			w.resolve = m
			_, err := w.Directory.Resolve(t.Context(), byNumber)
			if errors.Is(err, phone.ErrUnknown) || errors.Is(err, phone.ErrOffline) || (err == nil) != answers || w.took() != took {
				t.Errorf("a server that %s: %v after %v; want %v", m, err, w.took(), took)
			}
		}, rowOf("192.0.2.9"))
		in(t, func(t *testing.T, w *world) {
			w.resolve = m
			caller := sip.Peer{User: theMAC.Hex(), DisplayName: "102", Secure: true, Fingerprint: wire.Fingerprint{1}}
			if got, _ := w.Vouches(t.Context(), caller); got != answers || w.took() != took {
				t.Errorf("a server that %s vouches: %v after %v; want %v", m, got, w.took(), took)
			}
		}, rowOf("192.0.2.9"))
	}
}

// Which of a phone's addresses is called.
func TestTheAddressThatIsCalled(t *testing.T) {
	const four, six = "192.0.2.9", "2001:db8::9"
	for _, tt := range []struct {
		name   string
		addrs  []string
		routes map[string]bool
		knocks map[string]mood
		want   string
		took   time.Duration
	}{
		{"the only one, without trying it", []string{four}, nil, map[string]mood{four: silent}, four, 0},
		{"the one with a route", []string{four, six}, map[string]bool{four: true}, map[string]mood{four: silent}, four, 0},
		{"the first, where there is no route at all", []string{four, six}, map[string]bool{}, nil, four, 0},
		{"IPv6 before IPv4", []string{four, six}, nil, nil, six, 0},
		{"IPv4 where IPv6 is refused", []string{four, six}, nil, map[string]mood{six: no}, four, 0},
		{"IPv4 where IPv6 is dead", []string{four, six}, nil, map[string]mood{six: silent}, four, 250 * time.Millisecond},
		{"the preferred one where all refuse", []string{four, six}, nil, map[string]mood{four: no, six: no}, six, 0},
	} {
		in(t, func(t *testing.T, w *world) {
			w.routes, w.knocks = tt.routes, tt.knocks
			p, err := w.Directory.Resolve(t.Context(), byNumber)
			if err != nil || p.Target.Addr != netip.AddrPortFrom(netip.MustParseAddr(tt.want), 5061) || w.took() != tt.took {
				t.Errorf("%s: %v, %v after %v; want %s after %v", tt.name, p.Target.Addr, err, w.took(), tt.want, tt.took)
			}
		}, rowOf(tt.addrs...))
	}
}

// A phone that takes relayed links is connected with by those when none of its addresses
// answers; its key alone says that it is the one. What its row said is remembered.
func TestByWhatWay(t *testing.T) {
	for _, tt := range []struct {
		row  wire.Row
		want sip.Way
		ways []sip.Way // that were tried: the second address answers at once
	}{
		{rowOf("192.0.2.7", "198.51.100.7"), sip.Direct, []sip.Way{sip.Direct, sip.Direct}},
		{with(rowOf("192.0.2.7", "198.51.100.7"), func(r *wire.Row) { r.Reach = wire.ReachNAT }), sip.Either, []sip.Way{sip.Direct, sip.Direct}},
		{with(rowOf("192.0.2.7", "198.51.100.7"), func(r *wire.Row) { r.Reach = wire.ReachRelay }), sip.Relayed, nil},
		{with(rowOf("192.0.2.7"), func(r *wire.Row) { r.Reach = wire.ReachDirect }), sip.Either, nil},
		{with(rowOf("192.0.2.7"), func(r *wire.Row) { r.Reach, r.Ports.SIPS = wire.ReachDirect, 0 }), sip.Direct, nil},
	} {
		in(t, func(t *testing.T, w *world) {
			w.knocks["192.0.2.7"] = no
			p, err := w.Directory.Resolve(t.Context(), phone.Destination{Number: "102"})
			if err != nil || p.Target.Way != tt.want {
				t.Errorf("%v: %v, %v; want %v", tt.row.Reach, p.Target.Way, err, tt.want)
			}
			var ways []sip.Way
			for _, to := range w.prepared {
				ways = append(ways, to.Way)
			}
			if !slices.Equal(ways, tt.ways) {
				t.Errorf("%v: tried %v; want %v", tt.row.Reach, ways, tt.ways)
			}
			if p.Target.Pin == [32]byte{} {
				return
			}
			if w.Acquainted(p.Target.Pin) {
				t.Error("a phone that was not talked to is known")
			}
			w.Met("102", sip.Peer{User: theMAC.Hex(), Addr: p.Target.Addr, Secure: true, Fingerprint: p.Target.Pin, Called: true})
			if _, err := w.Directory.Resolve(t.Context(), phone.Destination{Number: "102"}); err != nil {
				t.Fatal(err)
			}
			if known, _ := w.Known(phone.Destination{Number: "102"}); known.Target.Way != tt.want || !w.Acquainted(p.Target.Pin) {
				t.Errorf("%v: known as %+v", tt.row.Reach, known.Target)
			}
		}, tt.row)
	}
}

// The relay begins its own time after the dial, whatever the addresses do, and does not
// begin when one of them has answered before.
func TestWhenTheRelayBegins(t *testing.T) {
	const four, six, other = "192.0.2.9", "2001:db8::9", "2001:db8::10"
	for _, tt := range []struct {
		name   string
		addrs  []string
		knocks map[string]mood
		relay  mood
		begun  time.Duration // 0: never, or at once
		tried  int
		want   string
		took   time.Duration
	}{
		{"both are dead", []string{four, six}, map[string]mood{four: silent, six: silent}, well, 150 * time.Millisecond, 3, six, relayWins},
		{"of three all are dead", []string{four, six, other}, map[string]mood{four: silent, six: silent, other: silent}, well, 150 * time.Millisecond, 3, six, relayWins},
		{"one refuses, one is dead", []string{four, six}, map[string]mood{four: silent, six: no}, well, 150 * time.Millisecond, 3, six, relayWins},
		{"the second answers, the relay before it", []string{four, six}, map[string]mood{six: silent}, well, 150 * time.Millisecond, 3, four, 250 * time.Millisecond},
		{"both refuse", []string{four, six}, map[string]mood{four: no, six: no}, well, 0, 3, six, 0},
		{"the second answers, the relay is dead", []string{four, six}, map[string]mood{six: silent}, silent, 150 * time.Millisecond, 3, four, 250 * time.Millisecond},
		{"the second answers, the relay refuses", []string{four, six}, map[string]mood{six: silent}, no, 150 * time.Millisecond, 3, four, 250 * time.Millisecond},
		{"the first answers", []string{four, six}, nil, well, 0, 1, six, 0},
		{"nobody answers", []string{four, six}, map[string]mood{four: no, six: no}, no, 0, 3, six, 0},
	} {
		in(t, func(t *testing.T, w *world) {
			w.knocks, w.relay = tt.knocks, tt.relay
			p, err := w.Directory.Resolve(t.Context(), byNumber)
			if err != nil || p.Target.Addr.Addr() != netip.MustParseAddr(tt.want) || p.Target.Way != sip.Either || w.took() != tt.took {
				t.Errorf("%s: %+v, %v after %v; want %s after %v", tt.name, p.Target, err, w.took(), tt.want, tt.took)
			}
			if w.relayed != tt.begun || len(w.prepared) != tt.tried {
				t.Errorf("%s: the relay began after %v, of %d tries; want %v, of %d", tt.name, w.relayed, len(w.prepared), tt.begun, tt.tried)
			}
		}, with(rowOf(tt.addrs...), func(r *wire.Row) { r.Reach = wire.ReachNAT }))
	}
}

// A phone that we talk to is followed by its row, as long as that is its own.
func TestFollow(t *testing.T) {
	row := rowOf("192.0.2.9")
	changes := []wire.Row{
		row,
		with(row, func(r *wire.Row) { r.State = wire.Offline }),
		with(rowOf("192.0.2.66"), func(r *wire.Row) { r.Fingerprint = wire.Fingerprint{2} }),
		with(rowOf("192.0.2.67"), func(r *wire.Row) { r.Ports.SIPS = 0 }),
		rowOf(),
		with(rowOf("192.0.2.10"), func(r *wire.Row) { r.Ports.SIPS = 5062 }),
	}
	peer := sip.Peer{User: theMAC.Hex(), Secure: true, Fingerprint: row.Fingerprint}
	for _, tt := range []struct {
		name    string
		peer    func(*sip.Peer)
		observe mood
		want    []string
	}{
		{"its key has been proved", func(*sip.Peer) {}, well, []string{"192.0.2.9:5061", "192.0.2.10:5062"}},
		{"the server is late", func(*sip.Peer) {}, late, []string{"192.0.2.9:5061", "192.0.2.10:5062"}},
		{"the server does not tell", func(*sip.Peer) {}, no, nil},
		{"the server is silent", func(*sip.Peer) {}, silent, nil},
		{"it is where it was", func(p *sip.Peer) { p.Addr = netip.MustParseAddrPort("192.0.2.9:5061") }, well, []string{"192.0.2.10:5062"}},
		{"over plain SIP", func(p *sip.Peer) { p.Secure = false }, well, nil},
		{"called over plain SIP, by a row with a key", func(p *sip.Peer) { *p = sip.Peer{User: p.User, Called: true} }, well, nil},
		{"without a MAC", func(p *sip.Peer) { p.User = "alice" }, well, nil},
	} {
		in(t, func(t *testing.T, w *world) {
			w.changes, w.observe = changes, tt.observe
			p := peer
			tt.peer(&p)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			var moved []string
			go func() {
				defer close(done)
				w.Follow(ctx, p, func(to netip.AddrPort, _ bool) { moved = append(moved, to.String()) })
			}()
			time.Sleep(time.Minute)
			synctest.Wait()
			cancel()
			<-done
			if !slices.Equal(moved, tt.want) {
				t.Errorf("%s: followed to %v; want %v", tt.name, moved, tt.want)
			}
		})
	}
}

// A phone of another make that was called is followed by what its registrar says,
// from where it said that it was; not to where a key belongs.
func TestFollowARegisteredPhone(t *testing.T) {
	row := func(addr string, port uint16) wire.Row {
		return with(rowOf(addr), func(r *wire.Row) { r.Fingerprint, r.Ports = wire.Fingerprint{}, wire.Ports{SIP: port} })
	}
	keyed := with(rowOf("192.0.2.66"), func(r *wire.Row) { r.Fingerprint = wire.Fingerprint{2} })
	in(t, func(t *testing.T, w *world) {
		w.changes = []wire.Row{row("192.0.2.8", 5062), row("192.0.2.8", 5062), keyed, row("192.0.2.10", 5062), row("192.0.2.10", 5060)}
		ctx, cancel := context.WithCancel(t.Context())
		var moved []string
		var done sync.WaitGroup
		peer := sip.Peer{User: theMAC.Hex(), Called: true, Addr: netip.MustParseAddrPort("192.0.2.8:40000")} // as its Contact says
		done.Go(func() { w.Follow(ctx, peer, func(to netip.AddrPort, _ bool) { moved = append(moved, to.String()) }) })
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		done.Wait()
		if want := []string{"192.0.2.10:5062", "192.0.2.10:5060"}; !slices.Equal(moved, want) {
			t.Errorf("followed to %v; want %v", moved, want)
		}
	})
}

// When this phone has lost its addresses of a family, a peer that has others is spoken
// with there, and stays where it is while there is no way to any.
func TestFollowOverAnotherFamily(t *testing.T) {
	row := rowOf("192.0.2.9", "2001:db8::9")
	in(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		var moved []string
		var done sync.WaitGroup
		peer := sip.Peer{User: theMAC.Hex(), Secure: true, Fingerprint: row.Fingerprint, Addr: netip.MustParseAddrPort("192.0.2.9:5061")}
		done.Go(func() { w.Follow(ctx, peer, func(to netip.AddrPort, _ bool) { moved = append(moved, to.String()) }) })
		synctest.Wait()
		for _, routes := range []map[string]bool{nil, {}, {"2001:db8::9": true}, nil} {
			w.routes = routes
			w.Told([]wire.Row{row})
			synctest.Wait()
		}
		cancel()
		done.Wait()
		if want := []string{"[2001:db8::9]:5061"}; !slices.Equal(moved, want) {
			t.Errorf("followed to %v; want %v", moved, want)
		}
	})
}

// Where a phone of several addresses is most likely is told at once, for its sound, and where
// it takes connections when that is known. What is found of a row does not count when there
// is a newer one, and the same row again is no reason to begin again.
func TestFollowToSeveralAddresses(t *testing.T) {
	at := func(sequence uint64, addrs ...string) wire.Row {
		return with(rowOf(addrs...), func(r *wire.Row) { r.Sequence = sequence })
	}
	for _, tt := range []struct {
		name   string
		from   string
		knocks map[string]mood
		rows   []wire.Row // told 100 ms after each other
		want   []string
	}{
		{"it is there", "192.0.2.9:5061", nil, []wire.Row{at(2, "2001:db8::a", "192.0.2.10")},
			[]string{"0s 192.0.2.10", "0s 192.0.2.10 found"}},
		{"it is there, over IPv6", "[2001:db8::9]:5061", nil, []wire.Row{at(2, "192.0.2.10", "2001:db8::a")},
			[]string{"0s 2001:db8::a", "0s 2001:db8::a found"}},
		{"it is at the other", "192.0.2.9:5061", map[string]mood{"192.0.2.10": silent}, []wire.Row{at(2, "192.0.2.10", "2001:db8::a")},
			[]string{"0s 192.0.2.10", "250ms 2001:db8::a found"}},
		{"it is late", "192.0.2.9:5061", map[string]mood{"192.0.2.10": late, "2001:db8::a": silent}, []wire.Row{at(2, "192.0.2.10", "2001:db8::a"), at(2, "192.0.2.10", "2001:db8::a")},
			[]string{"0s 192.0.2.10", "1s 192.0.2.10 found"}},
		{"it moves on meanwhile", "192.0.2.9:5061", map[string]mood{"192.0.2.10": late, "2001:db8::a": silent}, []wire.Row{at(2, "192.0.2.10", "2001:db8::a"), at(3, "192.0.2.11", "2001:db8::b")},
			[]string{"0s 192.0.2.10", "100ms 192.0.2.11", "100ms 192.0.2.11 found"}},
		{"and to one alone", "192.0.2.9:5061", map[string]mood{"192.0.2.10": late, "2001:db8::a": silent}, []wire.Row{at(2, "192.0.2.10", "2001:db8::a"), at(3, "192.0.2.11")},
			[]string{"0s 192.0.2.10", "100ms 192.0.2.11 found"}},
		{"it is nowhere", "192.0.2.9:5061", map[string]mood{"192.0.2.10": no, "2001:db8::a": no}, []wire.Row{at(2, "192.0.2.10", "2001:db8::a")},
			[]string{"0s 192.0.2.10", "0s 192.0.2.10 found"}}, // the next request says why
	} {
		in(t, func(t *testing.T, w *world) {
			w.knocks = tt.knocks
			ctx, cancel := context.WithCancel(t.Context())
			peer := sip.Peer{User: theMAC.Hex(), Secure: true, Fingerprint: wire.Fingerprint{1}, Addr: netip.MustParseAddrPort(tt.from)}
			var moved []string
			var done sync.WaitGroup
			done.Go(func() {
				w.Follow(ctx, peer, func(to netip.AddrPort, found bool) {
					said := fmt.Sprint(w.took(), " ", to.Addr())
					if found {
						said += " found"
					}
					moved = append(moved, said)
				})
			})
			synctest.Wait()
			for _, row := range tt.rows {
				w.Told([]wire.Row{row})
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			cancel()
			done.Wait()
			if !slices.Equal(moved, tt.want) {
				t.Errorf("%s: %q; want %q", tt.name, moved, tt.want)
			}
		})
	}
}

// Whoever is followed is named in announcements, and what their receipts tell is
// believed as what the server tells by itself, unless it is older.
func TestReceiptsTellWhereAPhoneIs(t *testing.T) {
	at := func(sequence uint64, addr string) wire.Row {
		return with(rowOf(addr), func(r *wire.Row) { r.Sequence = sequence })
	}
	in(t, func(t *testing.T, w *world) {
		w.changes = []wire.Row{at(5, "192.0.2.9")}
		if got := w.Followed(); len(got) != 0 {
			t.Errorf("follows %v before there is a call", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var moved []string
		var done sync.WaitGroup
		peer := sip.Peer{User: theMAC.Hex(), Secure: true, Fingerprint: wire.Fingerprint{1}, Addr: netip.MustParseAddrPort("192.0.2.9:5061")}
		done.Go(func() {
			w.Follow(ctx, peer, func(to netip.AddrPort, _ bool) { moved = append(moved, to.Addr().String()) })
		})
		synctest.Wait()
		if got := w.Followed(); !slices.Equal(got, []wire.MAC{theMAC}) {
			t.Errorf("follows %v; want %v", got, theMAC)
		}
		other := with(at(99, "192.0.2.77"), func(r *wire.Row) { r.MAC[5]++ })
		for _, rows := range [][]wire.Row{{other, at(6, "192.0.2.10")}, {at(4, "192.0.2.8")}, nil, {at(7, "192.0.2.11")}} {
			w.Told(rows)
			synctest.Wait()
		}
		for range 3 * rowsWaiting { // more than anybody waits for
			w.Told([]wire.Row{at(8, "192.0.2.12")})
		}
		synctest.Wait()
		cancel()
		done.Wait()
		if want := []string{"192.0.2.10", "192.0.2.11", "192.0.2.12"}; !slices.Equal(moved, want) {
			t.Errorf("followed to %v; want %v", moved, want)
		}
		if got := w.Followed(); len(got) != 0 {
			t.Errorf("follows %v after the call", got)
		}
	})
}

// Only the owner of a row's key, who gives the row's number, is believed.
func TestVouches(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*sip.Peer, *wire.Row)
		want   bool
	}{
		"the phone itself":          {func(*sip.Peer, *wire.Row) {}, true},
		"while its row is offline":  {func(_ *sip.Peer, r *wire.Row) { r.State = wire.Offline }, true},
		"without a short number":    {func(p *sip.Peer, r *wire.Row) { p.DisplayName, r.Number = theMAC.Digits(), "" }, true},
		"by digits beside a number": {func(p *sip.Peer, _ *wire.Row) { p.DisplayName = theMAC.Digits() }, false},
		"with another key":          {func(p *sip.Peer, _ *wire.Row) { p.Fingerprint = [32]byte{2} }, false},
		"with another's number":     {func(p *sip.Peer, _ *wire.Row) { p.DisplayName = "103" }, false},
		"over plain SIP":            {func(p *sip.Peer, _ *wire.Row) { p.Secure = false }, false},
		"without a row":             {func(_ *sip.Peer, r *wire.Row) { r.MAC[5]++ }, false},
		"without a MAC":             {func(p *sip.Peer, _ *wire.Row) { p.User = "alice" }, false},
	} {
		row := rowOf("192.0.2.9")
		p := sip.Peer{User: theMAC.Hex(), DisplayName: "102", Secure: true, Fingerprint: row.Fingerprint}
		tt.change(&p, &row)
		in(t, func(t *testing.T, w *world) {
			if got, _ := w.Vouches(t.Context(), p); got != tt.want {
				t.Errorf("%s: %v; want %v", name, got, tt.want)
			}
		}, row)
	}
}
