package netlink

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A clock tells the time by which a lease runs out: that of a server, which
// neither stands still while this machine sleeps, as time.Now's monotonic
// reading does, nor jumps when somebody sets the wall clock. Its times have no
// monotonic reading and are good for this clock alone; in and out translate.
type clock struct {
	since func() time.Duration // CLOCK_BOOTTIME, unless a test says else
	wall  time.Time            // at the beginning
	began time.Duration
}

func newClock(since func() time.Duration) clock {
	return clock{since: since, wall: time.Now().Round(0), began: since()}
}

// bootTime is how long ago the machine was started, sleep included.
func bootTime() time.Duration {
	var t unix.Timespec
	// It fails on kernels before 2.6.39 alone.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano())
}

func (c clock) now() time.Time { return c.wall.Add(c.since() - c.began) }

// in translates the times of a lease from others' to this clock's, and out back.
// The clock that is translated from is read last: what passes between two readings
// makes a lease shorter, not longer.
func (c clock) in(l Lease) Lease {
	now := c.now()
	return retime(l, time.Now(), now)
}

func (c clock) out(l Lease) Lease {
	now := time.Now()
	return retime(l, c.now(), now)
}

// retime returns l with its times as far from to as they are from from.
func retime(l Lease, from, to time.Time) Lease {
	for _, t := range []*time.Time{&l.Start, &l.Renew, &l.Rebind, &l.Expiry} {
		if !t.IsZero() {
			*t = to.Add(t.Sub(from))
		}
	}
	return l
}

// An alarm is a timer that goes off on time though the machine slept meanwhile.
type alarm struct {
	file *os.File
	c    chan struct{}
}

// newAlarm returns an alarm that was not set. Whoever makes it must run it.
func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("netlink: make a timer: %w", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timer"), make(chan struct{}, 1)}, nil
}

// run fills c each time that the alarm goes off, until it is closed.
func (a *alarm) run() {
	var times [8]byte
	for {
		if _, err := a.file.Read(times[:]); err != nil {
			return // closed: a timer has no other error
		}
		select {
		case a.c <- struct{}{}:
		default:
		}
	}
}

// set has the alarm go off once after d, and not as it was set before.
func (a *alarm) set(d time.Duration) error { return a.program(max(d, 1)) }

func (a *alarm) stop() error { return a.program(0) }

func (a *alarm) program(d time.Duration) error {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("netlink: set a timer: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if err = errors.Join(err, inner); err != nil {
		return fmt.Errorf("netlink: set a timer: %w", err)
	}
	return nil
}

func (a *alarm) close() { a.file.Close() }
