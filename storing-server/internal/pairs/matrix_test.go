package pairs

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v5/vnet"

	"flexphone/audio/srtp"
)

// Each pair of NATs talks both ways: all of them with the relay, and but for those with a
// symmetric one and one that looks at ports without it.
func TestMatrix(t *testing.T) {
	for _, relay := range []bool{true, false} {
		var table strings.Builder
		fmt.Fprintf(&table, "caller \\ callee, ms from the answer to sound at either end; relay: %v\n%20s", relay, "")
		for _, b := range allNATs {
			fmt.Fprintf(&table, "%20s", b.name)
		}
		talking := 0
		for _, a := range allNATs {
			fmt.Fprintf(&table, "\n%20s", a.name)
			for _, b := range allNATs {
				cell := "-"
				synctest.Test(t, func(t *testing.T) {
					in := newInternet(t)
					defer in.close()
					caller, callee := in.phone(in.lan(in.wan, a)), in.phone(in.lan(in.wan, b))
					in.must(in.wan.Start())
					answered := in.call(caller, callee, relay)
					time.Sleep(3 * time.Second)
					here, ok := caller.first(answered)
					there, too := callee.first(answered)
					works := a.none || b.none || !(a.name == symmetric.name && (b.name == symmetric.name || b.name == portLimited.name) || b.name == symmetric.name && a.name == portLimited.name)
					if ok && too {
						talking++
						cell = fmt.Sprintf("%s %d %d", caller.Way(), here.Milliseconds(), there.Milliseconds())
						if caller.Way() == srtp.Relayed == works {
							t.Errorf("%s with %s is %s", a.name, b.name, caller.Way())
						}
						late := time.Now().Add(-time.Second)
						if gap := max(caller.gap(late), callee.gap(late)); gap > 60*time.Millisecond {
							t.Errorf("%s with %s: a gap of %v", a.name, b.name, gap)
						}
					}
					if want := works || relay; (ok && too) != want {
						t.Errorf("%s with %s, relay %v: talk %v, %v", a.name, b.name, relay, ok, too)
					}
				})
				fmt.Fprintf(&table, "%20s", cell)
			}
		}
		fmt.Fprintf(&table, "\n%d of 25 talk\n", talking)
		t.Log(table.String())
		if want := map[bool]int{true: 25, false: 22}[relay]; talking != want {
			t.Errorf("%d of 25 talk, want %d", talking, want)
		}
	}
}

// A calling is a call between phones behind whatever is wanted.
func calling(t *testing.T, relay bool, between func(in *internet) (a, b *vnet.Router), then func(in *internet, a, b *phone)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		in := newInternet(t)
		defer in.close()
		x, y := between(in)
		a, b := in.phone(x), in.phone(y)
		in.must(in.wan.Start())
		in.call(a, b, relay)
		time.Sleep(3 * time.Second)
		then(in, a, b)
	})
}

// goes checks how a call goes at both ends, and that both hear all the time.
func goes(t *testing.T, way srtp.Way, a, b *phone) {
	t.Helper()
	since := time.Now()
	time.Sleep(time.Second)
	if a.Way() != way || b.Way() != way {
		t.Errorf("it is %s here and %s there, want %s", a.Way(), b.Way(), way)
	}
	if gap := max(a.gap(since), b.gap(since)); gap > 60*time.Millisecond {
		t.Errorf("a gap of %v", gap)
	}
}

func TestDoubleNAT(t *testing.T) {
	calling(t, false, func(in *internet) (a, b *vnet.Router) {
		return in.lan(in.lan(in.wan, portLimited), addressLimited), in.lan(in.lan(in.wan, addressLimited), portLimited)
	}, func(_ *internet, a, b *phone) { goes(t, srtp.Punched, a, b) })
}

// Two phones in one network speak in it, whatever their NAT does with what it has sent
// out itself.
func TestBehindOneNAT(t *testing.T) {
	calling(t, true, func(in *internet) (a, b *vnet.Router) {
		lan := in.lan(in.wan, symmetric)
		return lan, lan
	}, func(_ *internet, a, b *phone) { goes(t, srtp.Direct, a, b) })
}

// Two homes behind one NAT of their provider's speak by its addresses, if it leads back to
// it what it has sent out (RFC 4787, section 6), and else by the relay.
func TestHairpin(t *testing.T) {
	for way, leads := range map[srtp.Way]bool{srtp.Punched: true, srtp.Relayed: false} {
		calling(t, true, func(in *internet) (a, b *vnet.Router) {
			in.wan.AddChunkFilter(func(c vnet.Chunk) bool {
				from, to := c.SourceAddr().(*net.UDPAddr), c.DestinationAddr().(*net.UDPAddr)
				return leads || !from.IP.Equal(to.IP)
			})
			carrier := in.lan(in.wan, portLimited)
			return in.lan(carrier, portLimited), in.lan(carrier, portLimited)
		}, func(_ *internet, a, b *phone) { goes(t, way, a, b) })
	}
}

