package jitter

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// A pipe is a network between a sender of packets of 20 ms and a buffer, in
// simulated time.
type pipe struct {
	// way says when each copy of the i-th packet, made at that time, arrives after
	// it; none: it is lost.
	way func(i int, made time.Duration) []time.Duration
	// spoken says whether somebody speaks; nil: always.
	spoken func(made time.Duration) bool
	phase  time.Duration // of the ticks
	drift  float64       // by how much the sender's clock is faster, 1e-6: 1 ppm
	card   float64       // by how much the clock of the ticks is slower
	uneven time.Duration // by how much, at most, a tick is late
	repeat bool          // each packet repeats the one before
}

// A hearing is a packet that was played.
type hearing struct {
	packet int
	made   time.Duration
	delay  time.Duration // from its sending to its first sample
}

// An account is what came of it.
type account struct {
	sent, lost int
	recovered  int
	heard      []hearing
	invented   []time.Duration // when, by tick
	late       uint64
}

// delays returns the least and the greatest delay of what was made from a moment on,
// and the mean.
func (a *account) delays(from, to time.Duration) (least, mean, most time.Duration) {
	n := time.Duration(0)
	for _, h := range a.heard {
		if h.made < from || h.made >= to {
			continue
		}
		if n == 0 {
			least = h.delay
		}
		least, most = min(least, h.delay), max(most, h.delay)
		mean += h.delay
		n++
	}
	return least, mean / max(n, 1), most
}

// inventedAfter returns how many ticks were invented from a moment on.
func (a *account) inventedAfter(from time.Duration) int {
	n := 0
	for _, at := range a.invented {
		if at >= from {
			n++
		}
	}
	return n
}

// A voice is a decoder whose payloads are numbers of packets. It sounds like one.
type voice struct {
	account *account
	spoken  func(made time.Duration) bool
	now     time.Duration
	whole   int // of the buffer that is decoded to
	period  time.Duration
}

func (v *voice) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) < 4 || len(pcm) < perPack {
		return 0, errors.New("no packet")
	}
	i := int(binary.BigEndian.Uint32(payload))
	made := time.Duration(i) * v.period
	waiting := time.Duration(v.whole-len(pcm)) * time.Second / rate
	v.account.heard = append(v.account.heard, hearing{i, made, v.now + waiting - made})
	for k := range perPack {
		pcm[k] = 0
		if v.spoken == nil || v.spoken(made) { // a buzz of 125 Hz
			pcm[k] = int16(8000 - (i*perPack+k)%64*250)
		}
	}
	return perPack, nil
}

func (v *voice) Conceal(pcm []int16) error {
	clear(pcm)
	return nil
}

// A repeating voice can tell what was in the packet before.
type repeating struct{ *voice }

func (r repeating) Recover(pcm []int16, _ []byte) error {
	if len(pcm) == perPack {
		r.account.recovered++
	}
	return r.Conceal(pcm)
}

// run lets somebody speak for a while.
func (p *pipe) run(t testing.TB, d time.Duration) *account {
	t.Helper()
	type arrival struct {
		packet int
		at     time.Duration
	}
	a := &account{}
	b := New(rate)
	v := &voice{account: a, spoken: p.spoken, whole: len(b.pcm), period: time.Duration(float64(20*ms) / (1 + p.drift))}
	c := &Coding{v, rate}
	if p.repeat {
		c.Decoder = repeating{v}
	}
	begin := time.Unix(0, 0)
	r := rand.New(rand.NewPCG(1, 2))
	var under []arrival
	pcm, payload := make([]int16, perTick), make([]byte, 4)
	for now := p.phase; now < d; now += time.Duration(float64(tick) * (1 + p.card)) {
		for time.Duration(a.sent)*v.period <= now {
			made := time.Duration(a.sent) * v.period
			copies := p.way(a.sent, made)
			if len(copies) == 0 {
				a.lost++
			}
			for _, after := range copies {
				under = append(under, arrival{a.sent, made + after})
			}
			a.sent++
		}
		slices.SortStableFunc(under, func(x, y arrival) int { return int(x.at - y.at) })
		for len(under) > 0 && under[0].at <= now {
			i := under[0].packet
			binary.BigEndian.PutUint32(payload, uint32(i))
			b.Put(c, uint16(i), uint32(i*perPack), begin.Add(under[0].at), payload)
			under = under[1:]
		}
		v.now = now
		woken := now
		if p.uneven > 0 {
			woken += time.Duration(r.Int64N(int64(p.uneven)))
		}
		b.Play(pcm, begin.Add(woken))
		if b.missing > 0 {
			a.invented = append(a.invented, now)
		}
	}
	a.late = b.Late()
	for i, h := range a.heard[1:] {
		if h.packet <= a.heard[i].packet {
			t.Errorf("packet %d is played after %d", h.packet, a.heard[i].packet)
		}
	}
	return a
}

func once(after time.Duration) []time.Duration { return []time.Duration{after} }

// The ways of networks.

func evenly(int, time.Duration) []time.Duration { return once(0) }

