package hardship

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"flexphone/testbed"
	"flexphone/testbed/serial"
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
			s.put(t, "flexphone.toml", fmt.Sprintf("data = \"/data\"\nkeypad = %q\n", tt.keypad))
			must(t, s.PowerOn(ctx))
			s.standby(ctx, t, "")
			for _, press := range []struct{ how, number string }{
				{"", "10*77*0*9"}, {"", "23456801"}, // all keys
				{serial.Bouncing, "258"},
				{serial.Long, "505"},
				{serial.Together, "137"}, {serial.Together, "519"},
			} {
				t.Run(strings.TrimSpace(press.how+" "+press.number), func(t *testing.T) {
					got, ok := s.dial(ctx, t, press.how, press.number, tt.bounce)
					switch {
					case !ok:
						t.Skipf("the machine is too slow for fingers: %d times of %d it stood still between two keys, or a contact bounced for longer than %v, or was late", dialings, dialings, tt.bounce)
					case got != press.number:
						t.Errorf("pressed %s %s, dialled %s", press.number, press.how, got)
					}
				})
			}
		})
	}
}

// dialings is how often keys are pressed at most, until they are pressed as is meant.
const dialings = 10

// tooLate is when a contact that closes or opens is seen too late: what the phone gives the
// columns of its matrix to follow a row (boards.Matrix.Settle).
const tooLate = 10 * time.Millisecond

// dial lifts the handset, has keys pressed in some way, and # behind them, and returns
// what the phone dials. ok is false if the keys could not be pressed as they should be:
// always, the machine stood still between two of them for so long that the phone had to
// dial, a contact bounced for as long as a press, or what stands for the copper of a matrix
// was so late that another number was dialled.
func (s street) dial(ctx context.Context, t *testing.T, how, keys string, bounce time.Duration) (number string, ok bool) {
	t.Helper()
	for range dialings {
		s.Mark()
		must(t, s.OffHook(ctx))
		pressed, err := s.PressOddly(how, keys)
		must(t, err)
		must(t, s.Press(ctx, "#"))
		e, err := s.Await(ctx, "dialed")
		must(t, err)
		must(t, s.OnHook(ctx))
		_, err = s.Await(ctx, "state", "state", "standby")
		must(t, err)
		number := e.Field("number")
		if pressed.Bounced < bounce && !testbed.StoodStill(pressed.Between) && (pressed.Late < tooLate || number == keys) {
			return number, true
		}
	}
	return "", false
}
