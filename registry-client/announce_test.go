package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

var testMAC = wire.MAC{2, 0, 0x5e, 0, 0x53, 1}

// A fakeServer is a storing server with one row, and the link to it.
type fakeServer struct {
	mu       sync.Mutex
	start    time.Time
	away     bool // no answers
	refuse   error
	have     uint64 // sequence of the row
	session  uint64
	lost     chan struct{}
	log      []string // what came, with the time since start in whole seconds
	attempts []time.Duration
	probes   int
	known    uint64         // the session that the phone has, since it last got an answer
	from     netip.AddrPort // whence the server sees us

	// What is between.
	forgets time.Duration // who was silent for so long; zero: nobody
	loses   int           // every so many-th word; zero: none
	heard   time.Time     // the phone, last
	old     bool          // the server gives no word
	packets int
	words   int
	longest time.Duration // that a word was asked for after
}

func newFakeServer() *fakeServer {
	return &fakeServer{start: time.Now(), session: 1, lost: make(chan struct{}, 1)}
}

func (f *fakeServer) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf("%d ", int(time.Since(f.start).Seconds()))+fmt.Sprintf(format, args...))
}

func (f *fakeServer) Register(ctx context.Context, r wire.Registration) (wire.Receipt, error) {
	f.mu.Lock()
	f.attempts = append(f.attempts, time.Since(f.start))
	f.packets += 2
	f.heard = time.Now()
	away, refuse := f.away, f.refuse
	f.mu.Unlock()
	if away {
		<-ctx.Done()
		return wire.Receipt{}, unreachable(ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if refuse != nil {
		return wire.Receipt{}, refuse
	}
	if r.Sequence <= f.have {
		f.note("stale")
		return wire.Receipt{}, fmt.Errorf("test: %w", &StaleError{f.have})
	}
	f.have, f.known = r.Sequence, f.session
	f.note("register %v for %v", r.Addrs[0], r.Lifetime)
	receipt := wire.Receipt{Sequence: r.Sequence, Expiry: time.Now().Add(r.Lifetime), Reflexive: f.from}
	for _, mac := range r.Peers {
		receipt.Peers = append(receipt.Peers, wire.Row{MAC: mac})
	}
	return receipt, nil
}

func (f *fakeServer) Release(_ context.Context, _ wire.MAC, sequence uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sequence <= f.have {
		return &StaleError{f.have}
	}
	f.have = sequence
	f.note("release")
	return nil
}

func (f *fakeServer) Alive(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	away := f.away
	if time.Since(f.heard) >= aliveFor {
		f.probes++
		f.packets += 2
		f.heard = time.Now()
	}
	f.mu.Unlock()
	if away {
		<-ctx.Done()
		return 0, unreachable(ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = f.session
	return f.session, nil
}

// Knock implements Link. A server that was killed does not understand who has a session of
// before. What is between takes the phone's words for a sign of life, and not the server's.
func (f *fakeServer) Knock(after time.Duration) (<-chan bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	word := make(chan bool, 1)
	session, asked := f.known, time.Now()
	f.heard, f.longest = asked, max(f.longest, after)
	f.packets++
	if f.old {
		f.packets++
		close(word)
		return word, nil
	}
	time.AfterFunc(after, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.away || session != f.session {
			return
		}
		f.packets++
		f.words++
		if (f.forgets == 0 || time.Since(f.heard) < f.forgets) && (f.loses == 0 || f.words%f.loses != 0) {
			word <- f.heard.Equal(asked)
		}
	})
	return word, nil
}

func (f *fakeServer) Lost() <-chan struct{} { return f.lost }

func (f *fakeServer) Move(context.Context, ...netip.Addr) error { return nil }

func (f *fakeServer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeServer) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

func bound(addr string, life time.Duration) netlink.Event {
	l := netlink.Lease{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 24)}
	if life > 0 {
		l.Expiry = time.Now().Add(life)
	}
	return netlink.Event{Kind: netlink.Bound, Lease: l}
}

func renewed(addr string, life time.Duration) netlink.Event {
	e := bound(addr, life)
	e.Kind = netlink.Renewed
	return e
}

// announcing runs an Announcer against f, in simulated time.
func announcing(t *testing.T, script func(a *Announcer, f *fakeServer, outcomes func() []Outcome)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer()
		seq, err := OpenSequence(filepath.Join(dir, "sequence"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []Outcome
		a := NewAnnouncer(AnnouncerConfig{
			MAC: testMAC, Ports: wire.Ports{SIP: 5060}, Registrar: f, Link: f, Sequence: seq,
			Report: func(o Outcome) { mu.Lock(); got = append(got, o); mu.Unlock() },
			Log:    slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		script(a, f, func() []Outcome { mu.Lock(); defer mu.Unlock(); return slices.Clone(got) })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v; want context.Canceled", err)
		}
	})
}

func wantSeen(t *testing.T, f *fakeServer, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := f.seen(); !slices.Equal(got, want) {
		t.Errorf("server saw %q; want %q", got, want)
	}
}

// Each new address is pushed at once, and nothing else is.
func TestAnnounceAtOnce(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		a.Update(bound("192.0.2.1", time.Hour))
		synctest.Wait()
		time.Sleep(10 * time.Second)
		a.Update(bound("192.0.2.2", time.Hour))
		wantSeen(t, f, "0 register 192.0.2.1 for 1h0m0s", "10 register 192.0.2.2 for 1h0m0s")
		time.Sleep(10 * time.Second)
		a.Update(netlink.Event{Kind: netlink.Lost, Lease: netlink.Lease{}})
		time.Sleep(time.Minute)
		wantSeen(t, f, "0 register 192.0.2.1 for 1h0m0s", "10 register 192.0.2.2 for 1h0m0s")
	})
}

// A move in a call names whom the phone talks to just then, and no more of them
// than a registration holds.
func TestAnnounceNamesThePeers(t *testing.T) {
	var peers []wire.MAC
	var mu sync.Mutex
	talkTo := func(macs ...wire.MAC) { mu.Lock(); peers = macs; mu.Unlock() }
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		a.cfg.Peers = func() []wire.MAC { mu.Lock(); defer mu.Unlock(); return peers }
		others := []wire.MAC{{2, 2}, {2, 3}, {2, 4}}
		for i := range len(others) + 1 {
			talkTo(others[:i]...)
			a.Update(bound(fmt.Sprintf("192.0.2.%d", 1+i), time.Hour))
			time.Sleep(time.Second)
			synctest.Wait()
			all := outcomes()
			var told []wire.MAC
			for _, row := range all[len(all)-1].Receipt.Peers {
				told = append(told, row.MAC)
			}
			if want := others[:min(i, wire.MaxPeers)]; !slices.Equal(told, want) {
				t.Errorf("of %d peers the receipt tells of %v; want %v", i, told, want)
			}
		}
	})
}

