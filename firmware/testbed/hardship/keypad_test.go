package hardship

import (
	"context"
	"fmt"
	"testing"
	"time"

	"flexphone/firmware/testbed"
	"flexphone/firmware/testbed/serial"
)

// TestKeypadOfSettings: the phone is dialled by each keypad that it can be told to
// have: the kernel's keys, lines of the GPIO character device, and rows and columns
// of that. It dials what was meant by keys whose contacts bounce, that are held for
// long, and that are down at once: three corners of a rectangle, the fourth of which
// a matrix without diodes sees as well.
func TestKeypadOfSettings(t *testing.T) {
	if board() != "qemu-virt" {
		t.Skipf("%s has one keypad", board())
	}
	for _, tt := range []struct {
		keypad string
		bounce time.Duration // what takes longer, since the machine stood still, is a press
		more   string        // of the kernel's command line
	}{
		{keypad: "evdev", bounce: 5 * time.Millisecond}, // the debounce of its device tree
		{keypad: "lines", bounce: 5 * time.Millisecond}, // gpio.Debounce
		{
			keypad: "matrix",
			bounce: 40 * time.Millisecond, // a look at all rows
			more:   "maxcpus=1",           // on which the agent, that is its copper, comes first
		},
	} {
		t.Run(tt.keypad, func(t *testing.T) {
			ctx, s := move(t, testbed.GuestConfig{Keypad: tt.keypad, Append: tt.more})
			s.enrol(ctx, t)
			must(t, s.Save(fmt.Sprintf("data = \"/data\"\nkeypad = %q\n", tt.keypad), false))
			must(t, s.PowerOff())
			s.Mark()
			must(t, s.PowerOn(ctx))
			s.standby(ctx, t, "101")
			want := func(number, got, how string) {
				if got != number {
					t.Errorf("pressed %s %s, dialled %s", number, how, got)
				}
			}
			for _, number := range []string{"10*77*0*9", "23456801"} { // all keys
				want(number, s.dial(ctx, t, func() { must(t, s.Press(ctx, number)) }), "")
			}
			for took := tt.bounce; took >= tt.bounce; {
				got := s.dial(ctx, t, func() {
					var err error
					took, err = s.PressOddly(serial.Bouncing, "258")
					must(t, err)
				})
				if took < tt.bounce {
					want("258", got, serial.Bouncing)
				}
			}
			for _, odd := range []struct{ how, number string }{
				{serial.Long, "505"}, {serial.Together, "137"}, {serial.Together, "519"},
			} {
				want(odd.number, s.dial(ctx, t, func() {
					_, err := s.PressOddly(odd.how, odd.number)
					must(t, err)
				}), odd.how)
			}
		})
	}
}

// dial lifts the handset, has keys pressed, and # behind them, and returns what
// the phone dials.
func (s street) dial(ctx context.Context, t *testing.T, press func()) (number string) {
	t.Helper()
	must(t, s.OffHook(ctx))
	press()
	must(t, s.Press(ctx, "#"))
	e, err := s.Await(ctx, "dialed")
	must(t, err)
	must(t, s.OnHook(ctx))
	_, err = s.Await(ctx, "state", "state", "standby")
	must(t, err)
	return e.Field("number")
}
