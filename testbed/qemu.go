package testbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A guestBoard is a board that QEMU plays.
type guestBoard struct {
	name      string
	qemu      string // program
	machine   []string
	tree      string // device tree, in the image's folder
	ownInitrd bool   // it does not boot without
	diskSize  int64  // that QEMU wants the disk to have; 0: any
	disk      []string
	link      string // -nic or -device of the tap device "tap0", with %s for the MAC
	beside    []string
	serial    []string          // that carry the chardev "agent"
	agent     []string          // the agent's flags
	keypads   map[string]string // more flags, by the keypad that is pressed
	tape      []string          // QEMU's option for the disk that what is heard goes by; none: the line is fast enough
	pins      *pinout           // nil: the agent moves keys and hook switch
}

// guestBoards are the boards that QEMU plays.
func guestBoards() []guestBoard {
	return []guestBoard{
		{
			name: "qemu-virt",
			qemu: "qemu-system-aarch64",
			// Two processors, as the image's device tree says.
			machine: []string{"-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "256"},
			tree:    "boot/board.dtb",
			disk:    []string{"-drive", "if=none,id=disk,format=raw,file=disk.img", "-device", "virtio-blk-device,drive=disk"},
			link:    "-netdev tap,id=cable,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=cable,mac=%s",
			beside:  []string{"-device", "virtio-rng-device", "-device", "i6300esb"},
			serial:  []string{"-device", "virtio-serial-device", "-device", "virtserialport,chardev=agent,name=agent"},
			agent:   []string{"-line", "/root/dev/vport0p1"},
			keypads: map[string]string{"": "-bank phone-evdev", "evdev": "-bank phone-evdev", "lines": "-bank phone-gpio", "matrix": "-bank phone-gpio -matrix"},
		},
		{
			name:      "imx6ul-evk",
			qemu:      "qemu-system-arm",
			machine:   []string{"-M", "mcimx6ul-evk", "-m", "256"},
			tree:      "guest.dtb", // see guest.mk
			ownInitrd: true,
			diskSize:  256 << 20,
			disk:      []string{"-drive", "if=sd,format=raw,file=disk.img"},
			// eth0 of the device tree is the second of QEMU's.
			link:   "-nic hubport,hubid=9,model=imx.enet -nic tap,id=cable,ifname=tap0,script=no,downscript=no,mac=%s,model=imx.enet",
			serial: []string{"-serial", "chardev:agent"},
			agent:  []string{"-line", "/root/dev/ttymxc1", "-tape", "/root/dev/mmcblk1"},
			tape:   []string{"-drive", "if=sd,index=1,format=raw,file=tape.img"},
			// GPIO4, as boards/imx6ul_evk.go has it.
			pins: &pinout{chip: "/machine/soc/gpio3", keys: 17, hook: 16},
		},
	}
}

func findGuestBoard(name string) (guestBoard, error) {
	var names []string
	for _, b := range guestBoards() {
		if b.name == name {
			return b, nil
		}
		names = append(names, b.name)
	}
	return guestBoard{}, fmt.Errorf("testbed: no board %q can be run here; there are host, %s", name, strings.Join(names, ", "))
}

func findQEMU(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("testbed: find QEMU: %w (Debian's package qemu-system-arm)", err)
	}
	return path, nil
}

// arguments returns QEMU's command line. It runs in the phone's folder, and
// waits with the guest until it is told to go.
func (g *guest) arguments() ([]string, error) {
	cmdline, err := os.ReadFile(filepath.Join(g.image, "cmdline"))
	if err != nil {
		return nil, fmt.Errorf("testbed: start %s: %w", g.p.Name, err)
	}
	b := g.board
	args := append([]string{}, b.machine...)
	args = append(args, "-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-kernel", filepath.Join(g.image, "boot/kernel"), "-dtb", filepath.Join(g.image, b.tree),
		"-initrd", g.initrd(), "-append", string(bytes.TrimSpace(cmdline))+" "+g.p.special.Append,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=agent,path=agent,server=on,wait=off",
		"-qmp", "unix:qmp,server=on,wait=off")
	for _, more := range [][]string{b.disk, strings.Fields(fmt.Sprintf(b.link, g.p.MAC)), b.beside, b.serial, b.tape} {
		args = append(args, more...)
	}
	if !g.p.special.Resets {
		args = append(args, "-no-reboot")
	}
	if b.pins != nil {
		args = append(args, "-accel", "tcg", "-qtest", "unix:qtest,server=on,wait=off", "-qtest-log", "none")
	}
	return args, nil
}

