package testbed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/testbed/wire"
)

// swapsAtOnce is how often addresses change hands in TestSwappedAddresses: each kind of
// swap once, or FLEXPHONE_SWAPS times in all. `make swaps` sets that.
func swapsAtOnce(t *testing.T) int {
	text := os.Getenv("FLEXPHONE_SWAPS")
	if text == "" {
		return len(swapKinds)
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// What there is when two phones are given each other's address.
type swapKind string

const (
	swapThenDial   swapKind = "dialled afterwards"
	dialAtOnce     swapKind = "dialled as soon as its cable is in again"
	dialMeanwhile  swapKind = "dialled while its cable is out"
	swapRinging    swapKind = "while one of them rings"
	swapTalking    swapKind = "while one of them talks"
	swapAllTalking swapKind = "while both of them talk"
)

var swapKinds = []swapKind{swapThenDial, swapAllTalking, dialAtOnce, swapRinging, dialMeanwhile, swapTalking}

// A swapping has four phones: 101 and 104 dial, 102 and 103 are given each other's
// address from time to time.
type swapping struct {
	bed    *Bed
	phones []*Phone
	addrs  [2]netip.Addr // of 102 and 103
	strays *strays
	handed int // swaps after which each had the other's address
	found  int // dialled numbers that rang at once
	again  int // that rang when they were dialled once more
	late   int // calls that were over before the row was right

	judged  [4]position       // of the tapes, which are listened to so far
	before  map[*Phone]*Phone // who talked to whom there
	wrong   int               // phones that were rung by mistake
	foreign time.Duration     // of sound of somebody else
}

// Two phones swap their addresses, since the provider's leases have changed hands, while
// others dial them, ring them or talk with them. Nobody is rung but who was dialled, and
// nobody hears anybody but who they talk with: each phone whistles another tone, and
// whatever was played is listened to.
func TestSwappedAddresses(t *testing.T) {
	if board() != hostBoard {
		t.Skip("who is rung is the program's doing, and the same on every board")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	n := swapsAtOnce(t)
	s := &swapping{bed: newTown(ctx, t, Config{Lookups: 50}), addrs: [2]netip.Addr{East.Address(1), East.Address(2)}}
	for i := range whistles {
		p, err := s.bed.AddPhone(ctx, PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 101+i), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(1 + i)}, Speech: whistle(whistles[i]),
		})
		must(t, err)
		must(t, s.bed.ISP.GiveNext(ctx, p.MAC, East.Address(i)))
		must(t, p.PowerOn(ctx))
		must(t, p.Plug())
		awaitAddress(ctx, t, p, East.Address(i))
		must(t, s.bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(101+i)))
		s.phones = append(s.phones, p)
	}
	s.strays = s.watch(t)
	for i := range n {
		kind := swapKinds[i%len(swapKinds)]
		if !t.Run(fmt.Sprintf("%03d %s", i+1, kind), func(t *testing.T) { s.scene(ctx, t, kind, i/len(swapKinds)%2) }) {
			return // nobody knows what the phones do now
		}
	}
	s.pause(ctx, t, time.Second) // until the recorders have written
	s.judge(t, nil)
	s.strays.mu.Lock()
	defer s.strays.mu.Unlock()
	t.Logf("%d swaps, %d of them whole: %d numbers rang where they should, %d of them when dialled once more (%d calls had found nobody); %d rang elsewhere, %v of foreign sound; "+
		"%d packets of sound came to who had the address then, and %d of these once more to the port at which that one listened",
		n, s.handed, s.found+s.again, s.again, s.late, s.wrong, s.foreign, s.strays.came, s.strays.aimed)
	if n >= 2*len(swapKinds) && s.strays.aimed == 0 {
		t.Error("no packet of sound went astray: nothing was tried")
	}
}

