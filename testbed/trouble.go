package testbed

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flexphone/testbed/serial"
)

// GuestConfig says what is out of the ordinary with a phone that is a virtual
// machine.
type GuestConfig struct {
	Append string // more of the kernel's command line
	// Keypad is which of the board's keypads is pressed, beside its hook switch;
	// empty: the first.
	Keypad string
	// Resets lets the machine go on when it is reset, as a real one does. Else
	// a reset ends it, which is what a test of anything else should see. After
	// a reset only the phone's log is followed.
	Resets bool
}

// AwaitLog waits for a line of the log of the phone's present life, which for a
// virtual machine is its console, that holds all of the words. It looks from
// position from on, and returns the position behind the line.
func (p *Phone) AwaitLog(ctx context.Context, from int, words ...string) (line string, next int, err error) {
	line, next, err = p.proc.await(ctx, from, func(line string) bool {
		for _, w := range words {
			if !strings.Contains(line, w) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return "", 0, fmt.Errorf("testbed: wait for %q in the log of %s: %w", words, p.Name, err)
	}
	return line, next, nil
}

// LogLength returns the position of the next line of the log.
func (p *Phone) LogLength() int { return p.proc.log.length() }

// Disk returns the file that is the disk of a phone in a virtual machine.
func (p *Phone) Disk() string { return filepath.Join(p.dir, "disk.img") }

// Signal sends a signal to the phone's program in a virtual machine.
func (p *Phone) Signal(s syscall.Signal) error {
	_, err := p.trouble(serial.Request{Do: serial.Signal, Number: int(s)})
	return err
}

// Save writes the settings of a phone in a virtual machine; again: for ever,
// since it is a power cut that is to meet it.
func (p *Phone) Save(settings string, again bool) error {
	_, err := p.trouble(serial.Request{Do: serial.Save, Settings: settings, Again: again})
	return err
}

// PressOddly presses keys of a phone in a virtual machine whose agent moves them:
// how is serial.Bouncing, Long or Together, or empty: as always. It returns how well it
// could, by the machine's clock: worse where the machine stood still meanwhile.
func (p *Phone) PressOddly(how, keys string) (serial.Pressed, error) {
	reply, err := p.trouble(serial.Request{Do: serial.Press, Keys: keys, How: how})
	return reply.Pressed, err
}

func (p *Phone) trouble(r serial.Request) (serial.Reply, error) {
	g, ok := p.machine.(*guest)
	if !ok {
		return serial.Reply{}, fmt.Errorf("testbed: %s of %s: it is no virtual machine", r.Do, p.Name)
	}
	return g.ask(r)
}

// BootAsFlashed switches a virtual machine on with nothing beside its image, no
// agent either, and returns the line in which the phone says how long it took
// from power-on to registered, and the same as QEMU's process sees it. Then it
// cuts its power.
func (p *Phone) BootAsFlashed(ctx context.Context) (line string, took time.Duration, err error) {
	g, ok := p.machine.(*guest)
	if !ok {
		return "", 0, fmt.Errorf("testbed: boot %s: it is no virtual machine", p.Name)
	}
	args, err := g.arguments()
	if err != nil {
		return "", 0, err
	}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-S":
			args = append(args[:i], args[i+1:]...)
			i--
		case args[i] == "-initrd" && g.board.ownInitrd:
			args[i+1] = filepath.Join(g.image, "initrd")
		case args[i] == "-initrd":
			args = append(args[:i], args[i+2:]...)
			i--
		}
	}
	path, err := exec.LookPath(g.board.qemu)
	if err != nil {
		return "", 0, fmt.Errorf("testbed: boot %s: %w", p.Name, err)
	}
	start := time.Now()
	if p.proc, err = p.host.run(p.dir, command{name: p.Name, path: path, args: args}); err != nil {
		return "", 0, err
	}
	defer p.proc.kill()
	line, _, err = p.AwaitLog(ctx, 0, "from power-on")
	return line, time.Since(start), err
}
