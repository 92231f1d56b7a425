package seek

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	host    = Candidate{netip.MustParseAddrPort("192.168.1.2:4000"), Host}
	six     = Candidate{netip.MustParseAddrPort("[2001:db8::2]:4000"), Host6}
	mapped  = Candidate{netip.MustParseAddrPort("192.0.2.2:4000"), Reflexive}
	relayed = Candidate{netip.MustParseAddrPort("198.51.100.1:3480"), Relayed}
	start   = time.Unix(1_700_000_000, 0)
)

// A world answers questions from the places that work, so much later.
type world struct {
	*testing.T
	Seeker
	now   time.Time
	works map[netip.AddrPort]time.Duration
	asked map[netip.AddrPort]int
	on    []answer
	talks netip.AddrPort // the peer sends from there, a packet each 20 ms
	packs time.Time
	late  func() time.Duration // how much later than it is due anything is done; nil: not at all
}

type answer struct {
	from netip.AddrPort
	at   time.Time
}

func newWorld(t *testing.T, works map[netip.AddrPort]time.Duration) *world {
	return &world{T: t, now: start, works: works, asked: map[netip.AddrPort]int{}}
}

// pass lets time pass until at, by steps as they are due.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		next := end
		if due := w.Due(); !due.IsZero() && due.Before(next) {
			next = due
		}
		for _, a := range w.on {
			next = earlier(next, a.at)
		}
		if w.talks.IsValid() {
			next = earlier(next, w.packs)
		}
		if w.late != nil {
			next = next.Add(w.late())
		}
		w.now = later(w.now, next)
		left := w.on[:0]
		for _, a := range w.on {
			if a.at.After(w.now) {
				left = append(left, a)
			} else if _, still := w.works[a.from]; still {
				w.Proved(a.from, w.now)
			}
		}
		w.on = left
		if w.talks.IsValid() && !w.packs.After(w.now) {
			w.Heard(w.talks, w.now)
			w.packs = w.now.Add(20 * time.Millisecond)
		}
		ask, _ := w.Tick(nil, w.now)
		for _, to := range ask {
			w.asked[to]++
			if rtt, ok := w.works[to]; ok {
				w.on = append(w.on, answer{to, w.now.Add(rtt)})
			}
		}
		if due := w.Due(); !due.IsZero() && !due.After(w.now) {
			w.Fatalf("at %v it is due at %v again", w.now.Sub(start), due.Sub(start))
		}
	}
}

func (w *world) uses(c Candidate) {
	w.Helper()
	if got, ok := w.Current(); !ok && c != (Candidate{}) || got != c {
		w.Errorf("after %v: %v is in use, want %v", w.now.Sub(start), got.Addr, c.Addr)
	}
}

const rtt = 30 * time.Millisecond

// The best that works is used, and nothing is before it has answered.
func TestBest(t *testing.T) {
	all := []Candidate{relayed, mapped, six, host}
	for n := range 1 << len(all) {
		works, best := map[netip.AddrPort]time.Duration{}, Candidate{}
		for i, c := range all {
			if n>>i&1 == 1 {
				works[c.Addr], best = rtt, c
			}
		}
		w := newWorld(t, works)
		w.Start(all, w.now)
		w.uses(Candidate{})
		w.pass(250 * time.Millisecond)
		w.uses(best)
		w.pass(time.Minute)
		w.uses(best)
	}
}

// A better way that opens later takes over, in less than it takes to ask rarely.
func TestBetterLater(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{relayed.Addr: rtt})
	w.Start([]Candidate{relayed, mapped}, w.now)
	w.talks = relayed.Addr
	w.pass(5 * time.Second)
	w.uses(relayed)
	w.works[mapped.Addr] = rtt
	w.pass(rarest + rtt)
	w.uses(mapped)
}

