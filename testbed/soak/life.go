package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/testbed"
)

// stuck is how long a scene may take. Nothing is timed against it, but that a phone
// gives up after 45 s what it waits for.
const stuck = 5 * time.Minute

// A life is two phones, all that is around them, and what happened so far.
type life struct {
	bed    *testbed.Bed
	phones [2]*testbed.Phone
	other  *testbed.Baresip
	random *rand.Rand
	watch  *watch
	say    func(format string, args ...any)
	next   int // address
	counts map[string]int
}

// begin starts all that a life needs.
func begin(ctx context.Context, seed uint64, say func(string, ...any)) (l *life, err error) {
	l = &life{random: rand.New(rand.NewPCG(seed, 0)), say: say, counts: map[string]int{}}
	if l.bed, err = testbed.New(ctx, testbed.Config{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.bed.Close())
		}
	}()
	if err := l.bed.ISP.ChangePool(ctx, testbed.East, testbed.West); err != nil {
		return l, err
	}
	speech, err := testbed.Speech("goforward")
	if err != nil {
		return l, err
	}
	for i := range l.phones {
		p, err := l.bed.AddPhone(ctx, testbed.PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 101+i), MAC: testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(1 + i)}, Speech: speech,
		})
		if err != nil {
			return l, err
		}
		l.phones[i] = p
		if err := errors.Join(p.PowerOn(ctx), p.Plug()); err != nil {
			return l, err
		}
		if _, err := p.Await(ctx, "registered"); err != nil {
			return l, err
		}
		if err := l.bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(101+i)); err != nil {
			return l, err
		}
	}
	l.watch = newWatch(l.phones[:])
	l.other, err = l.bed.AddBaresip(ctx, testbed.BaresipConfig{Codec: "opus", Speech: speech})
	return l, err
}

func (l *life) draw(n int) scene { return draw(l.random, n) }

// play plays one scene, and compares how it ended with what the oracle says.
func (l *life) play(ctx context.Context, s scene) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stuck, errors.New("soak: a call is stuck"))
	defer cancel()
	began := time.Now()
	from := [2]int{len(l.phones[0].Events()), len(l.phones[1].Events())}
	for _, p := range l.phones {
		p.Mark()
	}
	err := l.act(ctx, s)
	if err == nil {
		err = l.quiet(ctx)
	}
	if err != nil {
		return fmt.Errorf("soak: %v: %w", s, err)
	}
	for i, p := range l.phones {
		want := reasons[s.end].called
		switch {
		case i == s.caller && s.with == calls:
		case i == s.caller:
			want = reasons[s.end].caller
		case s.with != ours:
			want = "" // which has no part in it
		}
		var got []string
		for _, e := range p.Events()[from[i]:] {
			if e.Name == "ended" {
				got = append(got, e.Field("reason"))
			}
		}
		if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
			return fmt.Errorf("soak: %v: at %s the call ended with %q; want %q", s, p.Name, got, want)
		}
	}
	l.counts[string(s.end)]++
	for _, m := range s.befall {
		l.counts[string(m.what)]++
	}
	l.say("%6.1f s  %v", time.Since(began).Seconds(), s)
	return nil
}

// act is the call itself.
func (l *life) act(ctx context.Context, s scene) error {
	if s.with != ours {
		return l.actWithOther(ctx, s)
	}
	caller, called := l.phones[s.caller], l.phones[1-s.caller]
	number := fmt.Sprint(101 + 1 - s.caller)
	switch s.end {
	case nobody:
		return l.callInVain(ctx, caller, "109")
	case engaged:
		if err := called.Do(ctx, "hook", "off"); err != nil {
			return err
		}
		return errors.Join(l.callInVain(ctx, caller, number), called.Do(ctx, "hook", "on"))
	case isOff:
		if err := called.PowerOff(); err != nil {
			return err
		}
		return errors.Join(l.callInVain(ctx, caller, number), l.back(ctx, called))
	}
	if err := caller.Do(ctx, "dial", number); err != nil {
		return err
	}
	for _, p := range []*testbed.Phone{called, caller} {
		if err := reaches(ctx, p, "ringing"); err != nil {
			return err
		}
	}
	switch s.end {
	case givenUp:
		return hangUp(ctx, caller, called)
	case declined:
		return hangUp(ctx, called, caller)
	}
	if err := called.Do(ctx, "answer"); err != nil {
		return err
	}
	for _, p := range l.phones {
		if err := reaches(ctx, p, "established"); err != nil {
			return err
		}
	}
	if err := l.talk(ctx, s, l.phones[:]); err != nil {
		return err
	}
	switch s.end {
	case callerHangsUp:
		return hangUp(ctx, caller, called)
	case calledHangsUp:
		return hangUp(ctx, called, caller)
	case switchedOff:
		if err := called.PowerOff(); err != nil {
			return err
		}
		return errors.Join(awaitEnd(ctx, caller), l.back(ctx, called))
	case powerCut:
		called.PowerCut()
		return errors.Join(awaitEnd(ctx, caller), l.back(ctx, called))
	}
	if err := called.Unplug(); err != nil { // for good
		return err
	}
	return errors.Join(awaitEnd(ctx, caller), awaitEnd(ctx, called), called.Plug())
}

// back switches a phone on, and waits for it.
func (l *life) back(ctx context.Context, p *testbed.Phone) error {
	if err := p.PowerOn(ctx); err != nil {
		return err
	}
	_, err := p.Await(ctx, "registered")
	return err
}

