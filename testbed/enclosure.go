package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The environment variable by which Enclose speaks to the copy inside.
const (
	enclosureDir   = "FLEXPHONE_TESTBED_DIR"     // its files; only the copy inside has it
	enclosureFiles = "FLEXPHONE_TESTBED_CARRIED" // how many files it was given
)

// Inside reports whether the program runs in its enclosure already.
func Inside() bool { return os.Getenv(enclosureDir) != "" }

// firstCarried is the descriptor of the first file that was carried in (os/exec).
const firstCarried = 3

// Carried returns the files that Enclose was given outside. It is called once, before
// another program is started.
func Carried() (files []*os.File) {
	n, _ := strconv.Atoi(os.Getenv(enclosureFiles)) // not set: none
	for i := range n {
		unix.CloseOnExec(firstCarried + i) // they are for nobody else
		files = append(files, os.NewFile(uintptr(firstCarried+i), "carried"))
	}
	return files
}

// Enclose moves the program into an enclosure of its own. It is the first call
// of main, or of TestMain.
//
// Outside, it runs the program once more, with the same arguments, as the first
// process of fresh user, process, mount and network namespaces, waits for it,
// removes its files, and returns its exit code and done = true: the caller has
// nothing to do but to exit with that code. Inside, it returns done = false.
//
// An error says that this machine forbids namespaces, and what would allow
// them.
//
// What is carried, files of the machine outside, is inside what Carried returns.
func Enclose(carried ...*os.File) (code int, done bool, err error) {
	return enclose(spacesOf(os.Getuid()), carried)
}

// EnclosePrompt is Enclose for who measures how late sound is. In a user namespace the
// kernel gives nobody SCHED_RR (sched(7)), which our programs ask for and phones have:
// root does without such a namespace where it can.
func EnclosePrompt() (code int, done bool, err error) {
	spaces := spacesOf(os.Getuid())
	slices.Reverse(spaces)
	return enclose(spaces, nil)
}

func enclose(spaces []syscall.SysProcAttr, carried []*os.File) (code int, done bool, err error) {
	if os.Getenv(enclosureDir) != "" {
		return 0, false, settleIn()
	}
	// The enclosure is told to die with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	dir, err := os.MkdirTemp("", "flexphone-")
	if err != nil {
		return 0, false, fmt.Errorf("testbed: make enclosure: %w", err)
	}
	defer os.RemoveAll(dir)

	// Whatever else is done on the machine can wait, the sound of a call cannot.
	// Linux shares processors among sessions (sched(7), autogroup), and in each by
	// the niceness of threads, which children inherit. Only root may go first;
	// everybody else does without.
	const thisThread, first = 0, -10
	_ = unix.Setpriority(unix.PRIO_PROCESS, thisThread, first)
	cmd, err := startEnclosed(dir, spaces, carried)
	if err != nil {
		return 0, false, err
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte(strconv.Itoa(first)), 0)
	stop := forwardSignals(cmd.Process)
	err = cmd.Wait()
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true, nil
	case !errors.As(err, &exit):
		return 0, false, fmt.Errorf("testbed: wait for enclosure: %w", err)
	case exit.ExitCode() >= 0:
		return exit.ExitCode(), true, nil
	}
	return 128 + int(exit.Sys().(syscall.WaitStatus).Signal()), true, nil
}

// spacesOf returns the namespaces that a user may try to make, preferred first. Where
// user namespaces are forbidden, root does without one.
func spacesOf(uid int) []syscall.SysProcAttr {
	const spaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET
	attempts := []syscall.SysProcAttr{{
		Cloneflags:  spaces | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}}
	if uid == 0 {
		attempts = append(attempts, syscall.SysProcAttr{Cloneflags: spaces})
	}
	return attempts
}

// startEnclosed runs the program again inside new namespaces, the first that can be made,
// in a session of its own.
func startEnclosed(dir string, attempts []syscall.SysProcAttr, carried []*os.File) (*exec.Cmd, error) {
	var problems []error
	for _, attr := range attempts {
		attr.Pdeathsig = syscall.SIGKILL
		attr.Setsid = true
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), enclosureDir+"="+dir, fmt.Sprintf("%s=%d", enclosureFiles, len(carried)))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.ExtraFiles = carried
		cmd.SysProcAttr = &attr
		err := cmd.Start()
		if err == nil {
			return cmd, nil
		}
		problems = append(problems, err)
	}
	return nil, fmt.Errorf("testbed: make namespaces: %w (as an ordinary user this needs "+
		"`sysctl kernel.unprivileged_userns_clone=1` and user.max_user_namespaces > 0; or run as root)", errors.Join(problems...))
}

// forwardSignals passes the signals that end a program on to p, a terminal's Ctrl-C
// among them: p has a session of its own, and no terminal.
func forwardSignals(p *os.Process) (stop func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case s := <-signals:
				p.Signal(s)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-finished
	}
}

// settleIn makes the new namespaces fit to live in.
func settleIn() error {
	// What is mounted here shall not be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("testbed: make mounts private: %w", err)
	}
	// A /proc of our own lists our own processes and lets us set our own
	// kernel's network switches. Some containers forbid it, and theirs serves
	// as long as /proc/sys may be written.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("testbed: mount /proc: %w", err)
	}
	// All JACK servers and their clients meet in /dev/shm, and clean up after those whose
	// process they do not find: that of one in another PID namespace they never do. Where
	// there is no such folder nobody meets.
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("testbed: mount /dev/shm: %w", err)
	}
	// Phones write name servers to /etc/resolv.conf: each to its own (see
	// host.start), and none can ever write to this machine's.
	if err := readOnly("/etc"); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", os.Getenv(enclosureDir))
}

// readOnly makes a folder read-only, here and not outside.
func readOnly(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("testbed: protect %s: %w", dir, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("testbed: protect %s: %w", dir, err)
	}
	// The flags of the mount below may not be dropped in a user namespace. ST_
	// and MS_ are the same for these.
	kept := uintptr(fs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if fs.Flags&unix.ST_RELATIME != 0 {
		kept |= unix.MS_RELATIME
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|kept, ""); err != nil {
		return fmt.Errorf("testbed: protect %s: %w", dir, err)
	}
	return nil
}

// inside says where a bed keeps its files, and fails outside of an enclosure.
func inside() (string, error) {
	dir := os.Getenv(enclosureDir)
	if dir == "" {
		return "", errors.New("testbed: not in an enclosure: main or TestMain must call Enclose first")
	}
	return dir, nil
}

// findBinary returns the path of one of our programs, which the Makefile builds
// into build/host of the nearest folder above that has a go.mod. An environment
// variable such as FLEXPHONE_BINARIES names another folder.
func findBinary(name string) (string, error) {
	dir := os.Getenv("FLEXPHONE_BINARIES")
	if dir == "" {
		root, err := moduleRoot()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, "build", "host")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("testbed: find program: %w (run `make build` first)", err)
	}
	return path, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("testbed: find module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("testbed: find module: no go.mod in this folder or above")
		}
		dir = parent
	}
}