// A way that dies is left for one that works within half a second of silence, and taken
// again when it is back.
func TestDeath(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{relayed.Addr: rtt, mapped.Addr: rtt})
	w.Start([]Candidate{relayed, mapped}, w.now)
	w.talks = mapped.Addr
	w.pass(10 * time.Second)
	w.uses(mapped)
	delete(w.works, mapped.Addr)
	w.talks = netip.AddrPort{}
	w.pass(silence + patience + pace)
	w.uses(relayed)
	w.talks = relayed.Addr
	w.pass(10 * time.Second)
	w.uses(relayed)
	w.works[mapped.Addr] = rtt
	w.pass(rarest + rtt)
	w.uses(mapped)
}

// Where the peer has gone to the relay, since it does not hear us, we follow.
func TestPeerLeaves(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{relayed.Addr: rtt, mapped.Addr: rtt})
	w.Start([]Candidate{relayed, mapped}, w.now)
	w.talks = mapped.Addr
	w.pass(10 * time.Second)
	delete(w.works, mapped.Addr)
	w.talks = relayed.Addr
	w.pass(hearsay + pace)
	w.uses(relayed)
}

// A peer that speaks by a worse way than it may is answered by the better one, and asked
// about it ever more rarely.
func TestPeerStays(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{relayed.Addr: rtt, mapped.Addr: rtt})
	w.Start([]Candidate{relayed, mapped}, w.now)
	w.talks = relayed.Addr
	w.pass(5 * time.Minute)
	w.uses(mapped)
	if n := w.asked[mapped.Addr]; n > 600 {
		t.Errorf("asked %d times in five minutes", n)
	}
}

// A place that does not answer is used for as long as the patience, if that is wanted.
func TestTry(t *testing.T) {
	moved := Candidate{netip.MustParseAddrPort("192.168.1.77:4000"), Host}
	for _, there := range []bool{true, false} {
		w := newWorld(t, map[netip.AddrPort]time.Duration{host.Addr: rtt, relayed.Addr: rtt})
		w.Start([]Candidate{relayed, host}, w.now)
		w.pass(10 * time.Second)
		w.uses(host)
		if there {
			w.works = map[netip.AddrPort]time.Duration{moved.Addr: rtt}
		}
		w.Try(moved, w.now)
		w.uses(moved)
		w.pass(patience + 2*pace)
		want := host
		if there {
			want = moved
		}
		w.uses(want)
	}
}

// A move that was proved is followed, and a better way asked for.
func TestMoved(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{host.Addr: rtt})
	w.Start([]Candidate{relayed, host}, w.now)
	w.pass(10 * time.Second)
	to := netip.MustParseAddrPort("203.0.113.1:77")
	w.works = map[netip.AddrPort]time.Duration{to: rtt}
	w.talks = to
	w.Moved(to, w.now)
	w.uses(Candidate{to, Reflexive})
	w.pass(time.Minute)
	w.uses(Candidate{to, Reflexive})
}

// Silence that stays, as on hold, costs few questions.
func TestHold(t *testing.T) {
	w := newWorld(t, map[netip.AddrPort]time.Duration{host.Addr: rtt})
	w.Start([]Candidate{host}, w.now)
	w.talks = host.Addr
	w.pass(10 * time.Second)
	w.talks = netip.AddrPort{}
	w.pass(time.Minute)
	before := w.asked[host.Addr]
	w.pass(10 * time.Minute)
	if n := w.asked[host.Addr] - before; n > 10*60/5+20*51 {
		t.Errorf("%d questions in ten minutes", n)
	}
	w.uses(host)
}

// Whoever names others' places, and as often as it likes, brings them few questions.
func TestNoFlood(t *testing.T) {
	w := newWorld(t, nil)
	total := func() (n int) {
		for _, k := range w.asked {
			n += k
		}
		return n
	}
	for i := range 600 {
		var named []Candidate
		for k := range 20 {
			named = append(named, Candidate{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), byte(k)}), 9), Kind(k % 4)})
		}
		w.Start(named, w.now)
		w.Asked(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 1, byte(i), byte(i)}), 9), w.now)
		w.pass(100 * time.Millisecond)
	}
	if n := total(); n > creditMost+60*creditRate+1 {
		t.Errorf("%d questions in a minute", n)
	}
	if len(w.places) > MaxNamed+2+maxSeen {
		t.Errorf("%d places", len(w.places))
	}
	before := total()
	w.pass(time.Hour)
	if n := total() - before; n > 3600*creditRate {
		t.Errorf("%d questions in an hour", n)
	}
}

