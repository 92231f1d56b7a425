// Package pace measures how much of real time a machine gives to a program that
// has to be there again and again, as whatever makes sound has.
//
// A metronome wakes every 20 ms, which is the time of one packet of sound, and
// looks how late it was woken. It runs beside the phones, on the same processors
// or in the same virtual machine, and so says of the machine what no phone can be
// blamed for. It knows neither phones nor sound.
//
// # What late is
//
// A playout buffer holds 40 ms and a card's buffer not much more, of which a late
// packet uses what it is late. A wake-up that is up to 10 ms late is any busy
// machine's; what is later counts as lost, all of it.
package pace

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Period is that of the metronome.
	Period = 20 * time.Millisecond
	// onTime is how late a wake-up may be.
	onTime = 10 * time.Millisecond
)

// A Report says how a machine kept pace for a while.
type Report struct {
	Took time.Duration `json:"took"` // by the machine's own clock
	Lost time.Duration `json:"lost"` // of it, in which the metronome should have been woken and was not
	// Idle is the share of the machine's processors that nobody wanted, 0 to 1.
	Idle float64 `json:"idle"`
}

// Share returns the share of the time that was not lost, 0 to 1.
func (r Report) Share() float64 {
	if r.Took <= 0 {
		return 1
	}
	return max(0, 1-float64(r.Lost)/float64(r.Took))
}

// A score keeps count of the metronome's wake-ups: times since some moment.
type score struct {
	due  time.Duration
	lost time.Duration
}

// woke counts a wake-up. The next one is due a period later: after this one, if it
// was late, since nobody plays at once what was missed.
func (s *score) woke(now time.Duration) {
	if late := now - s.due; late > onTime {
		s.lost += late
		s.due = now
	}
	s.due += Period
}

// A Meter is a metronome that runs.
type Meter struct {
	stop chan struct{}
	done chan Report
}

// Start starts one. It is to be stopped.
func Start() *Meter {
	m := &Meter{stop: make(chan struct{}), done: make(chan Report, 1)}
	go m.run(Now())
	return m
}

// Stop stops the metronome and returns its report.
func (m *Meter) Stop() Report {
	close(m.stop)
	return <-m.done
}

// run has a thread of its own, which the kernel wakes: Go's scheduler would add
// its own delays.
func (m *Meter) run(from time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, idled := score{due: Period}, idle()
	for {
		select {
		case <-m.stop:
			took := Now() - from
			spare := float64(idle()-idled) / float64(took) / float64(runtime.NumCPU())
			m.done <- Report{Took: took, Lost: s.lost, Idle: min(1, spare)}
			return
		default:
		}
		if left := s.due - (Now() - from); left > 0 {
			wait := unix.NsecToTimespec(left.Nanoseconds())
			_ = unix.Nanosleep(&wait, nil) // woken early, it sleeps again
		}
		if t := Now() - from; t >= s.due {
			s.woke(t)
		}
	}
}

// idle returns how long all processors together have had nothing to do since the
// machine's start; 0 where the kernel does not say.
func idle() time.Duration {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), " ")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(after), 64)
	if err != nil {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// Now is the machine's monotonic clock.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // the kernel knows this clock
	}
	return time.Duration(t.Nano())
}
