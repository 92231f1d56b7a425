// Package pairs forwards datagrams between two phones that have no other way to each
// other, as where both are behind NATs that give each destination a port of its own.
//
// It knows who was given a pass (package pass), the two addresses that have shown it, and
// how much may go between them. It refuses to know what is in the datagrams, which the
// phones encrypt: they are forwarded as they are, and neither kept nor logged.
//
// # Why one port, and no headers
//
// A phone has one socket for a call, and so one address to be known by here: a datagram
// from one address of a pair goes to the other of it, and from any other nowhere.
// TURN (RFC 8656) has a port for each allocation, and four bytes or 36 in front of each
// packet; it can send anywhere, which this cannot: both ends have to come and show
// the same pass, with proof that they receive what is sent to them.
//
// # Why a move is no new pair
//
// Each side keeps its place by showing the pass again, which it does every few seconds.
// From another address it takes its place with it: a NAT that was restarted, and a phone
// that has moved, cost what is under way until the next showing.
//
// # Why a relay that was restarted knows its pairs
//
// Nothing is written down: the name of a pair says, encrypted, whose it is and since when, and its
// key follows from the name. So a pass that is shown is as good at whichever relay has the same
// secret, as one has that was restarted, and calls go on there.
package pairs

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/sockets"
)

// Limits bound what phones may have forwarded.
type Limits struct {
	All int // pairs at a time; 0: nothing is relayed
	// Each is how many of them are by the passes of one key. One that is over is in use for a
	// little longer (inUse), so that it is no less than the calls that somebody makes meanwhile.
	Each int
	// Rate and Burst are of the bytes of all pairs of one key, both ways together.
	Rate, Burst float64
	Life        time.Duration // of a pass, however much it is used
	Idle        time.Duration // after that without a showing a pair is over
}

// DefaultLimits are for telephones. A call in G.711 with packets of 10 ms takes 22,000
// bytes a second, both ways together, and one in L16, which takes the most, 200,000.
func DefaultLimits() Limits {
	return Limits{All: 10000, Each: 16, Rate: 256 << 10, Burst: 1 << 20, Life: 24 * time.Hour, Idle: 2 * time.Minute}
}

// A Verdict says what became of a datagram.
type Verdict string

// The verdicts. All but Forwarded and the first two of the others are refusals.
const (
	Forwarded Verdict = "forwarded"
	Asked     Verdict = "asked"    // a pass was shown, and a nonce is needed for it
	Taken     Verdict = "taken"    // a pass was shown as it has to be
	Stranger  Verdict = "stranger" // from an address of no pair, or with a pass that there is not
	Alone     Verdict = "alone"    // the other side of the pair has not come
	TooMuch   Verdict = "bytes"    // more than the key's share
)

// Refusals of a pass.
type Refusal string

// Error implements error.
func (r Refusal) Error() string { return "pairs: no pass: " + string(r) }

// The refusals.
const (
	Off      Refusal = "nothing is relayed here"
	Full     Refusal = "too many pairs"
	FullEach Refusal = "too many pairs of one phone"
)

// A Place is an end of a pair, and by which address of this host it speaks to the relay: what
// goes to it leaves from there, since the NAT in front of it lets in no other.
type Place struct {
	At netip.AddrPort
	By *sockets.Source
}

// A pair is what a pass stands for.
type pair struct {
	pass  pass.Pass
	owner *account
	at    [2]Place // by side; zero: it has not come
	begun time.Time
	shown time.Time // last
}

// An account is what one key has.
type account struct {
	pairs  int
	tokens float64
	at     time.Time
}

// take takes n bytes of what the account has.
func (a *account) take(n int, l *Limits, now time.Time) bool {
	a.tokens = min(l.Burst, a.tokens+max(0, now.Sub(a.at).Seconds())*l.Rate)
	a.at = now
	if a.tokens < float64(n) {
		return false
	}
	a.tokens -= float64(n)
	return true
}