// scene swaps the addresses of 102 and 103 once. called says which of them is called by
// 101; where both are, 104 calls the other.
func (s *swapping) scene(ctx context.Context, t *testing.T, kind swapKind, called int) {
	a, d := s.phones[0], s.phones[3]
	b, c := s.phones[1+called], s.phones[2-called]
	var events []int
	for _, p := range s.phones {
		events = append(events, len(p.Events()))
		p.Mark()
	}
	peers := map[*Phone]*Phone{a: b, b: a}
	dial := func() { must(t, a.Do(ctx, "dial", s.number(b))) }
	switch kind {
	case swapThenDial:
		s.swap(ctx, t, b, c, nil, nil)
		s.reach(ctx, t, a, b)
	case dialMeanwhile:
		s.swap(ctx, t, b, c, dial, nil)
		s.reach(ctx, t, a, b)
	case dialAtOnce:
		s.swap(ctx, t, b, c, nil, dial)
		s.reach(ctx, t, a, b)
	case swapRinging:
		s.reach(ctx, t, a, b)
		s.swap(ctx, t, b, c, nil, nil)
	case swapTalking, swapAllTalking:
		s.reach(ctx, t, a, b)
		s.answer(ctx, t, a, b)
		if kind == swapAllTalking {
			peers[c], peers[d] = d, c
			s.reach(ctx, t, d, c)
			s.answer(ctx, t, d, c)
		}
		s.hear(ctx, t, peers)
		s.swap(ctx, t, b, c, nil, nil)
	}
	if kind != swapTalking && kind != swapAllTalking {
		s.answer(ctx, t, a, b)
	}
	s.hear(ctx, t, peers)
	for p := range peers {
		if p == a || p == d {
			must(t, p.Do(ctx, "hangup"))
			await(ctx, t, peers[p], "ended", "reason", "hangup")
		}
	}
	for i, p := range s.phones {
		if peers[p] != nil {
			await(ctx, t, p, "state", "state", "standby")
			continue
		}
		for _, e := range p.Events()[events[i]:] {
			if e.Name == "ringing" {
				s.wrong++
				t.Errorf("%s was rung by mistake: %v", p.Name, e)
			}
		}
	}
	s.judge(t, peers)
}

// recorder is how much of the sound of a call may come to a tape only after its end.
const recorder = 2 * time.Second

// judge listens to all that was played since it last did so: nobody has heard anybody
// but who they talk with, or talked with before that.
func (s *swapping) judge(t *testing.T, peers map[*Phone]*Phone) {
	t.Helper()
	for i, p := range s.phones {
		from := s.judged[i]
		to, err := p.tape().position()
		must(t, err)
		pcm, err := p.tape().part(from, to)
		must(t, err)
		rest := min(len(pcm), int(recorder*time.Duration(to.rate)/time.Second))
		late, now := whistling(pcm[:rest], to.rate, whistles), whistling(pcm[rest:], to.rate, whistles)
		for j, other := range s.phones {
			heard := now[j]
			if other != s.before[p] {
				heard += late[j]
			}
			if heard > 0 && other != peers[p] {
				s.foreign += heard
				t.Errorf("%s hears %v of %s", p.Name, heard, other.Name)
			}
		}
		s.judged[i] = to
	}
	s.before = peers
}

// number is by what a phone is called: its short number.
func (s *swapping) number(p *Phone) string { return strings.TrimPrefix(p.Name, "phone-") }

// swap takes the cables of b and c out, has the provider give each the address of the
// other, puts them back, c's first, and returns when the storing server knows of it.
// Meanwhile, unless nil, is done when c has the address that the row of b tells, and b
// has no cable, and atOnce when that is in.
func (s *swapping) swap(ctx context.Context, t *testing.T, b, c *Phone, meanwhile, atOnce func()) {
	t.Helper()
	var before [2]int
	for i, p := range s.phones[1:3] {
		before[i] = len(p.Events())
		must(t, p.Pull(ctx))
	}
	s.strays.mu.Lock()
	s.addrs[0], s.addrs[1] = s.addrs[1], s.addrs[0]
	s.strays.mu.Unlock()
	next := map[MAC]netip.Addr{s.phones[0].MAC: East.Address(0), s.phones[3].MAC: East.Address(3)}
	for i, p := range s.phones[1:3] {
		next[p.MAC] = s.addrs[i]
	}
	must(t, s.bed.ISP.Restart(ctx, 0, next))
	must(t, c.Plug())
	_, _, err := c.events.await(ctx, before[len(before)-1-slices.Index(s.phones[1:3], b)], func(e Event) bool { return e.Name == "lease.bound" && e.Addr() == next[c.MAC] })
	must(t, err)
	if meanwhile != nil {
		meanwhile()
	}
	if atOnce == nil {
		s.pause(ctx, t, probing)
	}
	must(t, b.Plug())
	if atOnce != nil {
		atOnce()
	}
	s.settled(ctx, t, before)
}

// probing is how long a phone looks for others that have its new address. If b comes
// back meanwhile, which still has it until its provider says no, c looks for another.
const probing = 500 * time.Millisecond

// settled waits until each has another lease than before those events, and its row
// tells that.
func (s *swapping) settled(ctx context.Context, t *testing.T, before [2]int) {
	t.Helper()
	handed := 0
	for i, p := range s.phones[1:3] {
		_, _, err := p.events.await(ctx, before[i], func(e Event) bool { return e.Name == "lease.bound" })
		must(t, err)
		awaitRow(ctx, t, s.bed, p, func(addrs []string) bool {
			status, err := p.Status(ctx)
			return err == nil && status.Registered && len(addrs) == 1 && addrs[0] == status.Addr().String()
		})
		if addressOf(ctx, t, p) == s.addrs[i] {
			handed++
		}
	}
	if handed == 2 {
		s.handed++
	}
}

