package registry

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// When the Announcer acts. A server that was away must not meet all its phones
// at once, so every wait is jittered.
const (
	retryFirst = 1 * time.Second
	retryMost  = 15 * time.Second
	// lostFirst is after a try that has reached nobody, since nobody knows where the
	// server is: name servers may come up any time, and no server is flooded. Later
	// pauses are the lostShare-th part of the time since the first, up to retryMost.
	lostFirst = 250 * time.Millisecond
	lostShare = 8
	// refusedRetry is after an answer that only the operator can change.
	refusedRetry = 1 * time.Minute
	// attemptMost bounds one try.
	attemptMost = 10 * time.Second
	// overdue is how late a word of the server may come that was asked for.
	overdue = 2 * time.Second
	// endless is announced for a lease that never expires.
	endless = 1 * time.Hour
	// longest is announced for a lease that lasts for days: a phone that was
	// unplugged should not stay online for so long.
	longest = 24 * time.Hour
	// together is for how long after an announcement whatever changes waits, to be
	// told at once: a flapping link makes no flood.
	together = 100 * time.Millisecond
	// lostSpread is over how long the phones of a server that has closed its
	// sessions come back.
	lostSpread = 500 * time.Millisecond
)

// A Link is the session under the announcements. Client is one.
type Link interface {
	// Alive makes sure that the server answers, and numbers its session.
	Alive(ctx context.Context) (session uint64, err error)
	// Lost receives when a session has ended by itself.
	Lost() <-chan struct{}
	// Move lets packets leave from that of locals which suits the server.
	Move(ctx context.Context, locals ...netip.Addr) error
	// Knock asks the server for a word after so long. What it returns receives when
	// that comes: whether nothing was sent meanwhile. It is closed by a server that
	// does not do this.
	Knock(after time.Duration) (<-chan bool, error)
}

// A Registrar is what the Announcer needs of a Server.
type Registrar interface {
	Register(ctx context.Context, r wire.Registration) (wire.Receipt, error)
	Release(ctx context.Context, mac wire.MAC, sequence uint64) error
}

// An OutcomeKind says how an announcement ended.
type OutcomeKind int

// The outcomes.
const (
	Registered OutcomeKind = iota + 1
	Failed                 // and is tried again after Retry
	Released
)

// An Outcome is what became of an announcement.
type Outcome struct {
	Kind         OutcomeKind
	Registration wire.Registration // as it was sent
	Receipt      wire.Receipt      // of Registered
	Took         time.Duration     // of the try
	Err          error             // of Failed
	Retry        time.Duration
}

// An AnnouncerConfig says what is announced, and to whom.
type AnnouncerConfig struct {
	MAC       wire.MAC
	Ports     wire.Ports
	Registrar Registrar
	Link      Link
	Sequence  *Sequence
	// Token is the operator's one-time token, shown until the server has taken
	// an announcement; empty: none.
	Token string
	// Peers tells whom the phone is in a call with, so that the receipt of a move
	// brings their rows; nil: nobody. It is called with each try and must not block.
	Peers func() []wire.MAC
	// TakesLinks: the phone takes relayed links, and its row says how it is reached.
	TakesLinks bool
	// Urgent reports whether a call with one of them is being set up; nil: never. Likewise.
	Urgent func() bool
	// Heard tells how the calls were that no announcement has told of, the newest last;
	// nil: nothing is told. It is called with each try and must not block. What stood in
	// the Registration of an Outcome of the kind Registered has been told.
	Heard func() []wire.Heard
	// Mapped tells at which address of a NAT's the ports above are the phone's, since
	// its router lets connections in there; nil, or the zero Addr: at none. It is called
	// with each try and must not block.
	Mapped func() netip.Addr
	// Report is called with each outcome, from one goroutine at a time; of the
	// Announcer it may call Again and Check.
	Report func(Outcome)
	Log    *slog.Logger
	// Spread is over how long after it has an address a phone of a whole street,
	// which has its power back, announces itself for the first time. Later ones
	// are announced at once, as all are when it is zero.
	Spread time.Duration
}

// An Announcer keeps the phone's row at the storing server right: it pushes
// the newest address, and nothing else, until the server has it.
type Announcer struct {
	cfg  AnnouncerConfig
	wake chan struct{} // one slot

	mu      sync.Mutex
	lease   netlink.Lease
	have    bool   // lease is usable
	silent  bool   // released, until the next Bound
	version int    // rises with each change of the address
	trying  func() // cuts the running try short
	check   bool   // somebody is about to need the server
	again   bool   // there is reason to hope that it can be reached now
	more    bool   // there is more to tell than the address

	enrolled bool       // an announcement was taken; of the goroutine that announces
	reach    wire.Reach // as the last receipt has shown it; likewise

	turn chan struct{} // held while something is sent

	networks map[network]keeping // of the goroutine that announces
}

// NewAnnouncer returns an Announcer that waits for a lease.
func NewAnnouncer(cfg AnnouncerConfig) *Announcer {
	if cfg.Report == nil {
		cfg.Report = func(Outcome) {}
	}
	return &Announcer{cfg: cfg, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), networks: map[network]keeping{}, reach: wire.ReachDirect}
}

// plan is what Run knows between two of its steps.
type plan struct {
	announced bool
	version   int       // of the state that the server has, or that failed
	session   uint64    // in which the server got it
	expiry    time.Time // of the row, by our clock
	refresh   time.Time // from then on the row wants a later expiry
	probe     time.Time // next question whether the server is there
	retry     time.Time // no try before that; zero without a failure
	lost      time.Time // since when nobody knows where the server is; zero: it is known
	wait      time.Duration
	moved     bool // the link sends from the address of version
	corrects  bool // what the last announcement said of how the phone is reached

	// Of a phone that is registered.
	network network
	direct  bool          // there is no NAT between the phone and the server
	silence time.Duration // after which the server's word was asked for
	word    <-chan bool   // receives it; nil: none was asked for
	asked   bool          // probe is sooner, for another reason than that the word did not come
	pings   bool          // the server gives no such word
}

