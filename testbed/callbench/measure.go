package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"flexphone/testbed"
	"flexphone/testbed/ears"
	"flexphone/testbed/wire"
)

// What is measured. What stands behind a comma is a kind of call that only ours
// tells from others.
const (
	rings     = "dial to ringing"
	ringsHere = "dial to ringing tone"
	sounds    = "lifted to sound at the caller"
	soundsToo = "lifted to sound at who lifted"
	oneMoves  = "one end moves: silence"
	bothMove  = "both ends move: silence"
)

// Kinds of a call of ours.
const (
	firstCall   = ", never called"
	calledAgain = ", known number" // but the called phone was started since
	justCalled  = ", warm link"    // called within two minutes
	byAddress   = ", by address"   // as baresip calls, and as ours call any other make
)

// ours is the maker of our phones.
const ours = "flexphone"

// number is the short number of the phone that is called.
const number = "102"

// How late sound may come after a move until it is said not to come. Baresip looks
// at its address once a minute.
const (
	oursLate   = 10 * time.Second
	theirsLate = 70 * time.Second
)

// stuck is how much longer than it should a call may take. Nothing is timed against it.
const stuck = 10 * time.Minute

// fewer is how many calls just after another there are for each of those that need a
// telephone to be started.
const fewer = 4

// A bench is what is measured on.
type bench struct {
	options
	report *report
	bed    *testbed.Bed
	wire   *wire.Wire

	ours    *phones
	parties []*party // ours first
}

// A party is a pair and what is known of it.
type party struct {
	pair
	maker string
	kind  string // of all of its calls; empty: they are direct
	ears  *ears.Ears
	late  time.Duration
	from  int // the first of its addresses in each pool
	moves int // so far
}