func (s *swapping) pause(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

// reach has a call p, unless it does, until p rings. A call that is made while the rows
// are wrong may find nobody, and says so; whoever dials once more finds p.
func (s *swapping) reach(ctx context.Context, t *testing.T, a, p *Phone) {
	t.Helper()
	status, err := a.Status(ctx)
	must(t, err)
	dials := 0
	if status.State == "standby" && !dialled(a) {
		must(t, a.Do(ctx, "dial", s.number(p)))
	}
	for {
		switch e := await(ctx, t, a, ""); e.Name {
		case "dialed":
			dials++
		case "ringing":
			if await(ctx, t, p, "ringing"); dials == 1 {
				s.found++
			} else {
				s.again++
			}
			return
		case "ended":
			s.late++
			t.Logf("%s: %v", a.Name, e)
			if dials > 1 {
				t.Fatalf("%s does not reach %s, whose row is right: %v", a.Name, p.Name, e)
			}
			await(ctx, t, a, "state", "state", "standby")
			must(t, a.Do(ctx, "dial", s.number(p)))
		}
	}
}

// dialled reports whether a phone has dialled since it was marked.
func dialled(p *Phone) bool {
	p.mu.Lock()
	from := p.next
	p.mu.Unlock()
	for _, e := range p.events.since(from) {
		if e.Name == "dialed" {
			return true
		}
	}
	return false
}

func (s *swapping) answer(ctx context.Context, t *testing.T, a, b *Phone) {
	t.Helper()
	must(t, b.Do(ctx, "answer"))
	for _, p := range []*Phone{a, b} {
		if e := reaches(ctx, t, p, "established"); e.Field("security") != "private" {
			t.Errorf("%v; want it private", e)
		}
	}
}

// hear waits until each hears their peer whistle, as long as the machine lets them.
func (s *swapping) hear(ctx context.Context, t *testing.T, peers map[*Phone]*Phone) {
	t.Helper()
	const lasts = 600 * time.Millisecond // of which a whistle is the half
	var all sync.WaitGroup
	for p, peer := range peers {
		all.Go(func() {
			var heard time.Duration
			for range 20 {
				from, to, err := p.tape().listenFor(ctx, lasts)
				if err != nil {
					t.Error(err)
					return
				}
				pcm, err := p.tape().part(from, to)
				if err != nil {
					t.Error(err)
					return
				}
				for i, other := range s.phones {
					if other == peer {
						heard = whistling(pcm, to.rate, whistles[i:i+1])[0]
					}
				}
				if heard >= lasts/4 {
					return
				}
			}
			t.Errorf("%s hears %v of %s in %v", p.Name, heard, peer.Name, lasts)
		})
	}
	all.Wait()
}

// strays are packets of sound that came to a phone which had the address of another.
type strays struct {
	mu    sync.Mutex
	ports [2]uint16 // at which 102 and 103 listen in their last calls
	came  int
	aimed int // sent once more
}

// watch counts strays, and sends each once more to the port at which that phone listens:
// ports differ by chance, and chance is no defence.
func (s *swapping) watch(t *testing.T) *strays {
	w := &strays{}
	raw := -1
	must(t, s.bed.ISP.host.within(func() (err error) {
		raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}))
	t.Cleanup(func() { unix.Close(raw) })
	overhear := func(seen func(from, to netip.AddrPort, packet []byte), phones ...*Phone) {
		stop, err := s.bed.Overhear(func(_ time.Time, packet []byte) {
			if from, to, ok := wire.Voice(packet); ok {
				w.mu.Lock()
				defer w.mu.Unlock()
				seen(from, to, packet)
			}
		}, phones...)
		must(t, err)
		t.Cleanup(func() { must(t, stop()) })
	}
	overhear(func(from, _ netip.AddrPort, _ []byte) { // who speaks, listens there
		for i, addr := range s.addrs {
			if from.Addr() == addr {
				w.ports[i] = from.Port()
			}
		}
	}, s.phones[0], s.phones[3])
	for i, p := range s.phones[1:3] {
		overhear(func(_, to netip.AddrPort, packet []byte) {
			if to.Port() != w.ports[1-i] || to.Port() == w.ports[i] {
				return
			}
			w.came++
			again := bytes.Clone(packet)
			head := int(again[0]&15) * 4
			binary.BigEndian.PutUint16(again[head+2:], w.ports[i])
			binary.BigEndian.PutUint16(again[head+6:], 0) // no checksum (RFC 768)
			if w.ports[i] != 0 && unix.Sendto(raw, again, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}) == nil {
				w.aimed++
			}
		}, p)
	}
	return w
}
