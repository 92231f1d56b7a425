package portaudio

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// enclosed tells a test program that it has a /dev/shm of its own.
const enclosed = "FLEXPHONE_TEST_ENCLOSED"

// TestMain runs the tests with a /dev/shm of their own, where that is allowed. All of
// a machine's JACK servers and their clients meet there, and clean up after those
// whose process they do not find, as is that of a test in another PID namespace: its
// memory is taken away under its feet.
func TestMain(m *testing.M) {
	if os.Getenv(enclosed) != "" {
		if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "portaudio: tests share /dev/shm with others:", err)
		}
		os.Exit(m.Run())
	}
	alone := exec.Command(os.Args[0], os.Args[1:]...)
	alone.Env = append(os.Environ(), enclosed+"=yes")
	alone.Stdin, alone.Stdout, alone.Stderr = os.Stdin, os.Stdout, os.Stderr
	alone.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err := alone.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	case alone.Process == nil: // no namespaces for us here
		os.Exit(m.Run())
	case err != nil:
		fmt.Fprintln(os.Stderr, "portaudio: tests:", err)
		os.Exit(1)
	}
}