// unevenly is up to so much later.
func unevenly(r *rand.Rand, most time.Duration) func(int, time.Duration) []time.Duration {
	return func(int, time.Duration) []time.Duration { return once(time.Duration(r.Int64N(int64(most)))) }
}

// losing loses so many percent.
func losing(r *rand.Rand, percent int, way func(int, time.Duration) []time.Duration) func(int, time.Duration) []time.Duration {
	return func(i int, made time.Duration) []time.Duration {
		if r.IntN(100) < percent {
			return nil
		}
		return way(i, made)
	}
}

// stalling stands still for a while, from a moment on: all that is sent in it
// arrives at once.
func stalling(from, d time.Duration) func(int, time.Duration) []time.Duration {
	return func(_ int, made time.Duration) []time.Duration {
		if made < from || made >= from+d {
			return once(0)
		}
		return once(from + d - made)
	}
}

// talking is of somebody who pauses for a second after each two.
func talking(made time.Duration) bool { return made%(3*time.Second) < 2*time.Second }

// after is when the delay is what it should be, and long how long the tests run.
const (
	after = 15 * time.Second
	long  = time.Minute
)

// each runs a test with many phases of the ticks, of somebody who pauses and of
// somebody who does not.
func each(t *testing.T, f func(t *testing.T, p pipe, r *rand.Rand)) {
	t.Helper()
	for phase := time.Duration(0); phase < 20*ms; phase += 7 * ms {
		t.Run("talk "+phase.String(), func(t *testing.T) {
			f(t, pipe{phase: phase, spoken: talking}, rand.New(rand.NewPCG(3, uint64(phase))))
		})
		t.Run("tone "+phase.String(), func(t *testing.T) {
			f(t, pipe{phase: phase}, rand.New(rand.NewPCG(4, uint64(phase))))
		})
	}
}

func (a *account) wantDelay(t *testing.T, from, to, most time.Duration) {
	t.Helper()
	if least, mean, got := a.delays(from, to); got > most {
		t.Errorf("from %v to %v packets wait for %v to %v, %v on average, want %v at most", from, to, least, got, mean, most)
	}
}

// wantWhole asserts that nothing was invented from a moment on, and nothing left
// out but what is still waiting.
func (a *account) wantWhole(t *testing.T, from time.Duration) {
	t.Helper()
	if n := a.inventedAfter(from); n > 0 {
		t.Errorf("%d ticks were invented", n)
	}
	if unheard := a.sent - a.lost - len(a.heard); unheard > 15 {
		t.Errorf("%d packets were not heard", unheard)
	}
}

// settles is what a delay may be where that of the network is d: two ticks more, and
// in a tone without a pause what is not worth a change.
func (p *pipe) settles(d time.Duration) time.Duration {
	d += floor + 2*tick
	if p.spoken == nil {
		d += much
	}
	return d
}

// joined is how near to what it should be the delay of an even network comes at once: the
// shortest piece of speech that is left out, or the period of a tone.
func (p *pipe) joined() time.Duration {
	if p.spoken == nil {
		return 8 * ms
	}
	return shortest
}

// At first it is waited for what may come; a little later for nothing.
func TestLocalNetworkAddsNoDelay(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		for _, p.way = range []func(int, time.Duration) []time.Duration{evenly, unevenly(r, ms)} {
			for _, p.uneven = range []time.Duration{0, 2 * ms} {
				a := p.run(t, long)
				a.wantWhole(t, 0)
				a.wantDelay(t, 0, long, begin+tick)
				a.wantDelay(t, 3*time.Second, long, floor+tick+p.joined())
				if a.late > 0 {
					t.Errorf("%d were late", a.late)
				}
			}
		}
	})
}

// Loss is not lateness: a hole is concealed in its place, whether anything came
// behind it or not, and all else is played as if nothing were lost.
func TestLossIsNotLateness(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		inTwos := func(i int, _ time.Duration) []time.Duration {
			if i%17 < 2 {
				return nil
			}
			return once(0)
		}
		for _, p.way = range []func(int, time.Duration) []time.Duration{losing(r, 10, evenly), losing(r, 30, evenly), inTwos} {
			a := p.run(t, long)
			a.wantDelay(t, 0, long, begin+tick)
			a.wantDelay(t, 4*time.Second, long, floor+tick+p.joined())
			if n := len(a.invented); n < 2*a.lost-10 || n > 2*a.lost+10 || a.late > 0 {
				t.Errorf("%d ticks were invented for %d packets, %d were late", n, a.lost, a.late)
			}
		}
	})
}

func TestJitterIsWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		for _, most := range []time.Duration{20 * ms, 40 * ms, 60 * ms, 100 * ms} {
			for _, loss := range []int{0, 10} {
				p.way = losing(r, loss, unevenly(r, most))
				a := p.run(t, long)
				a.wantDelay(t, after, long, p.settles(most))
				if a.late > 10 || a.sent-a.lost-len(a.heard) > 15 {
					t.Errorf("jitter of %v: of %d packets %d were late, %d heard, %d lost", most, a.sent, a.late, len(a.heard), a.lost)
				}
			}
		}
	})
}

