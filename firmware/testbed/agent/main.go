// Agent is the testbed's hand inside of a virtual machine in which the phone's
// image runs: it pulls the GPIO lines of keys and hook switch, speaks into the
// loop-back sound card and listens to it, and lets the testbed reach the
// phone's control socket.
//
// The image under test is what is flashed, without a change: the agent comes in
// an initramfs beside it, and stays in memory when that is gone. It knows the
// kernel's interfaces alone, and nothing of the phone but where its socket is.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/firmware/testbed/inside"
)

func main() {
	wires := flag.String("line", "", "serial device to the testbed")
	speech := flag.String("speech", "", "file of samples that are spoken, over and over")
	root := flag.String("root", "/", "the image's root file system")
	control := flag.String("control", "/run/flexphone/control.sock", "the phone's control socket")
	bank := flag.String("bank", "", "label of the gpio-sim bank of keys and hook switch")
	flag.Parse()
	if err := run(*wires, *speech, *root, *control, *bank); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(wires, speech, root, control, bank string) error {
	samples, err := readSamples(speech)
	if err != nil {
		return err
	}
	line, err := openSerial(wires)
	if err != nil {
		return err
	}
	// The phone's root: it is mounted here now, and moved to / in a moment.
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("enter %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if _, err := io.WriteString(line, inside.Hello); err != nil {
		return err
	}
	a := &agent{control: control, bank: bank, loop: newLoop(samples)}
	for l := inside.NewLine(line, bufio.NewReader(line)); ; {
		t, err := l.Accept()
		if err != nil {
			return err
		}
		go a.serve(t) // ends with the conversation
	}
}

// openSerial opens the line to the testbed, as soon as the kernel has it, and
// lets all bytes pass as they are.
func openSerial(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	for wait := time.NewTicker(10 * time.Millisecond); errors.Is(err, os.ErrNotExist); {
		<-wait.C
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return f, nil // a virtio port, not a terminal
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B4000000
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, errors.Join(fmt.Errorf("set %s: %w", path, err), f.Close())
	}
	return f, nil
}

type agent struct {
	control string
	bank    string
	loop    *loop
}

// serve does what a conversation asks for.
func (a *agent) serve(t *inside.Talk) {
	defer t.Close()
	var r inside.Request
	if err := inside.Receive(t, &r); err != nil {
		return
	}
	var err error
	switch r.Do {
	case inside.Connect:
		if conn, err := net.Dial("unix", a.control); err == nil {
			inside.Join(t, conn)
		}
		return
	case inside.Sound:
		if err := a.loop.run(t); err != nil {
			fmt.Fprintln(os.Stderr, "agent: sound:", err)
		}
		return
	case inside.Press:
		err = a.press(r.Keys)
	case inside.Hook:
		err = a.hook(r.Lifted)
	case inside.Clock:
	case inside.Off:
		err = unix.Kill(1, unix.SIGUSR2) // busybox's init: power off
	default:
		err = fmt.Errorf("asked for %q", r.Do)
	}
	reply := inside.Reply{Spoke: a.loop.spoke()}
	if err != nil {
		reply.Error = err.Error()
	}
	reply.Now = time.Now().UnixNano()
	inside.Send(t, reply)
}

// The keys of a bank of gpio-sim, by its lines, and its hook switch.
const (
	keys     = "123456789*0#"
	hookLine = 12
)

// A key is held for this long, and the next one comes as long after: a person
// in a hurry.
const held = 50 * time.Millisecond

func (a *agent) press(pressed string) error {
	dir, err := findBank(a.bank)
	if err != nil {
		return err
	}
	for _, k := range pressed {
		line := -1
		for i, key := range keys {
			if key == k {
				line = i
			}
		}
		if line < 0 {
			return fmt.Errorf("there is no key %q", k)
		}
		if err := pull(dir, line, true); err != nil {
			return err
		}
		time.Sleep(held)
		if err := pull(dir, line, false); err != nil {
			return err
		}
		time.Sleep(held)
	}
	return nil
}

func (a *agent) hook(lifted bool) error {
	dir, err := findBank(a.bank)
	if err != nil {
		return err
	}
	return pull(dir, hookLine, lifted)
}

// findBank returns the folder of a gpio-sim bank.
func findBank(label string) (string, error) {
	found, err := filepath.Glob("/sys/devices/platform/*/*/sim_gpio0")
	if err != nil {
		return "", err
	}
	more, err := filepath.Glob("/sys/devices/platform/*/*/*/sim_gpio0")
	if err != nil {
		return "", err
	}
	for _, line := range append(found, more...) {
		dir := filepath.Dir(line)
		if b, err := os.ReadFile(filepath.Join(dir, "of_node/gpio-sim,label")); err == nil && string(b) == label+"\x00" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find the gpio-sim bank %q: none in %q", label, append(found, more...))
}

// pull closes or opens the contact of a line, which connects it to ground.
func pull(dir string, line int, closed bool) error {
	to := "pull-up"
	if closed {
		to = "pull-down"
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("sim_gpio%d", line), "pull"), []byte(to), 0)
}
