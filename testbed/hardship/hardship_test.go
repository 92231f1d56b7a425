// Package hardship tries the image that is flashed, in a virtual machine: power
// cuts, hangs, crashes, and parts that are missing or spoiled.
package hardship

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flexphone/testbed"
)

// board is the board whose image, made before, is tried.
func board() string { return os.Getenv("FLEXPHONE_BOARD") }

func TestMain(m *testing.M) {
	if board() == "" {
		fmt.Println("not run: FLEXPHONE_BOARD names no board whose image is to be tried (make hardship-test)")
		return
	}
	code, done, err := testbed.Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// limit is how long a test may take before it is given up.
const limit = 30 * time.Minute

// A street has one phone, and the Internet that it needs.
type street struct {
	bed *testbed.Bed
	*testbed.Phone
}

// move makes a street whose phone is switched off.
func move(t *testing.T, g testbed.GuestConfig) (context.Context, street) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	bed, err := testbed.New(ctx, testbed.Config{Board: board()})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, path := range bed.Logs() {
				if text, err := os.ReadFile(path); err == nil {
					t.Logf("end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-6000):])
				}
			}
		}
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	silence := make([]int16, 1600)
	p, err := bed.AddPhone(ctx, testbed.PhoneConfig{
		Name: "phone", MAC: testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 1}, Speech: silence, Guest: g,
	})
	must(t, err)
	must(t, p.Plug())
	return ctx, street{bed, p}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// standby waits until the phone is in standby with that number, and returns its
// row. The storing server gives a MAC to the key that had it first: a phone that
// is registered has its key.
func (s street) standby(ctx context.Context, t *testing.T, number string) testbed.Row {
	t.Helper()
	e, err := s.Await(ctx, "registered")
	must(t, err)
	if got := e.Field("number"); number != "" && got != number {
		t.Errorf("registered with number %s; want %s", got, number)
	}
	look := time.NewTicker(100 * time.Millisecond) // call control is told an instant later
	defer look.Stop()
	for {
		status, err := s.Status(ctx)
		if err == nil && status.State == "standby" && status.Registered {
			break
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("not in standby: %+v, %v", status, err)
		}
	}
	row, err := s.bed.Server.Row(ctx, s.MAC)
	must(t, err)
	return row
}

// enrol gives the phone its key and its number.
func (s street) enrol(ctx context.Context, t *testing.T) testbed.Row {
	t.Helper()
	must(t, s.PowerOn(ctx))
	s.standby(ctx, t, "")
	must(t, s.bed.Server.SetNumber(ctx, s.MAC, "101"))
	row, err := s.bed.Server.Row(ctx, s.MAC)
	must(t, err)
	return row
}

// copyData copies the data partition of a phone that is off into a file, and
// returns where it is on the disk.
func copyData(t *testing.T, disk *os.File) (path string, place int64) {
	t.Helper()
	var entry [16]byte // the third of the table
	if _, err := disk.ReadAt(entry[:], 446+2*16); err != nil {
		t.Fatal(err)
	}
	const sector = 512
	place = int64(binary.LittleEndian.Uint32(entry[8:])) * sector
	size := int64(binary.LittleEndian.Uint32(entry[12:])) * sector
	content := make([]byte, size)
	if _, err := disk.ReadAt(content, place); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "data.ext4")
	must(t, os.WriteFile(path, content, 0o600))
	return path, place
}

// partition has f work on the data partition of a phone that is off, in a file of
// its own, after it was mended as the next start would: tools that write to a
// file system look at no journal.
func (s street) partition(t *testing.T, f func(path string)) {
	t.Helper()
	disk, err := os.OpenFile(s.Disk(), os.O_RDWR, 0)
	must(t, err)
	defer disk.Close()
	path, place := copyData(t, disk)
	const mended = 1 // exit code
	var exit *exec.ExitError
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fy", path).CombinedOutput()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > mended) {
		t.Fatalf("e2fsck: %v: %s", err, out)
	}
	f(path)
	content, err := os.ReadFile(path)
	must(t, err)
	if _, err := disk.WriteAt(content, place); err != nil {
		t.Fatal(err)
	}
}

// put writes a file onto the data partition of a phone that is off, as much of it
// as there is room for, and returns what the tool says.
func (s street) put(t *testing.T, name, content string) (out string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(from, []byte(content), 0o600))
	s.partition(t, func(path string) {
		b, err := exec.CommandContext(t.Context(), "debugfs", "-w", "-R", "write "+from+" "+name, path).CombinedOutput()
		must(t, err)
		out = string(b)
	})
	return out
}

// shows waits until the console shows the words, as the display does.
func (s street) shows(ctx context.Context, t *testing.T, words ...string) {
	t.Helper()
	line, _, err := s.AwaitLog(ctx, 0, words...)
	must(t, err)
	t.Logf("console: %s", strings.TrimSpace(line))
}

