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
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/testbed/pace"
	"flexphone/testbed/serial"
)

func main() {
	wires := flag.String("line", "", "serial device to the testbed")
	root := flag.String("root", "/", "the image's root file system")
	control := flag.String("control", "/run/flexphone/control.sock", "the phone's control socket")
	bank := flag.String("bank", "", "label of the gpio-sim bank of keys and hook switch")
	matrix := flag.Bool("matrix", false, "the keys are a matrix of rows and columns")
	tape := flag.String("tape", "", "disk that what is heard goes by, where the line is too slow")
	second := flag.Bool("again", false, "this is the one in the background")
	flag.Parse()
	serve := again
	if *second {
		serve = func() error { return run(*wires, *root, *tape, agent{control: *control, bank: *bank, matrix: *matrix}) }
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "<3>agent:", err) // as serious as the console shows
		os.Exit(1)
	}
}

// again runs the program once more, in the background, and returns once that
// one needs no file any more but those of the phone's root.
func again() error {
	c := exec.Command(os.Args[0], append(os.Args[1:], "-again")...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	settled, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c.ExtraFiles = []*os.File{w}
	if err := c.Start(); err != nil {
		return err
	}
	w.Close()
	_, err = io.ReadAll(settled)
	return err
}

// settledFile is what again waits for the end of.
const settledFile = 3

// run reads what is spoken from its standard input: samples of 16 bits.
func run(wires, root, tape string, a agent) error {
	samples, err := readSamples(os.Stdin)
	if err != nil {
		return err
	}
	line, err := openSerial(wires)
	if err != nil {
		return err
	}
	if a.tape, err = openTape(tape); err != nil {
		return err
	}
	// The phone's root: it is mounted here now, and moved to / in a moment.
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("enter %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Close(settledFile); err != nil {
		return err
	}
	if _, err := io.WriteString(line, serial.Hello); err != nil {
		return err
	}
	a.loop = newLoop(samples)
	for l := serial.NewLine(line, bufio.NewReader(wakeful{line})); ; {
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
	f, err := await(path, unix.O_NOCTTY)
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

// wakeful reads a line whose wake-ups get lost: what the testbed had sent was seen
// to lie in the virtio port until it sent more (QEMU 7.2, Linux 6.1). Whoever
// looks again finds it.
type wakeful struct{ *os.File }

// lookAgain is how long a lost wake-up may delay what was sent.
const lookAgain = 100 * time.Millisecond

func (w wakeful) Read(b []byte) (int, error) {
	for {
		there := []unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(there, int(lookAgain.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the testbed: %w", err)
		case there[0].Revents != 0:
			return w.File.Read(b)
		}
	}
}

// await opens a device, as soon as the kernel has it.
func await(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	for wait := time.NewTicker(10 * time.Millisecond); errors.Is(err, os.ErrNotExist); {
		<-wait.C
		f, err = os.OpenFile(path, os.O_RDWR|flags, 0)
	}
	return f, err
}

type agent struct {
	control string
	bank    string
	matrix  bool
	tape    *os.File // nil: none
	loop    *loop
}

// serve does what a conversation asks for.
func (a *agent) serve(t *serial.Talk) {
	defer t.Close()
	var r serial.Request
	if err := serial.Receive(t, &r); err != nil {
		return
	}
	var reply serial.Reply
	var err error
	switch r.Do {
	case serial.Connect:
		if conn, err := net.Dial("unix", a.control); err == nil {
			serial.Join(t, conn)
		}
		return
	case serial.Sound:
		if err := a.sound(t); err != nil {
			fmt.Fprintln(os.Stderr, "<3>agent: sound:", err)
		}
		return
	case serial.Press:
		reply.Pressed, err = a.press(r.Keys, r.How)
	case serial.Rest:
		time.Sleep(held)
		reply.Now = pace.Now()
	case serial.Pace:
		m := pace.Start()
		err = serial.Receive(t, &r) // serial.Enough
		reply.Pace = m.Stop()
	case serial.Hook:
		err = a.hook(r.Lifted)
	case serial.Signal:
		err = signal(r.Number)
	case serial.Save:
		err = save(r.Settings, r.Again)
	case serial.Sysctl:
		err = os.WriteFile("/proc/sys/"+r.Name, []byte(r.Value), 0)
	case serial.Off:
		err = unix.Kill(1, unix.SIGUSR2) // busybox's init: power off
	default:
		err = fmt.Errorf("asked for %q", r.Do)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	serial.Send(t, reply)
}
