package netlink

import (
	"sync/atomic"
	"testing"
	"time"

	"flexphone/netlink/internal/isptest"
)

// TestLeaseRunsOutInSleep: a machine that slept through the end of its lease, as
// the kernel's CLOCK_BOOTTIME says and CLOCK_MONOTONIC does not, has lost it when
// it wakes. The kernel's own timer of the address, which slept too, has not.
func TestLeaseRunsOutInSleep(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	c, err := NewClient(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	var slept atomic.Int64
	c.since = func() time.Duration { return bootTime() + time.Duration(slept.Load()) }
	s := start(t, c)
	l := s.want(Bound).Lease
	if left := time.Until(l.Expiry); left < time.Minute || left > 2*time.Minute {
		t.Errorf("the lease of two minutes is over in %v", left)
	}
	i.StopDNS()
	slept.Store(int64(3 * time.Minute))
	isptest.IP(t, "link", "set", "eth0", "alias", "awake") // what wakes a process after a sleep
	if e := s.want(Lost); e.Reason != "expired" {
		t.Errorf("lost because %q", e.Reason)
	}
	i.StartDNS(isptest.FirstPool)
	b := s.want(Bound).Lease
	assertInstalled(t, b)
	if left := time.Until(b.Expiry); left < time.Minute || left > 2*time.Minute {
		t.Errorf("after the sleep the lease of two minutes is over in %v", left)
	}
}

func TestClockTranslates(t *testing.T) {
	at := time.Hour
	c := newClock(func() time.Duration { return at })
	begin := c.now()
	at += 48 * time.Hour
	if got := c.now().Sub(begin); got != 48*time.Hour {
		t.Errorf("two days are %v", got)
	}
	l := Lease{Start: time.Now(), Expiry: time.Now().Add(time.Hour)}
	if got := c.in(l).Expiry.Sub(c.now()); got > time.Hour || got < time.Hour-time.Minute {
		t.Errorf("an hour is %v", got)
	}
	// It is off by no more than what passes between readings of the two clocks.
	begun := time.Now()
	back := c.out(c.in(l))
	if d := l.Expiry.Sub(back.Expiry).Abs(); d > time.Since(begun) || !back.Renew.IsZero() {
		t.Errorf("the lease comes back as %+v", back)
	}
}

func TestAlarm(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { a.run(); close(ended) }()
	for _, d := range []time.Duration{time.Hour, time.Millisecond, -time.Hour} {
		begin := time.Now()
		if err := a.set(d); err != nil {
			t.Fatal(err)
		}
		if d == time.Hour { // and set again before it is over
			continue
		}
		select {
		case <-a.c:
			if took := time.Since(begin); took < d {
				t.Errorf("an alarm of %v went off after %v", d, took)
			}
		case <-time.After(isptest.Patience):
			t.Fatalf("an alarm of %v never went off", d)
		}
	}
	a.close()
	<-ended
}
