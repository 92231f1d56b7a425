package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long a program is given to end when it is asked to, before
// it is killed: nothing is timed against it, it finds programs that hang.
const patience = 2 * time.Minute

// A process is a program that runs on a host. Each line that it prints, to
// whichever of its two outputs, is in its journal and in its log file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *journal[string]
	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed
}

// A command is what to run.
type command struct {
	name   string // of the process, in messages and of its log file
	path   string
	args   []string
	env    []string  // beside the environment
	stdin  io.Reader // nil: nothing
	stdout io.Writer // nil: goes to the log
}

// run starts a program on h. Its log is name.log in dir.
func (h *host) run(dir string, c command) (*process, error) {
	file, err := os.OpenFile(filepath.Join(dir, c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("testbed: start %s: %w", c.name, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("testbed: start %s: %w", c.name, err)
	}
	p := &process{name: c.name, log: newJournal[string](), done: make(chan struct{})}
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.stdin, c.stdout, w
	if c.stdout == nil {
		p.cmd.Stdout = w
	}
	// A terminal's Ctrl-C is for the testbed, which ends its programs in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = h.start(p.cmd)
	w.Close()
	if err != nil {
		r.Close()
		file.Close()
		return nil, fmt.Errorf("testbed: start %s: %w", c.name, err)
	}
	go func() {
		defer close(p.done)
		defer file.Close()
		defer r.Close()
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(file, lines.Text())
			p.log.add(lines.Text())
		}
		p.err = p.cmd.Wait()
		p.log.finish(fmt.Errorf("testbed: %s has ended: %s", c.name, p.cmd.ProcessState))
	}()
	return p, nil
}

// await waits for a line of its log from position from on.
func (p *process) await(ctx context.Context, from int, match func(line string) bool) (line string, next int, err error) {
	return p.log.await(ctx, from, match)
}

// running reports whether it has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop asks it to end, and kills it when it does not. It returns once it is
// gone, with an error if it had to be killed.
func (p *process) stop() error {
	if !p.running() {
		return nil
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-late.C:
		p.kill()
		return fmt.Errorf("testbed: stop %s: did not end within %s, killed", p.name, patience)
	}
}

// kill ends it with SIGKILL, as a power cut would, and waits until it is gone.
func (p *process) kill() {
	if p.running() {
		p.cmd.Process.Kill()
		<-p.done
	}
}
