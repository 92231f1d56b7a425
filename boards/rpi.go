package boards

// rpi is a Raspberry Pi 3, 4 or Zero 2 W with a 4x3 membrane keypad, a hook
// switch, a lamp, and a USB handset. The lines have the same names and header
// pins on all of them, so no chip is named (it is pinctrl-bcm2711 on the 4,
// pinctrl-bcm2835 on the others); I2S (GPIO18 to 21), I2C (2, 3), UART (14, 15)
// and SPI0 (7 to 11) stay free for a codec or a HAT.
//
//	keypad         line     header pin
//	row 1 2 3      GPIO5    29
//	row 4 5 6      GPIO6    31
//	row 7 8 9      GPIO13   33
//	row * 0 #      GPIO26   37
//	column 1 4 7 * GPIO22   15
//	column 2 5 8 0 GPIO23   16
//	column 3 6 9 # GPIO24   18
//	column A B C D GPIO25   22, of keypad "matrix-4x4": A louder, B quieter, C mutes
//	hook switch    GPIO17   11, closed to ground (pin 9) while the handset is lifted
//	lamp           GPIO27   13, LED and 330 Ohm to ground (pin 14), on while high
//
// The keypad needs neither resistors nor diodes: the columns have the SoC's
// pull-ups. A switch that opens when the handset is lifted wants ActiveLow
// false. Card "Headset" is what snd-usb-audio calls most USB handsets: see
// /proc/asound/cards. The Zero 2 W has no Ethernet; a USB adapter is eth0, too.
//
// This board has not been run on real hardware yet.
func rpi() Board {
	return Board{
		Name: "rpi",
		Compatible: []string{
			"raspberrypi,4-model-b",
			"raspberrypi,3-model-b-plus", "raspberrypi,3-model-b", "raspberrypi,3-model-a-plus",
			"raspberrypi,model-zero-2-w", "raspberrypi,model-zero-2",
		},
		Arch: Arch{GOARCH: "arm64"},
		Keypads: []Keypad{
			{Name: "matrix", Matrix: &Matrix{
				Rows: lines("", "GPIO5", "GPIO6", "GPIO13", "GPIO26"),
				Cols: lines("", "GPIO22", "GPIO23", "GPIO24"),
				Keys: []string{"123", "456", "789", "*0#"},
			}},
			{Name: "matrix-4x4", Matrix: &Matrix{
				Rows: lines("", "GPIO5", "GPIO6", "GPIO13", "GPIO26"),
				Cols: lines("", "GPIO22", "GPIO23", "GPIO24", "GPIO25"),
				Keys: []string{"123+", "456-", "789M", "*0# "},
			}},
			{Name: "simulated", Simulated: true, Hook: &Hook{Simulated: true}},
		},
		Hook:     Hook{Input: &Input{Line: Line{Name: "GPIO17"}, ActiveLow: true, Bias: PullUp}},
		Lamp:     Lamp{Output: &Output{Line: Line{Name: "GPIO27"}}},
		Display:  Display{TTY: "/dev/tty1"},
		Sound:    Sound{Card: "Headset", Capture: "USB", Playback: "USB", Mode: "handset"},
		RealTime: RealTime{Priority: soundPriority, Prompt: true, Lock: true, Garbage: 200, MemoryMiB: 128},
		Port:     "eth0",
		Watchdog: "/dev/watchdog0",
		Image: Image{
			Arch: "arm64", Kernel: "linux-image-arm64", Console: "ttyS1,115200",
			Trees: []string{
				"broadcom/bcm2837-rpi-3-b.dtb", "broadcom/bcm2837-rpi-3-b-plus.dtb", "broadcom/bcm2837-rpi-3-a-plus.dtb",
				"broadcom/bcm2837-rpi-zero-2-w.dtb", "broadcom/bcm2711-rpi-4-b.dtb",
			},
			InitrdModules: []string{"bcm2835-dma", "bcm2835", "sdhci-iproc", "squashfs", "crc32c_generic", "ext4"},
			Modules: []string{
				"evdev", "bcm2835_wdt", "bcm2835-rng", "iproc-rng200",
				"broadcom", "genet", "mdio-bcm-unimac", "reset-raspberrypi", "xhci-pci", "dwc2", "smsc95xx", "lan78xx",
				"snd-usb-audio", "tcp_diag",
			},
			Boot: Raspberry, BootMiB: 96,
		},
	}
}