// TestPowerOff: a phone that is switched off in order gives its row and its address
// back, leaves a file system that needs no recovery, and has met no error.
func TestPowerOff(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	s.enrol(ctx, t)
	must(t, s.PowerOff())
	row, err := s.bed.Server.Row(ctx, s.MAC)
	must(t, err)
	if row.State != "offline" {
		t.Errorf("after it was switched off the row says %q; want offline", row.State)
	}
	must(t, s.bed.ISP.AwaitRelease(ctx, s.MAC))
	for _, path := range s.bed.Logs() {
		log, err := os.ReadFile(path)
		must(t, err)
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "level=ERROR") {
				t.Errorf("%s: %s", filepath.Base(path), line)
			}
		}
	}
	disk, err := os.Open(s.Disk())
	must(t, err)
	defer disk.Close()
	path, _ := copyData(t, disk)
	out, err := exec.CommandContext(ctx, "dumpe2fs", "-h", path).CombinedOutput()
	must(t, err)
	if text := string(out); strings.Contains(text, "needs_recovery") || !strings.Contains(text, "Filesystem state:         clean") {
		t.Errorf("the data partition was not unmounted:\n%s", text)
	}
}

// TestHungProgram: a program that does not move lets the hardware reset the
// machine, and the phone comes back.
func TestHungProgram(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{Resets: true})
	s.enrol(ctx, t)
	_, next, err := s.AwaitLog(ctx, 0, "from power-on")
	must(t, err)
	from := time.Now()
	must(t, s.Signal(syscall.SIGSTOP))
	line, _, err := s.AwaitLog(ctx, next, "from power-on")
	must(t, err)
	t.Logf("registered again %v after the program stopped moving: %s", time.Since(from).Round(100*time.Millisecond), line)
}

// TestCrashedProgram: init starts a program that died again, and its last words
// are kept.
func TestCrashedProgram(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	s.enrol(ctx, t)
	from, at := s.LogLength(), time.Now()
	must(t, s.Signal(syscall.SIGABRT))
	_, next, err := s.AwaitLog(ctx, from, "starting again")
	must(t, err)
	line, _, err := s.AwaitLog(ctx, next, "the phone had crashed")
	must(t, err)
	_, _, err = s.AwaitLog(ctx, next, "from power-on") // which may have come first; what it did since is on the disk
	must(t, err)
	t.Logf("started again %v after it died: %s", time.Since(at).Round(10*time.Millisecond), line)
	s.PowerCut()
	s.partition(t, func(path string) {
		for name, want := range map[string]string{"died/1": "exit status", "crash.last": "goroutine"} {
			out, err := exec.CommandContext(ctx, "debugfs", "-R", "cat "+name, path).Output()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("/data/%s = %.300q, %v; want it to hold %q", name, out, err, want)
			}
		}
	})
}

// TestFullDataPartition: the phone has its key and number, and says what is wrong.
func TestFullDataPartition(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	before := s.enrol(ctx, t)
	s.PowerCut()
	if out := s.put(t, "heap", strings.Repeat("x", 80<<20)); !strings.Contains(out, "Could not allocate") {
		t.Fatalf("the partition is not full: %s", out)
	}
	s.Mark()
	must(t, s.PowerOn(ctx))
	row := s.standby(ctx, t, "101")
	if row.Sequence <= before.Sequence {
		t.Errorf("the row is %+v; it was %+v", row, before)
	}
	s.shows(ctx, t, "msg=", "data partition is full")
	s.shows(ctx, t, "broken: data")
}

// TestSpoiledSettings: the phone starts with those of the factory, and says so.
func TestSpoiledSettings(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	s.put(t, "flexphone.toml", "data = \x00\xff {{{")
	must(t, s.PowerOn(ctx))
	s.standby(ctx, t, "")
	s.shows(ctx, t, "msg=", "part=settings")
	s.shows(ctx, t, "broken: settings")
}

// TestNoSoundCard: the driver of the card may not be loaded.
func TestNoSoundCard(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{Append: "module_blacklist=snd_aloop"})
	must(t, s.PowerOn(ctx))
	s.standby(ctx, t, "")
	s.shows(ctx, t, "msg=", "part=sound")
	s.shows(ctx, t, "broken: sound")
}

// TestNoKeypad: the driver of the keys is not there. The hook switch is on the
// same.
func TestNoKeypad(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{Append: "initcall_blacklist=gpio_keys_init"})
	must(t, s.PowerOn(ctx))
	s.standby(ctx, t, "")
	s.shows(ctx, t, "msg=", "part=keypad")
	s.shows(ctx, t, "broken: ")
}

// TestBootTimes prints how long it takes from power-on to registered, with
// nothing beside the image.
func TestBootTimes(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	for _, how := range []string{"first start, makes its key", "second start", "third start"} {
		line, took, err := s.BootAsFlashed(ctx)
		must(t, err)
		_, chain, _ := strings.Cut(line, "from power-on")
		t.Logf("%s: %s (from QEMU's start: %.2f s)", how, strings.Trim(chain, "\" "), took.Seconds())
	}
}
