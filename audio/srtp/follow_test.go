package srtp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	home  = netip.MustParseAddrPort("192.0.2.1:4000")
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func place(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4000)
}

// A source that proves itself is the peer's place from then on.
func TestFollowsWhoProves(t *testing.T) {
	var f follower
	f.told(home)
	if !f.heard(place(1), start) || f.remote() != place(1) {
		t.Fatalf("remote is %v; the newest packet came from %v", f.remote(), place(1))
	}
	f.proved(place(2)) // somebody else's proof
	if f.home != home {
		t.Error("moved by another's proof")
	}
	f.proved(place(1))
	f.tick(start.Add(proofTime))
	if f.remote() != place(1) || !f.due().IsZero() {
		t.Errorf("remote is %v after its proof", f.remote())
	}
}

// One that does not goes back, and is left alone for ten seconds.
func TestGoesBackWithoutProof(t *testing.T) {
	var f follower
	f.told(home)
	f.heard(place(1), start)
	asked := []time.Duration{0}
	for f.due() != (time.Time{}) {
		now := f.due()
		if f.tick(now) {
			asked = append(asked, now.Sub(start))
		}
	}
	if f.remote() != home || fmt.Sprint(asked) != "[0s 100ms 300ms 700ms]" {
		t.Errorf("remote is %v, asked at %v", f.remote(), asked)
	}
	back := start.Add(proofTime)
	if f.heard(place(1), back.Add(shunTime-1)) {
		t.Error("tried again within ten seconds")
	}
	if !f.heard(place(1), back.Add(shunTime)) {
		t.Error("not tried again after ten seconds")
	}
}

// A newer packet from home ends a trial at once: somebody has only sent one on.
func TestHomeIsHeardDuringTrial(t *testing.T) {
	var f follower
	f.told(home)
	f.heard(place(1), start)
	f.heard(home, start.Add(20*time.Millisecond))
	if f.remote() != home || f.heard(place(1), start.Add(40*time.Millisecond)) {
		t.Errorf("remote is %v", f.remote())
	}
	f.told(place(1)) // its row or description counts more
	if f.remote() != place(1) || !f.heard(home, start.Add(time.Second)) {
		t.Errorf("remote is %v", f.remote())
	}
}

// Whatever comes in whatever order: the stream goes to home, which only signalling
// and proofs move, or for a second at a time to where an authenticated packet came
// from; and of every ten seconds, no more than four are spent in vain.
func TestFollowerKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f follower
		f.told(home)
		at, now := home, start
		began := map[netip.AddrPort]time.Time{} // last trial of each source
		var vain []time.Time                    // ends of trials without proof
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			wasTrial := f.trial
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				at = place(rapid.IntRange(1, 12).Draw(t, "told"))
				f.told(at)
				vain = nil // it may take one off the list
				wasTrial = netip.AddrPort{}
			case 1:
				source := place(rapid.IntRange(1, 12).Draw(t, "proved"))
				f.proved(source)
				if source == wasTrial {
					at, wasTrial = source, netip.AddrPort{}
				}
			case 2, 3, 4, 5:
				source := place(rapid.IntRange(1, 12).Draw(t, "heard"))
				if f.heard(source, now) {
					if source == at {
						t.Fatal("home is on trial")
					}
					if last, tried := began[source]; tried && wasTrial == source && now.Sub(last) < proofTime {
						t.Fatal("a trial begins in a trial of the same")
					}
					began[source] = now
				}
			case 6:
				f.heard(at, now)
			default:
				now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
				for due := f.due(); !due.IsZero() && !due.After(now); due = f.due() {
					f.tick(due)
				}
			}
			if wasTrial.IsValid() && f.trial != wasTrial {
				vain = append(vain, now)
			}
			if f.home != at {
				t.Fatalf("home is %v, should be %v", f.home, at)
			}
			if f.trial.IsValid() && (now.Sub(began[f.trial]) >= proofTime || f.trial == f.home) {
				t.Fatalf("%v is tried since %v", f.trial, now.Sub(began[f.trial]))
			}
			if !f.trial.IsValid() != f.due().IsZero() {
				t.Fatal("time is waited for without a trial, or not with one")
			}
			lately := 0
			for _, v := range vain {
				if now.Sub(v) < shunTime-proofTime {
					lately++
				}
			}
			if lately > mostShunned {
				t.Fatalf("%d trials in vain in ten seconds", lately)
			}
		}
	})
}

func TestDoubt(t *testing.T) {
	var d doubt
	now := start
	if d.opened(false, now) || !d.opened(true, now) || d.opened(true, now.Add(renewPause-1)) || !d.opened(true, now.Add(renewPause)) {
		t.Error("a hole is judged wrongly")
	}
	d = doubt{}
	for i := range deafPackets * 3 {
		at := now.Add(time.Duration(i) * deafTime / deafPackets)
		if got, want := d.shut(at), i == deafPackets; got != want {
			t.Errorf("packet %d that does not open: %v", i, got)
		}
	}
	d = doubt{}
	for i := range 1000 { // forged ones among those that open
		at := now.Add(time.Duration(i) * 20 * time.Millisecond)
		if d.shut(at) || d.opened(false, at) {
			t.Fatal("keys are doubted though packets open")
		}
	}
}
