package boards

// imx6ulEVK is NXP's i.MX6UL 14x14 evaluation kit, of the class of SoC that desk
// phones have, and QEMU's mcimx6ul-evk, with Debian's stock armmp kernel and
// device tree. Its GPIO chips are labelled by their addresses: 209c000.gpio is
// GPIO1, 20a0000 GPIO2, 20a4000 GPIO3, 20a8000 GPIO4, 20ac000 GPIO5.
//
// The keys are on the lines of the camera connector, which is free while no
// camera is plugged in, active high, since QEMU's inputs rest low:
//
//	1 2 3 4 5 6 7 8 9 * 0 #   GPIO4 lines 17 to 28 (CSI_MCLK … CSI_DATA07)
//	hook                      GPIO4 line 16 (NAND_DQS), high while lifted
//	lamp                      GPIO5 line 3 (SNVS_TAMPER3), high while lit
//
// In QEMU, line n of GPIOm is pressed from outside through the qtest socket:
// set_irq_in /machine/soc/gpio(m-1) unnamed-gpio-in n 1.
func imx6ulEVK() Board {
	const gpio4, gpio5 = "20a8000.gpio", "20ac000.gpio"
	return Board{
		Name:       "imx6ul-evk",
		Compatible: []string{"fsl,imx6ul-14x14-evk"},
		Arch:       Arch{GOARCH: "arm", GOARM: "7"},
		Keypads: []Keypad{
			{Name: "lines", Direct: &Direct{
				Keys:  "123456789*0#",
				Lines: offsets(gpio4, 17, 12),
				Bias:  PullDown,
			}},
			{Name: "simulated", Simulated: true, Hook: &Hook{Simulated: true}},
		},
		Hook:     Hook{Input: &Input{Line: Line{Chip: gpio4, Offset: 16}, Bias: PullDown}},
		Lamp:     Lamp{Output: &Output{Line: Line{Chip: gpio5, Offset: 3}}},
		Display:  Display{TTY: "/dev/ttymxc0"},
		Sound:    Sound{Card: "Loopback", Capture: "hw:0,0", Playback: "hw:0,0", Buffer: emulated}, // a real one needs less
		RealTime: RealTime{Priority: soundPriority, Lock: true, Garbage: 100, MemoryMiB: 64},
		Port:     "eth0",
		Watchdog: "/dev/watchdog0",
		// On real hardware, its U-Boot (mx6ul_14x14_evk_defconfig) goes to
		// 1 KiB from the start of the card.
		Image: Image{
			Arch: "armhf", Kernel: "linux-image-armmp", Trees: []string{"imx6ul-14x14-evk.dtb"}, Console: "ttymxc0,115200",
			InitrdModules: []string{"gpio-mxc", "sdhci-esdhc-imx", "squashfs", "crc32c_generic", "ext4"},
			Modules:       []string{"evdev", "micrel", "fec", "imx2_wdt", "imx-rngc", "snd-aloop", "tcp_diag"},
			Boot:          Extlinux, BootMiB: 32,
		},
	}
}