// dialSocket connects to one of QEMU's sockets, as soon as there is one.
func dialSocket(ctx context.Context, path string, proc *process) (net.Conn, error) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-look.C:
		case <-proc.done:
			return nil, errors.New("QEMU has ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// A monitor is QEMU's QMP.
type monitor struct {
	conn net.Conn
	read *json.Decoder
}

func openMonitor(ctx context.Context, path string, proc *process) (*monitor, error) {
	conn, err := dialSocket(ctx, path, proc)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, read: json.NewDecoder(conn)}
	if err := m.do("qmp_capabilities", nil); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() { m.conn.Close() }

// do executes a command of QEMU's.
func (m *monitor) do(command string, arguments map[string]any) error {
	m.conn.SetDeadline(time.Now().Add(monitorPatience))
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("testbed: QEMU's %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		} // else a greeting, or an event
		switch err := m.read.Decode(&answer); {
		case err != nil:
			return fmt.Errorf("testbed: QEMU's %s: %w", command, err)
		case answer.Error != nil:
			return fmt.Errorf("testbed: QEMU's %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}

// setLink plugs the guest's cable in, or pulls it.
func (m *monitor) setLink(up bool) error {
	return m.do("set_link", map[string]any{"name": "cable", "up": up})
}

// A pinout says which lines of a GPIO chip of QEMU's are the keys 1 to 9, *, 0
// and #, one after the other, and which is the hook switch. They are high when
// pressed, or lifted.
type pinout struct {
	chip string
	keys int
	hook int
}

// pins are the GPIO lines of a machine, moved from outside of it.
type pins struct {
	pinout
	mu   sync.Mutex
	conn net.Conn
	read *bufio.Reader
}

func openPins(ctx context.Context, path string, to pinout, proc *process) (*pins, error) {
	conn, err := dialSocket(ctx, path, proc)
	if err != nil {
		return nil, err
	}
	return &pins{pinout: to, conn: conn, read: bufio.NewReader(conn)}, nil
}

func (p *pins) close() { p.conn.Close() }

func (p *pins) set(line int, high bool) error {
	level := "0"
	if high {
		level = "1"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.SetDeadline(time.Now().Add(monitorPatience))
	fmt.Fprintf(p.conn, "set_irq_in %s unnamed-gpio-in %s %s\n", p.chip, strconv.Itoa(line), level)
	answer, err := p.read.ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "OK") {
		return fmt.Errorf("testbed: set GPIO line %d of %s: %w: %s", line, p.chip, err, answer)
	}
	return nil
}

// press presses keys, and lets rest, which tells the machine's clock, pass after
// each move. It returns how long the machine may have waited between two keys.
func (p *pins) press(keys string, rest func() (now time.Duration, err error)) (between time.Duration, err error) {
	now, err := rest()
	if err != nil {
		return 0, err
	}
	var last time.Duration
	for i, key := range keys {
		n := strings.IndexRune("123456789*0#", key)
		if n < 0 {
			return 0, fmt.Errorf("testbed: there is no key %q", key)
		}
		before := now // the key was seen after this
		for _, down := range []bool{true, false} {
			if err := p.set(p.keys+n, down); err != nil {
				return 0, err
			}
			if now, err = rest(); err != nil {
				return 0, err
			}
		}
		if i > 0 {
			between = max(between, now-last)
		}
		last = before
	}
	return between, nil
}