// A Relay decides where datagrams go. It has no socket and no clock, and is safe for
// concurrent use.
type Relay struct {
	limits Limits
	secret [32]byte // of the nonces
	mint   mint
	count  func(string) // nil: nobody wants to know

	mu     sync.Mutex
	pairs  map[pass.Name]*pair
	owners map[owner]*account
	ends   map[netip.AddrPort]end
	swept  time.Time
}

// An end is an address that has shown a pass.
type end struct {
	of   *pair
	side pass.Side
}

// New returns a Relay without pairs.
func New(l Limits) *Relay {
	r := &Relay{limits: l, pairs: map[pass.Name]*pair{}, owners: map[owner]*account{}, ends: map[netip.AddrPort]end{}}
	rand.Read(r.secret[:]) // never fails
	r.mint = newMint(r.secret[:])
	return r
}

// Keyed has r give and take passes by a secret that outlives it. It is called before the first
// is given.
func (r *Relay) Keyed(secret []byte) *Relay {
	r.mint = newMint(secret)
	return r
}

// sweepPause is between two looks for pairs that are over.
const sweepPause = 5 * time.Second

// Results are what can become of a pass that is asked for, in a word each.
var Results = []string{"given", "full", "full_of_one_phone", "off"}

// result is what became of one.
func result(err error) string {
	switch err {
	case nil:
		return Results[0]
	case Full:
		return Results[1]
	case FullEach:
		return Results[2]
	}
	return Results[3]
}

// Counting has count told what becomes of each pass that is asked for, as one of Results.
// It is called before the first is.
func (r *Relay) Counting(count func(result string)) *Relay {
	r.count = count
	return r
}

// Issue gives the owner of key a pass. The error is a Refusal.
func (r *Relay) Issue(key wire.Fingerprint, now time.Time) (pass.Pass, error) {
	p, err := r.issue(key, now)
	if r.count != nil {
		r.count(result(err))
	}
	return p, err
}