// The row says how the phone is reached as the last receipt has shown it; what another
// server sees is told anew, once; and where a router lets calls in stands beside the
// phone's own address.
func TestAnnounceSaysHowItIsReached(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		var mapped netip.Addr
		see := func(at string) { f.mu.Lock(); f.from = netip.MustParseAddrPort(at); f.mu.Unlock() }
		a.cfg.TakesLinks = true
		a.cfg.Mapped = func() netip.Addr { f.mu.Lock(); defer f.mu.Unlock(); return mapped }
		told := func() (said []string) {
			time.Sleep(time.Second)
			synctest.Wait()
			for _, o := range outcomes() {
				said = append(said, fmt.Sprint(o.Registration.Reach, " ", o.Registration.Addrs))
			}
			return said
		}
		want := func(what string, all ...string) {
			t.Helper()
			if got := told(); !slices.Equal(got, all) {
				t.Errorf("%s: %q; want %q", what, got, all)
			}
		}
		see("192.0.2.1:4000")
		a.Update(bound("192.0.2.1", time.Hour))
		all := []string{"direct [192.0.2.1]"}
		want("no NAT", all...)
		see("203.0.113.7:4000")
		a.Update(bound("192.168.77.2", time.Hour))
		all = append(all, "direct [192.168.77.2]", "nat [192.168.77.2]")
		want("a NAT", all...)
		f.mu.Lock()
		mapped = netip.MustParseAddr("203.0.113.7")
		f.mu.Unlock()
		a.Announce()
		all = append(all, "nat [192.168.77.2 203.0.113.7]")
		want("a router that lets calls in", all...)
	})
}

