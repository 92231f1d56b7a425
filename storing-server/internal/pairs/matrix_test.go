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
// other end can be told by a packet, and a second where it takes the relay.
func TestNATStartsAnew(t *testing.T) {
	for _, one := range []struct {
		other nat
		after srtp.Way
		gap   time.Duration
	}{{fullCone, srtp.Punched, 100 * time.Millisecond}, {noNAT, srtp.Punched, 100 * time.Millisecond}, {portLimited, srtp.Relayed, 1200 * time.Millisecond}, {symmetric, srtp.Relayed, 1200 * time.Millisecond}} {
		var again *vnet.Router
		calling(t, true, func(in *internet) (a, b *vnet.Router) {
			again = in.lan(in.wan, portLimited)
			return in.lan(in.wan, portLimited), in.lan(in.wan, one.other)
		}, func(in *internet, a, b *phone) {
			since := time.Now()
			c, _ := in.host(again)
			a.socket.swap(c)
			time.Sleep(2 * time.Second)
			gap := max(a.gap(since), b.gap(since))
			t.Logf("with %s: a gap of %v", one.other.name, gap)
			if gap > one.gap {
				t.Errorf("with %s: a gap of %v, want at most %v", one.other.name, gap, one.gap)
			}
			if b.Way() != one.after {
				t.Errorf("with %s it is %s, want %s", one.other.name, b.Way(), one.after)
			}
		})
	}
}