// After a stop of the network all of what was sent in it is heard, and two seconds
// later it is as if there had been none.
func TestBurstIsLeftSoon(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		for _, d := range []time.Duration{60 * ms, 100 * ms, 200 * ms, 260 * ms} {
			const from = 22 * time.Second
			p.way = stalling(from, d)
			a := p.run(t, long)
			a.wantWhole(t, from+d+20*ms)
			a.wantDelay(t, after, from, p.settles(0))
			a.wantDelay(t, from+d+2*time.Second, long, p.settles(0))
		}
	})
}

// What happens again and again is waited for.
func TestStopsThatComeAgainAreWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		p.way = func(_ int, made time.Duration) []time.Duration {
			return stalling(2*time.Second, 200*ms)(0, made%(3*time.Second))
		}
		a := p.run(t, long)
		a.wantWhole(t, after)
		a.wantDelay(t, after, long, p.settles(200*ms))
	})
}

// Where packets repeat what was before them, it is worth to wait for the next one
// once some are lost, and only then.
func TestRepeatedPacketsAreWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		p.repeat = true
		for _, p.uneven = range []time.Duration{0, 2 * ms} {
			p.way = evenly
			a := p.run(t, long)
			a.wantDelay(t, after, long, p.settles(0))
			p.way = func(i int, _ time.Duration) []time.Duration {
				if i%10 == 0 {
					return nil
				}
				return once(0)
			}
			if a = p.run(t, long); a.recovered < a.lost-5 {
				t.Errorf("of %d packets lost %d were taken from the next", a.lost, a.recovered)
			}
			a.wantDelay(t, after, long, p.settles(22*ms))
		}
	})
}

// Clocks that differ by 300 ppm, three times what quartzes do, are not heard: that
// of the sender, and that of the device.
func TestClocksThatDiffer(t *testing.T) {
	talk := 5 * time.Minute
	if testing.Short() {
		talk = time.Minute
	}
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		for i, drift := range []float64{-300e-6, -100e-6, 100e-6, 300e-6} {
			p.drift, p.card = drift, 0
			if i%2 == 1 {
				p.drift, p.card = 0, drift
			}
			p.way = unevenly(r, ms)
			a := p.run(t, talk)
			a.wantWhole(t, 0)
			// In the ten seconds of the fastest packet clocks differ by 3 ms.
			a.wantDelay(t, after, talk, p.settles(4*ms))
		}
	})
}

// A call moves to a network that is slower, and back; or the sender's clock stood
// still.
func TestNetworkThatBecomesSlower(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		for _, by := range []time.Duration{80 * ms, 500 * ms} {
			const from, to = 20 * time.Second, 40 * time.Second
			p.way = func(_ int, made time.Duration) []time.Duration {
				if made >= from && made < to {
					return once(by)
				}
				return once(0)
			}
			a := p.run(t, long)
			if n := len(a.invented); n > int(by/tick)+5 || a.sent-len(a.heard) > int(by/(20*ms))+2 {
				t.Errorf("%v slower: %d ticks were invented, %d of %d packets heard", by, n, len(a.heard), a.sent)
			}
			a.wantDelay(t, from+after, to, p.settles(by))
			a.wantDelay(t, to+after, long, p.settles(0))
		}
	})
}

// Some packets are overtaken by the next one, and some come again and again.
func TestDisorderIsWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, p pipe, r *rand.Rand) {
		p.way = func(i int, _ time.Duration) []time.Duration {
			switch {
			case i%10 == 0:
				return []time.Duration{25 * ms, 45 * ms}
			case i%7 == 0:
				return []time.Duration{0, 10 * ms, 200 * ms}
			}
			return once(0)
		}
		a := p.run(t, long)
		a.wantWhole(t, after)
		a.wantDelay(t, after, long, p.settles(26*ms))
	})
}

// A device that asks unevenly is not followed; one whose clock stood still, for good, is
// at once, and so is one that was thought to be late.
func TestClockOfTheDevice(t *testing.T) {
	b, begin := New(rate), time.Unix(0, 0)
	pcm, at := make([]int16, perTick), time.Duration(0)
	off := func(ticks int, uneven time.Duration) (most time.Duration) {
		for i := range ticks {
			late := uneven * time.Duration(i%2)
			b.Play(pcm, begin.Add(at+late))
			most = max(most, (b.now - at).Abs())
			at += tick
		}
		return most
	}
	if got := off(1000, 8*ms); got > 5*ms {
		t.Errorf("uneven by 8 ms: it is followed by up to %v", got)
	}
	off(1000, 0)
	for _, still := range []time.Duration{10 * ms, 30 * ms, 45 * ms, -10 * ms, -30 * ms} {
		at += still
		off(2*some, 0)
		if got := off(100, 0); got > slack {
			t.Errorf("%v later for good: it is followed with %v between", still, got)
		}
	}
}
