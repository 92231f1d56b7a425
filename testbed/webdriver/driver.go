package webdriver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// ErrNone: this machine has no Chromium, or nothing that drives it (Debian's packages
// chromium and chromium-driver).
var ErrNone = errors.New("webdriver: no chromium and chromium-driver")

// Find returns the path of what drives Chromium. The error is ErrNone where there is none.
func Find() (path string, err error) {
	if path, err = exec.LookPath("chromedriver"); err != nil {
		return "", ErrNone
	}
	return path, nil
}

var listening = regexp.MustCompile(`started successfully on port (\d+)`)

// Listening returns where a chromedriver is reached that has printed line; ok is false when
// that does not say it.
func Listening(line string) (url string, ok bool) {
	m := listening.FindStringSubmatch(line)
	if m == nil {
		return "", false
	}
	return "http://127.0.0.1:" + m[1], true
}

// A Driver is a chromedriver, a process of its own.
type Driver struct {
	URL  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start starts one on this machine, with its files in dir. Whoever calls it calls Stop.
func Start(dir string) (*Driver, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "driver")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("webdriver: start: %w", err)
	}
	d := &Driver{cmd: exec.Command(path, "--port=0"), done: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), "HOME="+home)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("webdriver: start: %w", err)
	}
	d.cmd.Stdout = w
	started := make(chan error)
	go func() {
		defer close(d.done)
		// It dies with the thread that has started it (prctl(2), PR_SET_PDEATHSIG), so that
		// stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			_ = d.cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		out.Close()
		return nil, fmt.Errorf("webdriver: start: %w", err)
	}
	late := time.AfterFunc(commandMost, func() { _ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) }) // then it says nothing more
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url, ok := Listening(lines.Text()); ok {
			d.URL = url
			go func() { // until it ends
				defer out.Close()
				_, _ = io.Copy(io.Discard, out)
			}()
			return d, nil
		}
	}
	d.Stop()
	out.Close()
	return nil, errors.New("webdriver: start: chromedriver says no port")
}

// Stop ends it, and whatever it has started.
func (d *Driver) Stop() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
}