// What there is to tell beside the address is told in an announcement of its own where
// that is wanted, once, and in the next one where that has failed.
func TestAnnounceTellsOfCalls(t *testing.T) {
	waiting := []wire.Heard{{Opinion: 430}}
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		a.cfg.Heard = func() []wire.Heard { f.mu.Lock(); defer f.mu.Unlock(); return waiting }
		a.Announce() // there is no address to tell it from
		time.Sleep(time.Minute)
		a.Update(bound("192.0.2.1", time.Hour))
		time.Sleep(time.Minute)
		f.set(func() { waiting = slices.Repeat([]wire.Heard{{Opinion: 200}}, wire.MaxHeard+1) })
		a.Announce()
		a.Announce()
		time.Sleep(time.Minute)
		f.set(func() { f.refuse = fmt.Errorf("test: %w", ErrUnreachable); waiting = nil })
		a.Announce()
		time.Sleep(time.Second / 4)
		f.set(func() { f.refuse, waiting = nil, []wire.Heard{{Opinion: 300}} })
		time.Sleep(time.Minute)
		if seen := f.seen(); len(seen) != 3 {
			t.Errorf("server saw %q; want three registrations", seen)
		}
		var told []int
		for _, o := range outcomes() {
			if o.Kind == Registered {
				told = append(told, len(o.Registration.Heard), int(o.Registration.Heard[0].Opinion))
			}
		}
		if want := []int{1, 430, wire.MaxHeard, 200, 1, 300}; !slices.Equal(told, want) {
			t.Errorf("told %v; want %v", told, want)
		}
	})
}

// A newer address takes the place of one whose try has not ended, and does not
// wait for its back-off.
func TestNewestWins(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.set(func() { f.away = true })
		a.Update(bound("192.0.2.1", time.Hour))
		time.Sleep(2 * time.Second) // the first try hangs
		f.set(func() { f.away = false })
		a.Update(bound("192.0.2.2", time.Hour))
		wantSeen(t, f, "2 register 192.0.2.2 for 1h0m0s")
		for _, o := range outcomes() {
			if o.Kind == Failed {
				t.Errorf("the try that was cut short is reported as failed: %v", o.Err)
			}
		}
		// In a back-off.
		f.set(func() { f.refuse = ErrForeign })
		a.Update(bound("192.0.2.3", time.Hour))
		time.Sleep(time.Second)
		f.set(func() { f.refuse = nil })
		a.Update(bound("192.0.2.4", time.Hour))
		wantSeen(t, f, "2 register 192.0.2.2 for 1h0m0s", "3 register 192.0.2.4 for 1h0m0s")
	})
}

// A server that is away is asked ever less often, up to a limit, and told once
// it is back.
func TestBackOff(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.set(func() { f.refuse = fmt.Errorf("test: %w", ErrUnreachable) })
		a.Update(bound("192.0.2.1", 24*time.Hour))
		time.Sleep(10 * time.Minute)
		most := retryFirst
		for i, o := range outcomes() {
			if o.Kind != Failed || !errors.Is(o.Err, ErrUnreachable) || o.Retry < most/2 || o.Retry > most {
				t.Errorf("outcome %d = %+v; want a failure with a retry within %v to %v", i, o, most/2, most)
			}
			most = min(2*most, retryMost)
		}
		if n := len(outcomes()); n < 40 || n > 90 {
			t.Errorf("%d tries in ten minutes", n)
		}
		f.set(func() { f.refuse = nil })
		time.Sleep(retryMost)
		if got := f.seen(); len(got) != 1 {
			t.Errorf("server saw %q; want one registration", got)
		}
	})
}

// street runs a phone for each of rows, as when power is back: all have an address
// at once.
func street(t *testing.T, dir string, rows []*fakeServer, spread time.Duration) (phones []*Announcer, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for n, row := range rows {
		seq, err := OpenSequence(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			t.Fatal(err)
		}
		a := NewAnnouncer(AnnouncerConfig{MAC: testMAC, Registrar: row, Link: row, Sequence: seq, Log: slog.New(slog.DiscardHandler), Spread: spread})
		running.Go(func() { _ = a.Run(ctx) }) // until it is cancelled
		a.Update(bound("192.0.2.1", time.Hour))
		phones = append(phones, a)
	}
	return phones, func() {
		cancel()
		running.Wait()
	}
}

const slot = 100 * time.Millisecond

// inSlots counts attempts by the tenth of a second in which they are made.
func inSlots(attempts []time.Duration) map[time.Duration]int {
	slots := map[time.Duration]int{}
	for _, at := range attempts {
		slots[at/slot]++
	}
	return slots
}

