package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const insideVar = "FLEXPHONE_LAB"

// Inside reports whether this process was started by Command.
func Inside() bool { return os.Getenv(insideVar) != "" }

// Command prepares this program to be run again, with these arguments, in user,
// network and mount namespaces of its own.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	// The race detector waits a second before it lets a process end.
	cmd.Env = append(os.Environ(), insideVar+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}

// A Namespace is a network namespace.
type Namespace struct{ file *os.File }

// newNamespace makes a network namespace with its loopback interface up.
func newNamespace() (*Namespace, error) {
	var ns Namespace
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: make namespace: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("lab: make namespace: %w", err)
		}
		ns.file = f
		return setUp("lo")
	})
	return &ns, err
}

// Do runs f on a thread in the namespace, and waits for it: sockets that f
// opens and programs that it starts stay there.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: enter namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: it is of no use to others
		done <- f()
	}()
	return <-done
}

// A Process is a program that runs until it is stopped.
type Process struct {
	Began time.Time // when the program was started, in a place that was ready for it

	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd in the namespace, with its state in dir. It does not outlive
// this process.
func (n *Namespace) Start(cmd *exec.Cmd, dir string) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	// A group of its own, so that its helpers end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		// The thread must live as long as the program, see prctl(2).
		err := n.Do(func() error {
			if err := furnish(dir); err != nil {
				return err
			}
			p.Began = time.Now()
			if err := cmd.Start(); err != nil {
				return err
			}
			started <- nil
			p.err = cmd.Wait()
			close(p.done)
			return nil
		})
		if err != nil {
			started <- fmt.Errorf("lab: start %s: %w", filepath.Base(cmd.Path), err)
		}
	}()
	return p, <-started
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends sig to the program alone.
func (p *Process) Signal(sig unix.Signal) error {
	if err := unix.Kill(p.cmd.Process.Pid, sig); err != nil {
		return fmt.Errorf("lab: signal %s: %w", filepath.Base(p.cmd.Path), err)
	}
	return nil
}

// Kill ends the program and its helpers at once.
func (p *Process) Kill() {
	// An error means that it has ended.
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	<-p.done
}

// Run runs a program in the namespace to its end.
func (n *Namespace) Run(name string, args ...string) error {
	return n.Do(func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("lab: run %s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
}

// furnish gives the calling thread, and what it starts, folders of their own in
// the places where programs keep their state, and hides the users that they
// would give their privileges up for: there is one user only.
func furnish(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("lab: furnish: make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("lab: furnish: make mounts private: %w", err)
	}
	for _, path := range []string{"/run", "/var/lib/dhcpcd", "/var/lib/dhcp", "/var/lib/kea"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("lab: furnish: mount %s: %w", path, err)
		}
	}
	return furnishEtc(dir)
}

// furnishEtc lays a folder over /etc that shows what is there, and has files of
// its own in the place of those that programs write, or that name other users. What
// is written there stays there.
func furnishEtc(dir string) error {
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return fmt.Errorf("lab: furnish: %w", err)
	}
	var kept []string
	for _, line := range strings.SplitAfter(string(users), "\n") {
		switch {
		case strings.HasPrefix(line, "dhcpcd:"):
		case strings.HasPrefix(line, "systemd-network:"): // it will not do without
			kept = append(kept, "systemd-network:x:0:0::/:/bin/false\n")
		default:
			kept = append(kept, line)
		}
	}
	own := map[string]string{"passwd": strings.Join(kept, ""), "resolv.conf": "", "hosts": "127.0.0.1 localhost\n"}
	below := filepath.Join(dir, "etc")
	if err := os.MkdirAll(below, 0o755); err != nil {
		return fmt.Errorf("lab: furnish: %w", err)
	}
	if err := unix.Mount("/etc", below, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("lab: furnish: keep /etc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("lab: furnish: mount /etc: %w", err)
	}
	list, err := os.ReadDir(below)
	if err != nil {
		return fmt.Errorf("lab: furnish: %w", err)
	}
	for _, e := range list {
		if _, is := own[e.Name()]; !is {
			err = errors.Join(err, os.Symlink(filepath.Join(below, e.Name()), filepath.Join("/etc", e.Name())))
		}
	}
	for name, text := range own {
		err = errors.Join(err, os.WriteFile(filepath.Join("/etc", name), []byte(text), 0o644))
	}
	if err != nil {
		return fmt.Errorf("lab: furnish /etc: %w", err)
	}
	return nil
}

func (n *Namespace) close() error { return n.file.Close() }

// IsForbidden reports whether err says that this kernel, or who set it up,
// forbids user namespaces.
func IsForbidden(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC)
}
