package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Press presses keys: digits, * and #.
func (p *Phone) Press(ctx context.Context, keys string) error {
	_, err := p.machine.press(ctx, keys)
	return err
}

// interdigit is how long the phone waits for another key before it dials what it has.
const interdigit = 4 * time.Second

// StoodStill reports whether a phone that had to wait for so long between two keys may
// have dialled what it had: a person is not as slow, a machine that stands still is.
func StoodStill(between time.Duration) bool { return between >= interdigit }

// dialings is how often a number is dialled at most, until the machine does not stand
// still meanwhile.
const dialings = 10

// Dial marks, lifts the handset, presses the keys of number and #, and returns the
// event that the phone has dialled it. It does so once more if the machine stood still
// between two keys, for which the phone cannot but dial the first of them, or a virtual one
// did not keep pace: one of its processors that stands still while another goes on does
// not see a key that is pressed and let go meanwhile.
func (p *Phone) Dial(ctx context.Context, number string) (Event, error) {
	for range dialings {
		p.Mark()
		if err := p.OffHook(ctx); err != nil {
			return Event{}, err
		}
		dialed, excused, err := p.pressOnce(ctx, number)
		switch {
		case err != nil || dialed.Field("number") == number:
			return dialed, err
		case !excused:
			return dialed, fmt.Errorf("testbed: dial %s at %s: it dialled %s", number, p.Name, dialed.Field("number"))
		}
		if err := p.OnHook(ctx); err != nil {
			return Event{}, err
		}
		if _, err := p.Await(ctx, "state", "state", "standby"); err != nil {
			return Event{}, err
		}
	}
	return Event{}, fmt.Errorf("testbed: dial %s at %s: the machine stood still between two keys, %d times", number, p.Name, dialings)
}

// pressOnce presses the keys of number and #, and returns what the phone dials. excused: it
// may have seen others, since the machine did not keep pace.
func (p *Phone) pressOnce(ctx context.Context, number string) (dialed Event, excused bool, err error) {
	var meter *paceMeter
	if p.board != hostBoard { // a program is told of its keys, and misses none
		if meter, err = startPace(p); err != nil {
			return Event{}, false, err
		}
	}
	between, err := p.machine.press(ctx, number+"#")
	if err == nil {
		dialed, err = p.Await(ctx, "dialed")
	}
	got := fullPace
	if meter != nil {
		var problem error
		got, problem = meter.stop()
		err = errors.Join(err, problem)
	}
	return dialed, StoodStill(between) || !got.Fair(), err
}

// OffHook lifts the handset.
func (p *Phone) OffHook(ctx context.Context) error {
	return p.machine.hook(ctx, true)
}

// OnHook puts the handset back.
func (p *Phone) OnHook(ctx context.Context) error {
	return p.machine.hook(ctx, false)
}