// actWithOther is a call with the other make.
func (l *life) actWithOther(ctx context.Context, s scene) error {
	p := l.phones[s.caller]
	l.other.Mark()
	switch s.with {
	case fixed:
		if err := p.Do(ctx, "dial", testbed.DialledAddr(l.other.Addr)); err != nil {
			return err
		}
	case calls:
		status, err := p.Status(ctx)
		if err != nil {
			return err
		}
		if err := l.other.Dial("sip:" + p.MAC.Hex() + "@" + status.Addr().String()); err != nil {
			return err
		}
		if err := reaches(ctx, p, "ringing"); err != nil {
			return err
		}
		if err := p.Do(ctx, "answer"); err != nil {
			return err
		}
	}
	if err := reaches(ctx, p, "established"); err != nil {
		return err
	}
	if err := l.talk(ctx, s, []*testbed.Phone{p}); err != nil {
		return err
	}
	if (s.end == callerHangsUp) == (s.with == fixed) {
		if err := p.Do(ctx, "hangup"); err != nil {
			return err
		}
	} else if err := l.other.Hangup(); err != nil {
		return err
	}
	if err := awaitEnd(ctx, p); err != nil {
		return err
	}
	_, err := l.other.Await(ctx, "CALL_CLOSED")
	return err
}

// callInVain is a call that nobody answers.
func (l *life) callInVain(ctx context.Context, caller *testbed.Phone, number string) error {
	if err := caller.Do(ctx, "dial", number); err != nil {
		return err
	}
	return awaitEnd(ctx, caller)
}

// hangUp has one end end the call, and waits for both.
func hangUp(ctx context.Context, by, other *testbed.Phone) error {
	if err := by.Do(ctx, "hangup"); err != nil {
		return err
	}
	return errors.Join(awaitEnd(ctx, by), awaitEnd(ctx, other))
}

func awaitEnd(ctx context.Context, p *testbed.Phone) error {
	_, err := p.Await(ctx, "ended")
	return err
}

// reaches waits for an event of a call of p, which must not end before.
func reaches(ctx context.Context, p *testbed.Phone, name string) error {
	for {
		e, err := p.Await(ctx, "")
		switch {
		case err != nil || e.Name == name:
			return err
		case e.Name == "ended":
			return fmt.Errorf("soak: at %s there was %v before %s", p.Name, e, name)
		}
	}
}

// steady is how many packets have to be understood at each end until it is said that
// they hear each other: half a second of them.
const steady = 25

// talk lets the call be befallen by everything, one after the other. After each, both
// ends understand each other again.
func (l *life) talk(ctx context.Context, s scene, ends []*testbed.Phone) error {
	if err := understand(ctx, ends); err != nil {
		return err
	}
	for _, m := range s.befall {
		if err := l.befall(ctx, m); err != nil {
			return fmt.Errorf("%v: %w", m, err)
		}
		if s.with == calls || s.with == fixed {
			if m.what == moves || m.what == cut { // it follows by the re-INVITE alone
				if err := l.registered(ctx); err != nil {
					return err
				}
			}
		}
		if err := understand(ctx, ends); err != nil {
			return fmt.Errorf("%v: %w", m, err)
		}
	}
	return nil
}

func understand(ctx context.Context, ends []*testbed.Phone) error {
	problems := make([]error, len(ends))
	var all sync.WaitGroup
	for i, p := range ends {
		all.Go(func() { problems[i] = p.Understands(ctx, steady) })
	}
	all.Wait()
	return errors.Join(problems...)
}

// befall lets a mishap happen, and returns when it is over.
func (l *life) befall(ctx context.Context, m mishap) error {
	switch m.what {
	case serverStops, serverDies:
		if m.what == serverDies {
			l.bed.Server.Kill9()
		} else if err := l.bed.Server.Stop(); err != nil {
			return err
		}
		return errors.Join(pause(ctx, m.out), l.bed.Server.Start(ctx))
	case held:
		return errors.Join(l.other.Hold(), pause(ctx, m.out), l.other.Resume())
	}
	to := map[*testbed.Phone]netip.Addr{}
	for _, w := range m.who {
		p := l.phones[w]
		to[p] = netip.Addr{}
		if m.what == moves {
			pool := []testbed.Pool{testbed.East, testbed.West}[l.random.IntN(2)]
			l.next = (l.next + 1) % 90
			to[p] = pool.Address(l.next)
			if err := l.bed.ISP.GiveNext(ctx, p.MAC, to[p]); err != nil {
				return err
			}
		}
		p.Mark()
	}
	for p := range to {
		if err := p.Pull(ctx); err != nil {
			return err
		}
	}
	if m.what == cut {
		if err := pause(ctx, m.out); err != nil {
			return err
		}
	}
	for p, addr := range to {
		if err := p.Plug(); err != nil {
			return err
		}
		if addr.IsValid() {
			if _, err := p.Await(ctx, "registered", "address", addr.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// registered waits until both phones have told the storing server where they are.
func (l *life) registered(ctx context.Context) error {
	return l.await(ctx, func(s testbed.Status) bool { return s.Registered })
}

// quiet waits until nothing is left of a call.
func (l *life) quiet(ctx context.Context) error {
	return l.await(ctx, func(s testbed.Status) bool { return s.State == "standby" && s.Registered })
}

func (l *life) await(ctx context.Context, ok func(testbed.Status) bool) error {
	for _, p := range l.phones {
		for {
			s, err := p.Status(ctx)
			if err != nil {
				return err
			}
			if ok(s) {
				break
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("%w: %s is in %s, registered %v, and says %q", err, p.Name, s.State, s.Registered, s.Display)
			}
		}
	}
	return nil
}

// tell says what a life had of everything.
func (l *life) tell() {
	for _, what := range slices.Sorted(maps.Keys(l.counts)) {
		l.say("%4d times  %s", l.counts[what], what)
	}
}

// lastWords shows the end of both phones' logs.
func (l *life) lastWords() {
	for _, p := range l.phones {
		l.say("-- %s\n%s", p.Name, p.LastWords())
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
