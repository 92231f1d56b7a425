package registry

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/registry-client/wire"
)

// A phone speaks as rarely as what is between it and the server allows: half of the
// packets of a day that are counted here are the server's. In the first day it finds
// out, and in the second, whose packets are counted, it knows.
func TestAnIdlePhoneSpeaksAsRarelyAsItsNetworkAllows(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name    string
		seen    string // whence the server sees the phone, which is at 192.0.2.9
		forgets time.Duration
		loses   int
		old     bool
		most    int           // packets a day, with those of the registrations
		longest time.Duration // silence that is kept: as much as this is asked for and heard
	}{
		{"no NAT", "192.0.2.9:4000", 0, 0, false, 950, keepMost * 7 / 8},
		{"no NAT, in IPv6's form", "[::ffff:192.0.2.9]:4000", 0, 0, false, 950, keepMost * 7 / 8},
		{"no NAT, and a firewall of 3 minutes", "192.0.2.9:4000", 3 * time.Minute, 0, false, 1400, 140 * time.Second},
		{"a NAT that forgets nobody", "203.0.113.7:4000", 0, 0, false, 950, keepMost * 7 / 8},
		{"one that forgets after 300 s", "203.0.113.7:4000", 300 * time.Second, 0, false, 950, keepMost * 7 / 8},
		{"120 s", "203.0.113.7:4000", 120 * time.Second, 0, false, 2100, 95 * time.Second},
		{"60 s", "203.0.113.7:4000", 60 * time.Second, 0, false, 4100, 48 * time.Second},
		{"30 s", "203.0.113.7:4000", 30 * time.Second, 0, false, 8500, 21 * time.Second},
		{"20 s", "203.0.113.7:4000", 20 * time.Second, 0, false, 13000, 13 * time.Second},
		{"60 s, and a word of 20 is lost", "203.0.113.7:4000", 60 * time.Second, 20, false, 4700, 40 * time.Second},
		{"no NAT, and a server of before", "192.0.2.9:4000", 0, 0, true, 4000, 0},
		{"a NAT, and a server of before", "203.0.113.7:4000", 0, 0, true, 9000, 0},
	} {
		announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
			f.set(func() {
				f.from = netip.MustParseAddrPort(tt.seen)
				f.forgets, f.loses, f.old = tt.forgets, tt.loses, tt.old
			})
			a.Update(bound("192.0.2.9", 0))
			time.Sleep(day)
			f.set(func() { f.packets, f.longest = 0, 0 })
			time.Sleep(day)
			f.set(func() {
				t.Logf("%-36s %5d packets a day", tt.name, f.packets)
				if f.packets > tt.most {
					t.Errorf("%s: %d packets a day; want %d at the most", tt.name, f.packets, tt.most)
				}
				if f.longest < tt.longest && tt.longest > 0 {
					t.Errorf("%s: silent for %v at the most; want %v", tt.name, f.longest, tt.longest)
				}
			})
		})
	}
}

// When what is between has forgotten the phone, it is out of reach for so long until
// it speaks: seldom, once it knows.
func TestAnIdlePhoneStaysInReach(t *testing.T) {
	for _, forgets := range []time.Duration{20 * time.Second, 30 * time.Second, 45 * time.Second, 60 * time.Second, 120 * time.Second, 300 * time.Second} {
		announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
			f.set(func() { f.from, f.forgets = netip.MustParseAddrPort("203.0.113.7:4000"), forgets })
			a.Update(bound("192.0.2.9", 0))
			out := func() (of time.Duration) {
				for range int(12 * time.Hour / time.Second) {
					time.Sleep(time.Second)
					f.set(func() {
						if time.Since(f.heard) > forgets {
							of += time.Second
						}
					})
				}
				return of
			}
			first, second := out(), out()
			t.Logf("forgets after %v: out of reach for %v of the first twelve hours, %v of the next", forgets, first, second)
			if first > 10*time.Minute || second > time.Minute {
				t.Errorf("forgets after %v: out of reach for %v of the first twelve hours, and %v of the next", forgets, first, second)
			}
		})
	}
}

