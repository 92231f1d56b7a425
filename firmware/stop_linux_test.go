package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inside says to this program that it runs in namespaces of its own, and asPhone
	// with which settings it is to be the phone.
	inside, asPhone = "FLEXPHONE_TEST_INSIDE", "FLEXPHONE_TEST_PHONE"
	// stops is how often a phone is stopped, and stopBound how long that may take:
	// that of a call, of the row's release, and of a device that hangs.
	stops     = 20
	stopBound = stopMost + 5*time.Second
)

// stopMost is what a phone grants its parts at its end.
const stopMost = 5*time.Second + releaseWait

// A phone that is told to stop while its sound server dies ends, whichever comes first
// and however soon after it the other does.
func TestStoppedWhileTheSoundServerDies(t *testing.T) {
	if path := os.Getenv(asPhone); path != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(execute(ctx, []string{"run", "--verbose", "--config", path}, os.Stdout, os.Stderr))
	}
	for _, tool := range []string{"jackd", "jack_wait"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no virtual sound card here: install jackd2 (%v)", err)
		}
	}
	if os.Getenv(inside) == "" {
		enclosed(t)
		return
	}
	// All JACK servers of a machine meet there.
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	var longest time.Duration
	for i := range stops {
		longest = max(longest, stopped(t, i))
	}
	t.Logf("the longest of %d stops took %v", stops, longest.Round(time.Millisecond))
}

// enclosed runs the test in namespaces of its own.
func enclosed(t *testing.T) {
	again := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), inside+"=yes")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := again.CombinedOutput()
	switch {
	case again.Process == nil:
		t.Skipf("no namespaces here: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

// stopped is how long a phone took to end whose sound server was killed.
func stopped(t *testing.T, round int) time.Duration {
	t.Helper()
	server := startSoundServer(t)
	dir := t.TempDir()
	settings, control := filepath.Join(dir, "phone.toml"), filepath.Join(dir, "ctl")
	if err := os.WriteFile(settings, fmt.Appendf(nil, "board = \"host\"\ninterface = \"lo\"\nstoring_server = \"192.0.2.1\"\ndata = %q\ncontrol = %q\n[audio]\ncapture = \"JACK\"\nplayback = \"JACK\"\n", dir, control), 0o600); err != nil {
		t.Fatal(err)
	}
	phone := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	phone.Env = append(os.Environ(), asPhone+"="+settings)
	phone.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := phone.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	opened, read := make(chan struct{}), make(chan struct{})
	var once sync.Once // it may be opened again
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if strings.Contains(lines.Text(), "sound card open") {
				once.Do(func() { close(opened) })
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		var out bytes.Buffer
		if execute(ctx, []string{"ctl", "--control", control, "hook", "off"}, &out, &out) == exitDone {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the phone does not answer: %s", out.String())
		}
	}
	select {
	case <-opened:
	case <-ctx.Done():
		phone.Process.Kill()
		<-read
		t.Fatalf("no card was opened:\n%s", log.String())
	}
	began := time.Now()
	if round%3 == 2 { // it stands still first
		if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	apart := time.Duration(round/2) * time.Duration(round/2) * time.Millisecond // to 81 ms
	acts := []func() error{server.Process.Kill, func() error { return phone.Process.Signal(syscall.SIGTERM) }}
	for _, i := range []int{round % 2, 1 - round%2} {
		if err := acts[i](); err != nil {
			t.Fatal(err)
		}
		time.Sleep(apart)
	}
	hangs := time.AfterFunc(stopBound, func() { phone.Process.Signal(syscall.SIGQUIT) }) // for the stacks
	<-read
	err = phone.Wait()
	took := time.Since(began)
	if !hangs.Stop() || err != nil {
		t.Fatalf("round %d: the phone ended after %v: %v\n%s", round, took, err, log.String())
	}
	server.Wait()
	return took
}

// startSoundServer starts a JACK server whose card is a clock.
func startSoundServer(t *testing.T) *exec.Cmd {
	t.Helper()
	name := fmt.Sprintf("flexphone-stop-%d", os.Getpid())
	for key, value := range map[string]string{"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1", "JACK_NO_AUDIO_RESERVATION": "1"} {
		t.Setenv(key, value)
	}
	server := exec.Command("jackd", "--no-realtime", "--name", name, "-d", "dummy", "-r", "48000", "-p", "240")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Kill(); err == nil || !errors.Is(err, os.ErrProcessDone) {
			server.Wait()
		}
	})
	if b, err := exec.Command("jack_wait", "-s", name, "-w", "-t", "10").CombinedOutput(); err != nil {
		t.Skipf("jackd does not run here: %v\n%s", err, b)
	}
	return server
}