// What NATs forget after half a minute is kept in mind while the call is on hold.
func TestForgetfulNATs(t *testing.T) {
	forgetful, worse := portLimited, symmetric
	forgetful.kind.MappingLifeTime, worse.kind.MappingLifeTime = 30*time.Second, 30*time.Second
	for way, n := range map[srtp.Way]nat{srtp.Punched: forgetful, srtp.Relayed: worse} {
		calling(t, true, func(in *internet) (a, b *vnet.Router) { return in.lan(in.wan, n), in.lan(in.wan, n) }, func(_ *internet, a, b *phone) {
			goes(t, way, a, b)
			a.mute.Store(true)
			b.mute.Store(true)
			time.Sleep(10 * time.Minute)
			a.mute.Store(false)
			b.mute.Store(false)
			time.Sleep(2 * wayThere)
			goes(t, way, a, b)
		})
	}
}

// A NAT that has started anew in the call, with another address, costs a moment where the
// other end can be told by a packet, and a second where it takes the relay. Then both know that
// their way was lost, and go by one through the NATs again, if there is any, without a gap, once
// the one has told where it is seen now.
func TestNATStartsAnew(t *testing.T) {
	for _, one := range []struct {
		other nat
		after srtp.Way
		gap   time.Duration
		told  srtp.Way
	}{
		{fullCone, srtp.Punched, 100 * time.Millisecond, srtp.Punched}, {noNAT, srtp.Punched, 100 * time.Millisecond, srtp.Punched},
		{portLimited, srtp.Relayed, 1200 * time.Millisecond, srtp.Punched}, {symmetric, srtp.Relayed, 1200 * time.Millisecond, srtp.Relayed},
	} {
		for _, both := range []bool{false, true} {
			if both && one.other.name != portLimited.name {
				continue // it has nothing to forget, or the relay alone helps
			}
			var again, there *vnet.Router
			calling(t, true, func(in *internet) (a, b *vnet.Router) {
				again, there = in.lan(in.wan, portLimited), in.lan(in.wan, one.other)
				return in.lan(in.wan, portLimited), in.lan(in.wan, one.other)
			}, func(in *internet, a, b *phone) {
				since := time.Now()
				c, _ := in.host(again)
				a.socket.swap(c)
				if both {
					c, _ := in.host(there)
					b.socket.swap(c)
				}
				time.Sleep(2 * time.Second)
				gap := max(a.gap(since), b.gap(since))
				t.Logf("with %s, both %v: a gap of %v", one.other.name, both, gap)
				if gap > one.gap {
					t.Errorf("with %s, both %v: a gap of %v, want at most %v", one.other.name, both, gap, one.gap)
				}
				if b.Way() != one.after {
					t.Errorf("with %s, both %v, it is %s, want %s", one.other.name, both, b.Way(), one.after)
				}
				if lost := one.after != one.told; lost && (a.lost.Load() == 0 || b.lost.Load() == 0) {
					t.Errorf("with %s, both %v: that the way was lost is known %d times here and %d there", one.other.name, both, a.lost.Load(), b.lost.Load())
				}
				since = time.Now()
				a.tell(b)
				if both {
					b.tell(a)
				}
				time.Sleep(2 * time.Second)
				if gap := max(a.gap(since), b.gap(since)); gap > 60*time.Millisecond {
					t.Errorf("with %s, both %v: a gap of %v when it was told", one.other.name, both, gap)
				}
				if b.Way() != one.told || one.other.name != noNAT.name && a.Way() != one.told {
					t.Errorf("with %s, both %v, it is %s here and %s there when it was told, want %s", one.other.name, both, a.Way(), b.Way(), one.told)
				}
			})
		}
	}
}

// A relay that is restarted costs a call what it is away, and at most a little more.
func TestRelayRestarts(t *testing.T) {
	for away, more := range map[time.Duration]time.Duration{0: 1500 * time.Millisecond, time.Second: 1500 * time.Millisecond, 10 * time.Second: 8 * time.Second, time.Minute: 32 * time.Second} {
		calling(t, true, func(in *internet) (a, b *vnet.Router) { return in.lan(in.wan, symmetric), in.lan(in.wan, symmetric) }, func(in *internet, a, b *phone) {
			goes(t, srtp.Relayed, a, b)
			in.relay.Store(nil)
			time.Sleep(away)
			in.startRelay()
			back := time.Now()
			time.Sleep(more + time.Second)
			goes(t, srtp.Relayed, a, b)
			for _, p := range []*phone{a, b} {
				again, ok := p.first(back)
				t.Logf("away for %v: heard again after %v more", away, again)
				if !ok || again > more {
					t.Errorf("away for %v: heard again %v after that, %v; want at most %v", away, again, ok, more)
				}
			}
		})
	}
}