// The router is another, and forgets sooner, or later: the phone finds out, the first
// at once and the other in a day.
func TestTheNetworkKeepsForAnotherTime(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		silent := func() (longest time.Duration) {
			f.set(func() { f.longest = 0 })
			time.Sleep(30 * time.Minute)
			f.set(func() { longest = f.longest })
			return longest
		}
		f.set(func() { f.from, f.forgets = netip.MustParseAddrPort("203.0.113.7:4000"), 120*time.Second })
		a.Update(bound("192.0.2.9", 0))
		time.Sleep(2 * time.Hour)
		if d := silent(); d < 95*time.Second || d >= 120*time.Second {
			t.Errorf("silent for %v where who is silent for 2m0s is forgotten", d)
		}
		f.set(func() { f.forgets = 40 * time.Second })
		time.Sleep(30 * time.Minute)
		if d := silent(); d < 30*time.Second || d >= 40*time.Second {
			t.Errorf("silent for %v where who is silent for 40s is forgotten now", d)
		}
		f.set(func() { f.forgets = 0 })
		time.Sleep(30 * time.Hour)
		if d := silent(); d < keepMost*3/4 {
			t.Errorf("silent for %v where nobody is forgotten any more", d)
		}
		f.set(func() { f.heard = time.Time{} }) // it restarts
		time.Sleep(time.Hour)
		if d := silent(); d < keepMost*3/4 {
			t.Errorf("silent for %v after the router has restarted once", d)
		}
	})
}

// What is known of a network is known when the phone comes back to it; another has to
// be found out about.
func TestNetworksAreKnownAgain(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, _ func() []Outcome) {
		asked := func(addr, seen string) (first time.Duration) {
			f.set(func() { f.from, f.longest = netip.MustParseAddrPort(seen), 0 })
			a.Update(bound(addr, 24*time.Hour))
			synctest.Wait()
			f.set(func() { first = f.longest })
			time.Sleep(time.Hour)
			return first
		}
		home := asked("192.0.2.9", "203.0.113.7:4000")
		office := asked("198.51.100.9", "203.0.113.8:4000")
		if home > keepNAT || office > keepNAT {
			t.Errorf("silent for %v and %v at first; want %v at the most", home, office, keepNAT)
		}
		if d := asked("192.0.2.9", "203.0.113.7:4001"); d < keepMost*3/4 {
			t.Errorf("back in a network that is known: silent for %v", d)
		}
		for i := range 3 * networksKept {
			asked("198.51.100.9", fmt.Sprintf("203.0.113.%d:4000", i+10))
		}
		synctest.Wait()
		if n := len(a.networks); n > networksKept {
			t.Errorf("%d networks kept", n)
		}
	})
}

// While a call is set up that is sooner, and nobody takes two lost words for what the
// network keeps.
func TestAPhoneThatCallsAsksAtOnce(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		var calling atomic.Bool
		a.cfg.Peers = func() []wire.MAC { return []wire.MAC{{2, 1}} }
		a.cfg.Urgent = calling.Load
		a.Update(bound("192.0.2.9", 24*time.Hour))
		time.Sleep(time.Hour)
		calling.Store(true)
		a.Check()
		time.Sleep(12 * time.Second)
		before := len(outcomes())
		f.set(func() { f.session++ })
		time.Sleep(keepUrgent + overdue)
		synctest.Wait()
		if n := len(outcomes()); n != before+1 {
			t.Errorf("%d announcements in %v after the server was killed; want 1", n-before, keepUrgent+overdue)
		}
		f.set(func() { f.loses = 1 })
		time.Sleep(time.Minute)
		f.set(func() { f.loses = 0 })
		calling.Store(false)
		time.Sleep(time.Minute)
		f.set(func() { f.packets = 0 })
		time.Sleep(time.Hour)
		f.set(func() {
			if f.packets > 400 {
				t.Errorf("%d packets in an hour of a call; half of them are the server's", f.packets)
			}
		})
	})
}

// In a call a server that was killed is found out within half a minute: what it would
// tell of the peer does not come.
func TestAPhoneInACallAsksMoreOften(t *testing.T) {
	announcing(t, func(a *Announcer, f *fakeServer, outcomes func() []Outcome) {
		var calling atomic.Bool
		a.cfg.Peers = func() []wire.MAC {
			if calling.Load() {
				return []wire.MAC{{2, 1}}
			}
			return nil
		}
		a.Update(bound("192.0.2.9", 24*time.Hour))
		time.Sleep(time.Hour)
		calling.Store(true)
		a.Check()
		time.Sleep(time.Minute)
		before := len(outcomes())
		f.set(func() { f.session++ })
		time.Sleep(keepNAT + overdue)
		synctest.Wait()
		if n := len(outcomes()); n != before+1 {
			t.Errorf("%d announcements in the half minute after the server was killed; want 1", n-before)
		}
		calling.Store(false)
		time.Sleep(time.Hour)
		f.set(func() { f.packets = 0 })
		time.Sleep(time.Hour)
		f.set(func() {
			if f.packets > 50 {
				t.Errorf("%d packets in the second hour after a call", f.packets)
			}
		})
	})
}