func (r *Relay) issue(key wire.Fingerprint, now time.Time) (pass.Pass, error) {
	if r.limits.All == 0 {
		return pass.Pass{}, Off
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	p, err := r.open(r.mint.make(ownerOf(key), now), ownerOf(key), now, now)
	if err != nil {
		return pass.Pass{}, err
	}
	return p.pass, nil
}

// open makes the pair of a pass, which is to count as its owner's; r.mu is held.
func (r *Relay) open(of pass.Pass, o owner, begun, now time.Time) (*pair, error) {
	a := r.owners[o]
	switch {
	case len(r.pairs) >= r.limits.All:
		return nil, Full
	case a != nil && a.pairs >= r.limits.Each:
		// Its oldest that nobody uses gives way: a phone that has hung up does not say so.
		if !r.giveWay(a, now) {
			return nil, FullEach
		}
	}
	if a == nil {
		a = &account{tokens: r.limits.Burst, at: now}
		r.owners[o] = a
	}
	a.pairs++
	p := &pair{pass: of, owner: a, begun: begun, shown: now}
	r.pairs[p.pass.Name] = p
	return p, nil
}

// again makes the pair of a pass that is shown and that nobody remembers; nil: it is none, or it is
// over. Whoever shows it has its key, and receives where it speaks from. r.mu is held.
func (r *Relay) again(n pass.Name, now time.Time) *pair {
	of, o, begun := r.mint.read(n)
	if r.limits.All == 0 || begun.After(now.Add(clocks)) || now.Sub(begun) >= r.limits.Life {
		return nil
	}
	p, err := r.open(of, o, begun, now)
	if err != nil {
		return nil
	}
	return p
}

// inUse is how long ago a pair in use was shown at the most: both sides show it every few
// seconds.
const inUse = 20 * time.Second

// giveWay ends a's oldest pair that is not in use; r.mu is held.
func (r *Relay) giveWay(a *account, now time.Time) bool {
	var oldest *pair
	for _, p := range r.pairs {
		if p.owner == a && now.Sub(p.shown) > inUse && (oldest == nil || p.shown.Before(oldest.shown)) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	r.end(oldest)
	return true
}

// sweep ends what is over; r.mu is held. An account is kept while its share is not full
// again, so that nobody gets another one by letting it go.
func (r *Relay) sweep(now time.Time) {
	if now.Sub(r.swept) < sweepPause {
		return
	}
	r.swept = now
	for _, p := range r.pairs {
		if now.Sub(p.shown) >= r.limits.Idle || now.Sub(p.begun) >= r.limits.Life {
			r.end(p)
		}
	}
	for key, a := range r.owners {
		if a.pairs == 0 && a.tokens+now.Sub(a.at).Seconds()*r.limits.Rate >= r.limits.Burst {
			delete(r.owners, key)
		}
	}
}

// end forgets p; r.mu is held.
func (r *Relay) end(p *pair) {
	delete(r.pairs, p.pass.Name)
	p.owner.pairs--
	for side := range p.at {
		r.leave(p, pass.Side(side))
	}
}

// leave takes a side of p from its address; r.mu is held.
func (r *Relay) leave(p *pair, side pass.Side) {
	if e := r.ends[p.at[side].At]; e.of == p && e.side == side {
		delete(r.ends, p.at[side].At)
	}
	p.at[side] = Place{}
}

// Open returns how many pairs there are.
func (r *Relay) Open(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	return len(r.pairs)
}

// A Draft is what Take needs to read and write messages of its own: one for each goroutine.
type Draft struct{ in, out stun.Message }

// Take decides what becomes of b, which came from from: out, if there is any, is to be
// sent to to. It is b itself, or an answer in d.
func (r *Relay) Take(d *Draft, b []byte, from Place, now time.Time) (out []byte, to Place, v Verdict) {
	from.At = netip.AddrPortFrom(from.At.Addr().Unmap(), from.At.Port())
	if len(b) > 0 && b[0] <= 3 { // STUN (RFC 7983): it may be for us
		if s, ok := pass.Read(&d.in, b); ok {
			out, v = r.show(d, s, from, now)
			return out, from, v
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.ends[from.At]
	if e.of == nil {
		return nil, to, Stranger
	}
	if to = e.of.at[e.side.Other()]; !to.At.IsValid() {
		return nil, to, Alone
	}
	if !e.of.owner.take(len(b), &r.limits, now) {
		return nil, to, TooMuch
	}
	return b, to, Forwarded
}

// show takes a pass that was shown.
func (r *Relay) show(d *Draft, s pass.Shown, from Place, now time.Time) (out []byte, v Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	p := r.pairs[s.Name]
	var known pass.Pass
	if p != nil {
		known = p.pass
	} else {
		known, _, _ = r.mint.read(s.Name)
	}
	if !known.Signed(&d.in) {
		return nil, Stranger
	}
	tx := d.in.TransactionID
	if !r.fresh(s.Nonce, from.At, now) {
		nonce := r.nonce(from.At, epoch(now))
		if pass.Challenge(&d.out, tx, nonce[:]) != nil {
			return nil, Stranger
		}
		return d.out.Raw, Asked
	}
	if p == nil {
		if p = r.again(s.Name, now); p == nil {
			return nil, Stranger
		}
	}
	if p.at[s.Side].At != from.At {
		r.leave(p, s.Side)
		if p.at[s.Side.Other()].At == from.At { // whoever is both sides speaks to nobody
			r.leave(p, s.Side.Other())
		}
		if e := r.ends[from.At]; e.of != nil { // it shows another pass from there
			r.leave(e.of, e.side)
		}
		r.ends[from.At] = end{p, s.Side}
	}
	p.at[s.Side] = from
	p.shown = now
	if p.pass.Accept(&d.out, tx, from.At) != nil {
		return nil, Stranger
	}
	return d.out.Raw, Taken
}