// A street gets its power back, and with it the storing server, which answers
// nobody at first. What the phones repeat does not come in chorus: no tenth of a
// second has more than twice its share of the half second that they spread over.
// While nobody knows where the server is, the phone floods nobody: it tries again
// after an eighth of the time that it has been so, and at once when it is told of
// another place to look.
func TestTheServerIsNotKnown(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.refuse = unreachable(ErrNoServer)
		a.Update(bound("10.0.0.5", 0))
		time.Sleep(time.Hour)
		synctest.Wait()
		var before time.Duration
		for i, at := range f.attempts {
			if wait := at - before; wait > max(lostFirst, before/lostShare) || wait > retryMost || i > 0 && wait < lostFirst/2 {
				t.Errorf("try %d waits %v, %v after the first", i, wait, before)
			}
			before = at
		}
		if n := len(f.attempts); n < 240 || n > 600 {
			t.Errorf("%d tries in an hour", n)
		}
		f.set(func() { f.refuse = nil })
		a.Again()
		synctest.Wait()
		got := outcomes()
		if last := got[len(got)-1]; last.Kind != Registered || time.Since(f.start) != time.Hour {
			t.Errorf("told of a server: %+v after %v", last, time.Since(f.start))
		}
		tries := len(f.attempts)
		a.Again() // nothing has failed
		synctest.Wait()
		if len(f.attempts) != tries {
			t.Error("a phone that is registered announces again")
		}
	})
}

func TestStreetAfterAPowerCut(t *testing.T) {
	const phones = 300
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer()
		f.refuse = fmt.Errorf("test: %w", ErrUnreachable)
		_, stop := street(t, dir, slices.Repeat([]*fakeServer{f}, phones), 0)
		time.Sleep(20 * time.Second)
		stop()
		slots := inSlots(f.attempts)
		if slots[0] != phones {
			t.Errorf("%d of %d tried at once", slots[0], phones)
		}
		for n, tries := range slots {
			if n > 0 && tries > 2*phones/5 {
				t.Errorf("%d of %d try again within %v of %v", tries, phones, slot, n*slot)
			}
		}
		if len(f.attempts) < 4*phones {
			t.Errorf("%d tries in all", len(f.attempts))
		}
	})
}

// Phones that were switched on together announce themselves over their Spread,
// and each later address at once.
func TestStreetThatIsSpread(t *testing.T) {
	const phones, spread = 300, 500 * time.Millisecond
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var rows []*fakeServer
		for range phones {
			rows = append(rows, newFakeServer())
		}
		attempts := func() (all []time.Duration) {
			synctest.Wait()
			for _, r := range rows {
				all = append(all, r.attempts...)
			}
			return all
		}
		all, stop := street(t, dir, rows, spread)
		defer stop()
		time.Sleep(spread)
		for n, tries := range inSlots(attempts()) {
			if tries > 2*phones/5 {
				t.Errorf("%d of %d announce themselves within %v of %v", tries, phones, slot, n*slot)
			}
		}
		if n := len(attempts()); n != phones {
			t.Errorf("%d announcements of %d phones in %v", n, phones, spread)
		}
		time.Sleep(together)
		for _, a := range all {
			a.Update(bound("192.0.2.2", time.Hour))
		}
		if n := len(attempts()); n != 2*phones {
			t.Errorf("%d announcements after each of %d phones has another address", n, phones)
		}
	})
}

// Of a link that flaps for a second, with another address each millisecond, the
// server is told the first at once, then one in a tenth of a second, and soon
// the last.
func TestFlappingLink(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		const flaps = 1000
		for i := range flaps {
			a.Update(netlink.Event{Kind: netlink.Lost})
			a.Update(bound(fmt.Sprintf("192.0.2.%d", i%250+1), time.Hour))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(together)
		all := outcomes()
		if n := len(all); n < 9 || n > 12 {
			t.Errorf("%d announcements of %d addresses in a second", n, flaps)
		}
		first, last := all[0].Registration.Addrs, all[len(all)-1].Registration.Addrs
		if f.attempts[0] != 0 || first[0] != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("first is %v after %v; want 192.0.2.1 at once", first, f.attempts[0])
		}
		if want := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", (flaps-1)%250+1)); last[0] != want {
			t.Errorf("last is %v; want %v", last, want)
		}
	})
}

// A server that can do no more is asked again when it said, not before.
func TestBusyServer(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.set(func() { f.refuse = fmt.Errorf("test: %w", &BusyError{After: time.Minute}) })
		a.Update(bound("192.0.2.1", 24*time.Hour))
		time.Sleep(10 * time.Minute)
		for i, o := range outcomes() {
			if !errors.Is(o.Err, ErrUnreachable) || o.Retry < time.Minute || o.Retry > 90*time.Second {
				t.Errorf("outcome %d = %+v; want a retry after 60 to 90 s", i, o)
			}
		}
		if n := len(outcomes()); n < 6 || n > 11 {
			t.Errorf("%d tries in ten minutes", n)
		}
	})
}