// Run announces until ctx is done, and returns its error. It does not release.
func (a *Announcer) Run(ctx context.Context) error {
	p := plan{wait: retryFirst}
	var earliest time.Time // nothing is sent before that
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		version, lease, active := a.state()
		if version != p.version { // something newer: no back-off
			p = plan{version: version, session: p.session, wait: retryFirst}
		}
		now := time.Now()
		if a.take(&a.check) && p.announced {
			p.probe, p.asked = now, true
		}
		if a.take(&a.more) {
			p.announced = false // one that has failed tells it when it is tried again
		}
		if a.take(&a.again) && !p.announced {
			p.retry, p.lost, p.wait = time.Time{}, time.Time{}, retryFirst
		}
		if active && earliest.IsZero() {
			earliest = now.Add(rand.N(a.cfg.Spread + 1))
		}
		sleep := time.Duration(-1)
		switch {
		case !active:
		case now.Before(earliest):
			sleep = earliest.Sub(now)
		case now.Before(p.retry):
			sleep = p.retry.Sub(now)
		case !p.announced, a.stale(p, lease, now):
			earliest = now.Add(together)
			a.announce(ctx, lease, &p)
			if !p.lost.IsZero() { // nothing was sent
				earliest = now
			}
			continue
		case !now.Before(p.probe):
			a.probe(ctx, &p)
			continue
		default:
			sleep = p.probe.Sub(now)
			if later(lease, p) && p.refresh.Before(p.probe) {
				sleep = p.refresh.Sub(now)
			}
		}
		var alarm <-chan time.Time
		if sleep >= 0 {
			timer.Reset(sleep)
			alarm = timer.C
		}
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-alarm:
		case quiet, ok := <-p.word:
			a.heard(&p, quiet, ok)
		case <-a.cfg.Link.Lost():
			if p.announced {
				p.probe, p.asked = time.Now().Add(rand.N(lostSpread)), true
			}
		}
	}
	return ctx.Err()
}

// later reports whether the row could be given a later expiry than it has.
func later(l netlink.Lease, p plan) bool {
	return l.Expiry.IsZero() || l.Expiry.Sub(p.expiry) > time.Second
}

// stale reports whether the row should be refreshed: it will expire soon, and
// the lease will not. A lease that was not renewed needs no announcement.
func (a *Announcer) stale(p plan, l netlink.Lease, now time.Time) bool {
	return !now.Before(p.refresh) && later(l, p)
}

// announce makes one try, and plans what comes after it.
func (a *Announcer) announce(ctx context.Context, l netlink.Lease, p *plan) {
	try, done, ok := a.begin(ctx, p.version)
	if !ok {
		return
	}
	defer done()
	if !p.moved {
		p.moved = true
		if err := a.cfg.Link.Move(try, l.Addrs()...); err != nil {
			a.cfg.Log.Debug("announcing from the address the kernel takes", "err", err)
		}
	}
	start := time.Now()
	r, receipt, session, err := a.register(try, l)
	took := time.Since(start)
	if err == nil {
		life, corrected := r.Lifetime, p.corrects
		*p = plan{
			announced: true, version: p.version, session: session, wait: retryFirst, moved: true,
			expiry:  start.Add(life),
			refresh: start.Add(life/2 + rand.N(life/4+1)),
			direct:  slices.Contains(l.Addrs(), receipt.Reflexive.Addr().Unmap()), network: networkOf(l, receipt),
		}
		if a.reach = wire.ReachNAT; p.direct {
			a.reach = wire.ReachDirect
		}
		if r.Reach != 0 && r.Reach != a.reach && !corrected { // the row does not say what the server has seen
			p.announced, p.corrects = false, true
		}
		a.keep(p)
		a.cfg.Log.Debug("registered", "addr", l.Addr(), "sequence", r.Sequence, "expiry", receipt.Expiry, "took", took)
		a.cfg.Report(Outcome{Kind: Registered, Registration: r, Receipt: receipt, Took: took})
		return
	}
	if v, _, _ := a.state(); ctx.Err() != nil || v != p.version {
		return // cut short by something newer
	}
	a.failed(ctx, p, Outcome{Kind: Failed, Registration: r, Took: took, Err: err})
}

// failed plans the next try and reports this one.
func (a *Announcer) failed(ctx context.Context, p *plan, o Outcome) {
	o.Retry = jitter(p.wait)
	if errors.Is(o.Err, ErrForeign) || errors.Is(o.Err, ErrRefused) || errors.Is(o.Err, ErrServerKey) {
		o.Retry = jitter(refusedRetry)
	}
	var busy *BusyError
	if errors.As(o.Err, &busy) && o.Retry < busy.After {
		o.Retry = busy.After + rand.N(busy.After/2+1)
	}
	p.announced = false
	now, level := time.Now(), slog.LevelWarn
	if errors.Is(o.Err, ErrNoServer) {
		if p.lost.IsZero() {
			p.lost = now.Add(-o.Took)
		} else {
			level = slog.LevelDebug // said once
		}
		o.Retry = jitter(min(max(now.Sub(p.lost)/lostShare, lostFirst), retryMost))
	} else {
		p.wait, p.lost = min(2*p.wait, retryMost), time.Time{}
	}
	p.retry = now.Add(o.Retry)
	a.cfg.Log.Log(ctx, level, "address not registered", "addr", o.Registration.Addrs, "retry", o.Retry, "err", o.Err)
	a.cfg.Report(o)
}
