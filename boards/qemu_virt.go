package boards

import "time"

// emulated is how long the processor of a machine that QEMU plays may stand still:
// whatever else runs on the real one takes turns with it.
const emulated = 60 * time.Millisecond

// qemuVirt is QEMU's arm64 virt machine with our own kernel, whose gpio-sim has
// two banks of lines: "phone-evdev" belongs to the kernel's gpio-keys, which
// makes the input device phone-keys of it, "phone-gpio" to our own drivers.
func qemuVirt() Board {
	const chip = "phone-gpio"
	hook := Hook{Input: &Input{Line: Line{Chip: chip, Name: "HOOK"}, ActiveLow: true, Bias: PullUp}}
	return Board{
		Name:       "qemu-virt",
		Compatible: []string{"linux,dummy-virt"},
		Arch:       Arch{GOARCH: "arm64"},
		Keypads: []Keypad{
			{Name: "evdev", Device: "phone-keys"},
			{Name: "lines", Direct: &Direct{
				Keys: "123456789*0#+-M",
				Lines: lines(chip, "KEY_1", "KEY_2", "KEY_3", "KEY_4", "KEY_5", "KEY_6",
					"KEY_7", "KEY_8", "KEY_9", "KEY_star", "KEY_0", "KEY_pound", "KEY_volup", "KEY_voldown", "KEY_mute"),
				ActiveLow: true,
				Bias:      PullUp,
			}, Hook: &hook},
			{Name: "matrix", Matrix: &Matrix{
				Rows: lines(chip, "ROW0", "ROW1", "ROW2", "ROW3"),
				Cols: lines(chip, "COL0", "COL1", "COL2"),
				Keys: []string{"123", "456", "789", "*0#"},
				// Whoever plays the copper sees what gpio-sim's rows are
				// driven to, but not which of them let go.
				PushPull: true,
				Settle:   10 * time.Millisecond, // and it is a program
			}, Hook: &hook},
			{Name: "simulated", Simulated: true, Hook: &Hook{Simulated: true}},
		},
		Hook:     Hook{Device: "phone-keys"},
		Lamp:     Lamp{Output: &Output{Line: Line{Chip: chip, Name: "LAMP"}}},
		Display:  Display{TTY: "/dev/ttyAMA0"},
		Sound:    Sound{Card: "Loopback", Capture: "hw:0,0", Playback: "hw:0,0", Buffer: emulated},
		RealTime: RealTime{Priority: soundPriority, Lock: true, Garbage: 100, MemoryMiB: 64},
		Port:     "eth0",
		Watchdog: "/dev/watchdog0",
		// The loader is QEMU itself.
		Image: Image{
			Arch: "arm64", Kernel: OwnKernel, Overlay: "phone-keypad", Console: "ttyAMA0",
			Modules: []string{"snd-aloop"},
			Boot:    Extlinux, BootMiB: 16,
		},
	}
}