// A renewed lease is announced only when the row would expire before it.
func TestRenewals(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		// Renewed ever again long before its end: like a server that asks for
		// a renewal each minute.
		a.Update(bound("192.0.2.1", time.Hour))
		for range 24 * 60 {
			time.Sleep(time.Minute)
			a.Update(renewed("192.0.2.1", time.Hour))
		}
		synctest.Wait()
		if n := len(f.seen()); n < 24 || n > 50 {
			t.Errorf("%d registrations in a day of leases of an hour; want about 30", n)
		}
	})
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		// Not renewed: nothing better could be said.
		a.Update(bound("192.0.2.1", time.Hour))
		time.Sleep(59 * time.Minute)
		wantSeen(t, f, "0 register 192.0.2.1 for 1h0m0s")
		a.Update(renewed("192.0.2.1", time.Hour)) // at the last moment
		wantSeen(t, f, "0 register 192.0.2.1 for 1h0m0s", "3540 register 192.0.2.1 for 1h0m0s")
	})
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		a.Update(bound("192.0.2.1", 0)) // endless: a fixed address
		time.Sleep(24 * time.Hour)
		if n := len(f.seen()); n < 24 || n > 49 {
			t.Errorf("%d registrations in a day of an endless lease", n)
		}
	})
}

// A server that was restarted has another session, and is told again; one that
// closed its sessions is asked at once.
func TestAnnounceAgain(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		a.Update(bound("192.0.2.1", 24*time.Hour))
		time.Sleep(10 * time.Minute)
		wantSeen(t, f, "0 register 192.0.2.1 for 24h0m0s")
		if f.words < 3 || f.words > 6 || f.probes != 0 {
			t.Errorf("%d words and %d questions in ten minutes; want about 4 and none", f.words, f.probes)
		}
		f.set(func() { f.session = 2 }) // its word does not come
		time.Sleep(keepMost + overdue)
		synctest.Wait()
		if n := len(f.seen()); n != 2 {
			t.Errorf("%d registrations after the session changed; want 2: %q", n, f.seen())
		}
		f.set(func() { f.session = 3 })
		f.lost <- struct{}{}
		time.Sleep(lostSpread)
		synctest.Wait()
		if n := len(f.seen()); n != 3 {
			t.Errorf("%d registrations after the session was lost; want 3: %q", n, f.seen())
		}
	})
}

// A row with a higher number, as after a lost data folder, is overtaken.
func TestStaleSequence(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.set(func() { f.have = 70000 })
		a.Update(bound("192.0.2.1", time.Hour))
		wantSeen(t, f, "0 stale", "0 register 192.0.2.1 for 1h0m0s")
		if o := outcomes(); len(o) != 1 || o[0].Kind != Registered || o[0].Receipt.Sequence != 70001 {
			t.Errorf("outcomes = %+v; want sequence 70001", o)
		}
	})
}

// After Release nothing is announced until there is another lease, and a try
// that hangs does not delay it.
func TestRelease(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		f.set(func() { f.away = true })
		a.Update(bound("192.0.2.1", time.Hour))
		time.Sleep(time.Second)
		f.set(func() { f.away = false })
		if err := a.Release(context.Background()); err != nil {
			t.Errorf("Release() = %v", err)
		}
		a.Update(renewed("192.0.2.1", time.Hour))
		time.Sleep(time.Hour)
		wantSeen(t, f, "1 release")
		if o := outcomes(); len(o) != 1 || o[0].Kind != Released {
			t.Errorf("outcomes = %+v; want one release", o)
		}
		a.Update(bound("192.0.2.1", time.Hour))
		wantSeen(t, f, "1 release", "3601 register 192.0.2.1 for 1h0m0s")
	})
}

func TestSequence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sequence")
	last := uint64(0)
	for range 3 { // each time as after a power cut
		s, err := OpenSequence(path)
		if err != nil {
			t.Fatal(err)
		}
		for range reserve + 500 {
			n, err := s.Next()
			if err != nil || n <= last {
				t.Fatalf("Next() = %d, %v after %d", n, err, last)
			}
			last = n
		}
		if err := s.Above(last + 5*reserve); err != nil {
			t.Fatal(err)
		}
		last += 5 * reserve
	}
	s, err := OpenSequence(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Above(wire.MaxSequence - 1); err == nil {
		t.Error("Above() near the end succeeded; want an error")
	}
}

// Who is about to call, or has begun to, has the server asked at once.
func TestCheckAsksAtOnce(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		a.Check() // nobody to ask yet
		a.Update(bound("192.0.2.9", 0))
		time.Sleep(time.Second)
		f.set(func() { f.session++ }) // it was restarted
		a.Check()
		synctest.Wait()
		if o := outcomes(); len(o) != 2 || o[1].Kind != Registered {
			t.Errorf("who checks finds %+v; want the phone registered with the new session", o)
		}
	})
}