// open builds what is measured on: a provider, a storing server, the wire, and two
// telephones of each make. Close takes it away.
func open(ctx context.Context, o options, r *report) (b *bench, err error) {
	b = &bench{options: o, report: r}
	if b.bed, err = testbed.New(ctx, testbed.Config{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.wire, err = b.bed.Lay(wire.Config{Delay: o.trips[0] / 2}); err != nil {
		return b, err
	}
	speech, err := testbed.Speech("goforward")
	if err != nil {
		return b, err
	}
	if err := b.addOurs(ctx, speech); err != nil {
		return b, err
	}
	if _, err := exec.LookPath(baresip); err != nil {
		r.absent = append(r.absent, "baresip: not installed (apt-get install baresip-core)")
	} else if err := b.addTheirs(ctx, speech); err != nil {
		return b, err
	}
	return b, errors.Join(b.addLinphones(ctx, speech), b.addRelayed(ctx, speech))
}

func (b *bench) close() error { return b.bed.Close() }

// measure measures all that o asks for, into r.
func measure(ctx context.Context, o options, r *report) (err error) {
	b, err := open(ctx, o, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for i, trip := range o.trips {
		b.wire.Set(wire.Config{Delay: trip / 2})
		if err := b.setups(ctx, trip); err != nil {
			return err
		}
		for _, what := range []string{oneMoves, bothMove} {
			if err := b.moves(ctx, b.parties[0], what, trip, o.n); err != nil {
				return err
			}
		}
		if i != len(o.trips)/2 {
			continue
		}
		if err := b.weighAll(ctx, trip); err != nil {
			return err
		}
		for _, p := range b.parties[1:] {
			if p.kind != "" { // ours, which move as they do
				continue
			}
			for _, what := range []string{oneMoves, bothMove} {
				if err := b.moves(ctx, p, what, trip, o.peerMoves); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Where the ends of a pair are: far from each other, and from the storing server. The
// pairs use different addresses.
var pools = [2]testbed.Pool{testbed.East, testbed.West}

const (
	oursFrom, theirsFrom, linphonesFrom = 0, 30, 60
	roomFor                             = 30 // addresses of each pair in each pool
)

// addOurs starts two phones.
func (b *bench) addOurs(ctx context.Context, speech []int16) error {
	b.ours = &phones{number: number}
	places := [2]netip.Addr{pools[0].Address(oursFrom), pools[1].Address(oursFrom)}
	for i := range b.ours.ends {
		p, err := b.bed.AddPhone(ctx, testbed.PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 101+i), MAC: testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(1 + i)},
			Speech: speech, StoringServer: testbed.ServerAddr().String(), Addr: places[i],
		})
		if err != nil {
			return err
		}
		if err := errors.Join(p.PowerOn(ctx), p.Plug()); err != nil {
			return err
		}
		if _, err := p.Await(ctx, "registered"); err != nil {
			return err
		}
		if err := b.bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(101+i)); err != nil {
			return err
		}
		b.ours.ends[i] = p
	}
	b.parties = append(b.parties, &party{pair: b.ours, maker: ours, ears: ears.New(places), late: oursLate, from: oursFrom})
	return nil
}

// addTheirs starts two baresip.
func (b *bench) addTheirs(ctx context.Context, speech []int16) error {
	theirs := &baresips{}
	places := [2]netip.Addr{pools[0].Address(theirsFrom), pools[1].Address(theirsFrom)}
	for i := range theirs.ends {
		p, err := b.bed.AddBaresip(ctx, testbed.BaresipConfig{Codec: "opus", Speech: speech, Addr: places[i], Waits: true})
		if err != nil {
			return err
		}
		theirs.ends[i] = p
	}
	b.parties = append(b.parties, &party{pair: theirs, maker: baresip, ears: ears.New(places), late: theirsLate, from: theirsFrom})
	return nil
}

// setups measures calls until there is sound at both ends. Those of the makers take
// turns.
func (b *bench) setups(ctx context.Context, trip time.Duration) error {
	first := b.parties[0]
	b.say("round trip %v: %d calls", trip, b.n)
	for i := range b.n {
		if i%fewer == 0 {
			if err := b.ours.restart(ctx, 0, (*testbed.Phone).Forget); err != nil {
				return err
			}
			if err := b.setup(ctx, first, trip, firstCall); err != nil {
				return err
			}
			if err := b.ours.restart(ctx, 1, nil); err != nil {
				return err
			}
			if err := b.setup(ctx, first, trip, calledAgain); err != nil {
				return err
			}
			b.ours.number = testbed.DialledAddr(first.ears.Where(1))
			err := b.setup(ctx, first, trip, byAddress)
			b.ours.number = number
			if err != nil {
				return err
			}
		}
		if err := b.setup(ctx, first, trip, justCalled); err != nil {
			return err
		}
		for _, p := range b.parties[1:] {
			if pair, ok := p.pair.(*phones); ok && i%fewer == 0 {
				if err := pair.restart(ctx, 0, (*testbed.Phone).Forget); err != nil {
					return err
				}
				if err := b.setup(ctx, p, trip, firstCall); err != nil {
					return err
				}
			}
			if err := b.setup(ctx, p, trip, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// askPause is how often a storing server lets a client ask in the long run: who asks more
// often, for longer than a minute's worth, is refused.
const askPause = 500 * time.Millisecond

// setup measures one call of that kind.
func (b *bench) setup(ctx context.Context, p *party, trip time.Duration, kind string) error {
	ctx, cancel := b.limit(ctx, p, 0)
	defer cancel()
	if p.maker == ours {
		if err := pause(ctx, askPause); err != nil {
			return err
		}
	}
	s, err := b.call(ctx, p, trip)
	if err != nil {
		return err
	}
	add := func(what string, d time.Duration) {
		b.report.add(series{what: what, trip: trip, maker: p.maker, security: s.security}, d)
	}
	add(rings+p.kind+kind, s.rang.Sub(s.dialed))
	add(ringsHere+p.kind+kind, s.heardRing.Sub(s.dialed))
	for end, what := range [2]string{sounds, soundsToo} {
		d, err := p.ears.First(ctx, end, s.lifted)
		if err != nil {
			return err
		}
		add(what+p.kind, d)
	}
	return p.hangUp(ctx)
}

// limit gives up what takes much longer than it should.
func (b *bench) limit(ctx context.Context, p *party, should time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, should+stuck, fmt.Errorf("callbench: a call of %s is stuck", p.maker))
}

// call has p call, who lifts the handset after two round trips, and be heard.
func (b *bench) call(ctx context.Context, p *party, trip time.Duration) (setup, error) {
	p.ears.Forget()
	b.wire.Watch(p.ears.Hear)
	return p.call(ctx, 2*trip)
}

// plain is what a call says whose sound is not encrypted.
const plain = "not private"

// rounds is how often a call of each kind is weighed, in turns: the machine is not the same
// in each minute, and what counts is one beside the other.
const rounds = 3

// weighAll measures what a call takes, of each maker, and of ours once more by
// address, if that is plain where the other is not.
func (b *bench) weighAll(ctx context.Context, trip time.Duration) error {
	first := b.parties[0]
	for range rounds {
		if err := b.weigh(ctx, first, trip); err != nil {
			return err
		}
		if b.report.costs[0].security != plain {
			b.ours.number = testbed.DialledAddr(first.ears.Where(1))
			err := b.weigh(ctx, first, trip)
			b.ours.number = number
			if err != nil {
				return err
			}
		}
		for _, p := range b.parties[1:] {
			if err := b.weigh(ctx, p, trip); err != nil {
				return err
			}
		}
	}
	return nil
}

// weigh measures what a call takes.
func (b *bench) weigh(ctx context.Context, p *party, trip time.Duration) error {
	b.say("round trip %v: %v of a call of %s", trip, b.options.weigh, p.maker)
	ctx, cancel := b.limit(ctx, p, b.options.weigh)
	defer cancel()
	s, err := b.call(ctx, p, trip)
	if err != nil {
		return err
	}
	for end := range pools { // without what its beginning takes
		if err := p.ears.Await(ctx, end, func(came []ears.Arrival) bool { return len(came) > ears.Steady }); err != nil {
			return err
		}
	}
	if pair, ok := p.pair.(*phones); ok && p.kind == relayed {
		if err := pair.isRelayed(ctx); err != nil {
			return err
		}
	}
	c, err := weigh(ctx, p, b.bed.Server.Pid(), b.options.weigh)
	if err != nil {
		return err
	}
	b.report.weigh(p.maker+p.kind, s.security, c)
	return p.hangUp(ctx)
}

// moves measures n moves of one end, in turns, or of both. A call that does not come
// back is made anew.
func (b *bench) moves(ctx context.Context, p *party, what string, trip time.Duration, n int) error {
	if n == 0 {
		return nil
	}
	b.say("round trip %v: %s, %s, %d times", trip, p.maker, what, n)
	ctx, cancel := b.limit(ctx, p, time.Duration(n)*p.late)
	defer cancel()
	s, err := b.call(ctx, p, trip)
	if err != nil {
		return err
	}
	for i := range n {
		ends := []int{i % 2}
		if what == bothMove {
			ends = []int{0, 1}
		}
		which := series{what: what, trip: trip, maker: p.maker, security: s.security}
		late, cancel := context.WithTimeoutCause(ctx, p.late, errLate)
		d, err := b.move(late, p, ends)
		cancel()
		switch {
		case err == nil:
			b.report.add(which, d)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		b.say("the %d. time: %v", i+1, err)
		b.report.fail(which, p.late)
		if err := p.hangUp(ctx); err != nil {
			return err
		}
		if s, err = b.call(ctx, p, trip); err != nil {
			return err
		}
	}
	return p.hangUp(ctx)
}

var errLate = errors.New("too late")

// move gives ends of a call other addresses, and returns the longest silence that
// either end hears.
func (b *bench) move(ctx context.Context, p *party, ends []int) (longest time.Duration, err error) {
	p.ears.Forget()
	for end := range pools {
		if err := p.ears.Await(ctx, end, func(came []ears.Arrival) bool { return len(came) > ears.Steady }); err != nil {
			return 0, err
		}
	}
	p.moves++
	var problems [2]error
	var moving sync.WaitGroup
	moment := time.Now()
	for _, end := range ends {
		to := pools[end].Address(p.from + p.moves%roomFor)
		moving.Go(func() {
			p.ears.Moved(end, to)
			problems[end] = p.pair.move(end, to)
		})
	}
	moving.Wait()
	if err := errors.Join(problems[:]...); err != nil {
		return 0, err
	}
	for end := range pools {
		d, err := p.ears.Gap(ctx, end, moment)
		if err != nil {
			return 0, err
		}
		longest = max(longest, d)
	}
	return longest, p.settled(ctx, ends)
}
