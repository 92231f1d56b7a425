package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flexphone/testbed/pace"
	"flexphone/testbed/serial"
)

// A Pace says how much of real time the machines gave to the phones while somebody
// listened: shares, 0 to 1. What takes less than all of a machine keeps all of
// these at 1; a phone that is at fault cannot make the first two less.
type Pace struct {
	Processor float64 // in which whoever had to run, ran; of this machine and of virtual ones
	Clock     float64 // that passed on the phones' clocks
	Card      float64 // that passed on their sound cards
	// Spare is the share of a virtual machine's processors that nobody wanted. With none
	// of it programs are late, however fairly they share: 0 to 60 % of the words arrived.
	Spare float64
}

// fullPace is that of a machine which lets all run, all the time.
var fullPace = Pace{1, 1, 1, 1}

const (
	// fairShare is the share of real time from which on sound is judged: what is missing
	// then is the phones' fault. Each stop of a machine takes more words than time.
	fairShare = 0.97
	// fairSpare is the same of the processors that nobody wanted: what is on the average
	// less is nothing for a while.
	fairSpare = 0.2
)

// Fair reports whether the machines gave the phones what sound takes.
func (p Pace) Fair() bool {
	return min(p.Processor, p.Clock, p.Card) >= fairShare && p.Spare >= fairSpare
}

// and returns the least of both.
func (p Pace) and(q Pace) Pace {
	return Pace{min(p.Processor, q.Processor), min(p.Clock, q.Clock), min(p.Card, q.Card), min(p.Spare, q.Spare)}
}

// String returns p for people.
func (p Pace) String() string {
	return fmt.Sprintf("of real time the phones got %.0f %% by the processors, %.0f %% by their clocks, %.0f %% by their sound cards "+
		"(sound takes %.0f), with %.0f %% of the processors to spare (%.0f)",
		100*p.Processor, 100*p.Clock, 100*p.Card, 100*fairShare, 100*p.Spare, 100*fairSpare)
}

// A paceMeter measures the pace of some phones.
type paceMeter struct {
	from  time.Time
	here  *pace.Meter
	there []func() (pace.Report, error)
	page  func() (float64, error) // share of the time that its microphone got; nil: there is none
}

// hasMicrophone measures that of a page's call besides.
func (m *paceMeter) hasMicrophone(ctx context.Context, w *Browser) error {
	began, err := w.spoken(ctx)
	m.page = func() (float64, error) {
		ended, err := w.spoken(ctx)
		return min(1, (ended.Samples-began.Samples)/(ended.At-began.At)), err
	}
	return err
}

// end is stop where nobody asks.
func (m *paceMeter) end() error {
	m.page = nil
	_, err := m.stop()
	return err
}

// startPace begins to measure on this machine, and on those of phones.
func startPace(phones ...*Phone) (*paceMeter, error) {
	m := &paceMeter{here: pace.Start(), from: time.Now()}
	for _, p := range phones {
		stop, err := p.machine.pace()
		if err != nil {
			return nil, errors.Join(err, m.end())
		}
		if stop != nil {
			m.there = append(m.there, stop)
		}
	}
	return m, nil
}

// stop returns what was measured. It is called once.
func (m *paceMeter) stop() (Pace, error) {
	p := fullPace
	var problem error
	for _, stop := range m.there {
		r, err := stop()
		if err != nil {
			problem = err
			continue
		}
		// Request and reply take their time; a clock that stands still takes more.
		took := time.Since(m.from)
		p = p.and(Pace{r.Share(), min(1, float64(r.Took+clockSlack)/float64(took)), 1, r.Idle})
	}
	if m.page != nil {
		share, err := m.page()
		p, problem = p.and(Pace{1, 1, share, 1}), errors.Join(problem, err)
	}
	return p.and(Pace{m.here.Stop().Share(), 1, 1, 1}), problem
}

// clockSlack is how much less a virtual machine may measure than this one, since it
// is told to begin, and says that it has ended.
const clockSlack = 100 * time.Millisecond

// pace has the agent's metronome run until the returned function is called.
func (g *guest) pace() (stop func() (pace.Report, error), err error) {
	t, err := g.life.line.Open()
	if err != nil {
		return nil, fmt.Errorf("testbed: measure the pace of %s: %w", g.p.Name, err)
	}
	if err := serial.Send(t, serial.Request{Do: serial.Pace}); err != nil {
		t.Close()
		return nil, fmt.Errorf("testbed: measure the pace of %s: %w", g.p.Name, err)
	}
	return func() (pace.Report, error) {
		reply, err := g.converse(t, serial.Request{Do: serial.Enough})
		return reply.Pace, err
	}, nil
}

// pace of a program is that of this machine.
func (m program) pace() (stop func() (pace.Report, error), err error) { return nil, nil }
