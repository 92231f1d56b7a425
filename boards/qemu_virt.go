package boards

// qemuVirt is QEMU's arm64 virt machine with our own kernel, whose gpio-sim
// bank "phone-keypad" has the lines of a phone:
//
//	0-11   KEY_1 … KEY_pound, one a key   also keys of the input device phone-keys
//	12     KEY_hook                       also its KEY_PHONE
//	16-19  rows of a matrix
//	20-22  its columns
//	24     the lamp, the kernel's LED mwi
//
// A line has one user: the keypads "lines" and "matrix", and the hook by its
// line, need a device tree without the kernel drivers that hold them.
func qemuVirt() Board {
	const chip = "phone-keypad"
	return Board{
		Name:       "qemu-virt",
		Compatible: []string{"linux,dummy-virt"},
		Arch:       Arch{GOARCH: "arm64"},
		Keypads: []Keypad{
			{Name: "evdev", Device: "phone-keys"},
			{Name: "lines", Direct: &Direct{
				Keys: "123456789*0#",
				Lines: lines(chip, "KEY_1", "KEY_2", "KEY_3", "KEY_4", "KEY_5", "KEY_6",
					"KEY_7", "KEY_8", "KEY_9", "KEY_star", "KEY_0", "KEY_pound"),
				ActiveLow: true,
				Bias:      PullUp,
			}},
			{Name: "matrix", Matrix: &Matrix{
				Rows: offsets(chip, 16, 4),
				Cols: offsets(chip, 20, 3),
				Keys: []string{"123", "456", "789", "*0#"},
				// Whoever plays the copper sees what gpio-sim's rows are
				// driven to, but not which of them let go.
				PushPull: true,
			}},
			{Name: "simulated", Simulated: true},
		},
		Hook:     Hook{Device: "phone-keys"},
		Lamp:     Lamp{LED: "mwi"},
		Display:  Display{TTY: "/dev/ttyAMA0"},
		Sound:    Sound{Card: "Loopback", Capture: "hw:0,0", Playback: "hw:0,0"},
		Port:     "eth0",
		Watchdog: "/dev/watchdog0",
	}
}
