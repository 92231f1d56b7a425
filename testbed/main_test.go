package testbed

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"flexphone/testbed/natsnode"
)

// TestMain runs all tests inside one enclosure, where it may also be a node of NATS.
func TestMain(m *testing.M) {
	natsnode.RunIfAsked()
	code, done, err := Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	// Tests that compute do not keep the datagrams waiting that the NATs and wires of
	// others pass on in this program: threads are shared among better than goroutines.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 16))
	code = m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// limit is how long a test may take before it is given up. Nothing here is
// timed against it; it only keeps a broken phone from being waited for for ever.
const limit = 30 * time.Minute

// board is what the phones are: the environment says it (FLEXPHONE_BOARD=qemu-virt).
func board() string { return cmp.Or(os.Getenv("FLEXPHONE_BOARD"), hostBoard) }

// boardOf is what the phone of that number is. Two of QEMU's i.MX6UL are more than two
// real processors can play with sound: there 102, whose address moves, is one, and the
// others are programs, which call it and are called by it.
func boardOf(number int) string {
	if board() == "imx6ul-evk" && number != 102 {
		return hostBoard
	}
	return board()
}

// town is an Internet with n phones that have the numbers 101, 102, …, all
// plugged in, in standby. Each speaks its own words. On the host it is the
// test's own, so that tests run beside each other; virtual machines are shared.
func town(t testing.TB, c Config, n int) (context.Context, *Bed, []*Phone) {
	t.Helper()
	if board() != hostBoard {
		return shared.borrow(t, c, n)
	}
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	return townAlone(t, c, n)
}

// townAlone is town on the host, of a test that takes all of the machine: no other of this
// package runs beside it.
func townAlone(t testing.TB, c Config, n int) (context.Context, *Bed, []*Phone) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	bed := newTown(ctx, t, c)
	phones := make([]*Phone, n)
	for i := range phones {
		phones[i] = addPhone(ctx, t, bed, 101+i)
	}
	return ctx, bed, phones
}

// ownTown is a town without phones that is the test's own on every board.
func ownTown(t testing.TB, c Config) (context.Context, *Bed) {
	t.Helper()
	if board() == hostBoard {
		ctx, bed, _ := town(t, c, 0)
		return ctx, bed
	}
	ctx := shared.reserve(t)
	return ctx, newTown(ctx, t, c)
}

// newTown builds a town without phones, which ends with the test.
func newTown(ctx context.Context, t testing.TB, c Config) *Bed {
	t.Helper()
	c.Board = board()
	bed, err := New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demolish(t, bed) })
	return bed
}

// demolish closes a town and tells of what its logs should not hold.
func demolish(t testing.TB, bed *Bed) {
	logs := readLogs(bed)
	if err := bed.Close(); err != nil {
		t.Error(err)
	}
	complain(t, logs)
}

// complain tells of programs that broke, and after a failure of all of them.
func complain(t testing.TB, logs map[string]string) {
	for name, log := range logs {
		if strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") || t.Failed() {
			t.Errorf("end of the log of %s:\n%s", name, log[max(0, len(log)-6000):])
		}
	}
}

// words are what the phones speak, one after the other.
var words = []string{"cards/001", "cards/003", "cards/004"}

// addPhone builds the phone with that short number and waits until it is in
// standby.
func addPhone(ctx context.Context, t testing.TB, bed *Bed, number int) *Phone {
	t.Helper()
	p, err := bed.AddPhone(ctx, PhoneConfig{
		Name:   fmt.Sprintf("phone-%d", number),
		Board:  boardOf(number),
		MAC:    MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
		Speech: speak(t, words[(number-101)%len(words)]),
	})
	if err != nil {
		t.Fatal(err)
	}
	must(t, p.PowerOn(ctx))
	must(t, p.Plug())
	await(ctx, t, p, "registered")
	must(t, bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
	return p
}

func readLogs(b *Bed) map[string]string {
	logs := map[string]string{}
	for _, path := range b.Logs() {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			logs[filepath.Base(path)] = string(text)
		}
	}
	return logs
}

func speak(t testing.TB, name string) []int16 {
	t.Helper()
	s, err := Speech(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(ctx context.Context, t testing.TB, p *Phone, name string, fields ...string) Event {
	t.Helper()
	e, err := p.Await(ctx, name, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// dial lifts p's handset and dials number.
func dial(ctx context.Context, t testing.TB, p *Phone, number string) {
	t.Helper()
	if _, err := p.Dial(ctx, number); err != nil {
		t.Fatal(err)
	}
}

// hearEachOther checks that both ends of a call hear what the other end says.
func hearEachOther(ctx context.Context, t testing.TB, a, b *Phone) {
	t.Helper()
	atA, atB, err := HearEachOther(ctx, a, b)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, a.Name, atA)
	judge(t, b.Name, atB)
}

// hearEachOtherAgain is hearEachOther once what disturbed a call is over: sound that was late
// is played for a while yet, and what brings it back to its pace is heard.
func hearEachOtherAgain(ctx context.Context, t testing.TB, a, b *Phone) {
	t.Helper()
	for range againMost {
		atA, atB, err := HearEachOther(ctx, a, b)
		must(t, err)
		t.Logf("%s hears: %s; %s hears: %s", a.Name, atA, b.Name, atB)
		if atA.Enough() && atB.Enough() {
			return
		}
	}
	hearEachOther(ctx, t, a, b)
}

// againMost is how often both ends of a call may hear too little of each other after what
// disturbed it. Each time takes as long as a speech.
const againMost = 3

// judge fails the test if too little was heard. What the machine was too slow for
// is named as not run.
func judge(t testing.TB, who string, heard Heard) {
	t.Helper()
	switch {
	case heard.Enough():
		t.Logf("%s hears: %s", who, heard)
	case heard.Judged():
		t.Errorf("%s hears: %s; want %.0f %%; %s", who, heard, 100*heard.Wanted, heard.Pace)
	default:
		why := fmt.Sprintf("this machine is too slow for sound: %s; %s hears: %s", heard.Pace, who, heard)
		if t, ok := t.(*testing.T); ok {
			t.Run("what "+who+" hears", func(t *testing.T) { t.Skip(why) })
			return
		}
		t.Log(why) // a benchmark
	}
}