// That the way in use was lost is said once: when a worse one is taken, and when none answers;
// not when a better one is, or the peer is heard from where it was.
func TestLost(t *testing.T) {
	for _, relay := range []bool{true, false} {
		works := map[netip.AddrPort]time.Duration{mapped.Addr: rtt}
		if relay {
			works[relayed.Addr] = rtt
		}
		w := newWorld(t, works)
		w.Start([]Candidate{relayed, mapped}, w.now)
		w.talks = mapped.Addr
		lost := func(want bool) {
			t.Helper()
			if got := w.Lost(); got != want {
				t.Errorf("with a relay %v, after %v: lost %v, want %v", relay, w.now.Sub(start), got, want)
			}
			if w.Lost() {
				t.Error("it is said twice")
			}
		}
		w.pass(time.Minute)
		lost(false)
		delete(w.works, mapped.Addr)
		w.talks = netip.AddrPort{}
		w.pass(silence + burstTime + rtt)
		lost(true)
		if relay {
			w.talks = relayed.Addr
			w.pass(time.Minute)
			lost(false)
		}
		w.works[mapped.Addr] = rtt
		w.talks = mapped.Addr
		w.pass(rarest + rtt)
		w.uses(mapped)
		lost(false)
	}
}

// A peer that asks from a better place than the one in use is asked there at once, though that
// place has been silent for long; at one that is no better it is answered alone.
func TestAskedFromBetter(t *testing.T) {
	for _, c := range []struct {
		best, from Candidate // that works, and from which it asks
		want       int
	}{{relayed, mapped, 1}, {relayed, host, 1}, {relayed, relayed, 0}, {mapped, relayed, 0}, {host, mapped, 0}} {
		var asked [2]int // without and with a question of the peer's
		for i := range asked {
			w := newWorld(t, map[netip.AddrPort]time.Duration{relayed.Addr: rtt, mapped.Addr: rtt, host.Addr: rtt})
			w.Start([]Candidate{relayed, mapped, host}, w.now)
			w.talks = host.Addr
			w.pass(10 * time.Second)
			w.uses(host)
			w.works = map[netip.AddrPort]time.Duration{relayed.Addr: rtt, c.best.Addr: rtt}
			w.talks = c.best.Addr
			w.pass(10 * time.Minute)
			w.uses(c.best)
			before := w.asked[c.from.Addr]
			if i == 1 {
				w.works[c.from.Addr] = rtt
				w.Asked(c.from.Addr, w.now)
				w.Asked(c.from.Addr, w.now)
			}
			w.pass(rtt + time.Millisecond)
			asked[i] = w.asked[c.from.Addr] - before
			if c.want > 0 && i == 1 {
				w.uses(c.from)
			}
		}
		if n := asked[1] - asked[0]; n != c.want {
			t.Errorf("by %v: asked %d times from %v, want %d", c.best, n, c.from, c.want)
		}
	}
}

// A machine that is busy does things late, also the last of a second of asking: whatever was
// due has been done then, and time is left for reading what comes.
func TestLate(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, map[netip.AddrPort]time.Duration{mapped.Addr: 50 * time.Millisecond})
		w.late = func() time.Duration {
			if r.IntN(4) > 0 {
				return 0
			}
			return time.Duration(r.Int64N(int64(300 * time.Millisecond)))
		}
		w.Start([]Candidate{host, mapped}, w.now)
		w.pass(3 * time.Second)
		w.uses(mapped)
		w.talks = host.Addr
		w.works[host.Addr] = 10 * time.Millisecond
		delete(w.works, mapped.Addr)
		w.pass(20 * time.Second)
		w.uses(host)
	}
}
