package realtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inside tells a test program that it may be changed, and how.
const inside = "FLEXPHONE_TEST_REALTIME"

// alone runs a test again in a process of its own, whose threads end with it; false: this
// is that process. A test is passed over where the kernel grants no priority.
func alone(t *testing.T) (outside bool) {
	t.Helper()
	if os.Getenv(inside) != "" {
		return false
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inside+"=yes")
	out, err := again.CombinedOutput()
	if strings.Contains(string(out), refused) {
		t.Skip("no real-time priority here: wants CAP_SYS_NICE")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}

const refused = "refused by the kernel"

func prompt(t *testing.T, inherit Inherit) {
	t.Helper()
	err := Prompt(10, inherit)
	if errors.Is(err, unix.EPERM) {
		t.Fatal(refused)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// policies returns the policy of each of our threads.
func policies(t *testing.T) map[int]uint32 {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(paths) < 2 {
		t.Fatal(paths, err)
	}
	all := map[int]uint32{}
	for _, path := range paths {
		id, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := unix.SchedGetAttr(id, 0); err == nil { // else it has ended
			all[id] = a.Policy
		}
	}
	return all
}

// more makes threads: each of these goroutines has one to itself.
func more() (release func()) {
	made, over := make(chan bool), make(chan bool)
	for range 8 {
		go func() {
			runtime.LockOSThread()
			made <- true
			<-over
		}()
		<-made
	}
	return func() { close(over) }
}

func TestAllThreadsHaveItAndThoseThatAreMadeLater(t *testing.T) {
	if alone(t) {
		return
	}
	prompt(t, All)
	before := len(policies(t))
	defer more()()
	all := policies(t)
	if len(all) <= before {
		t.Fatalf("no threads were made: %v", all)
	}
	for id, policy := range all {
		if policy != unix.SCHED_RR {
			t.Errorf("thread %d of %v: policy %d", id, all, policy)
		}
	}
}

// Other programs of a bench ask by themselves, or are not to have it.
func TestNothingIsInherited(t *testing.T) {
	if alone(t) {
		return
	}
	prompt(t, Nothing)
	out, err := exec.Command("cat", "/proc/self/stat").Output()
	if err != nil {
		t.Fatal(err)
	}
	const policy = 40 // of proc(5)'s fields, the first is 0
	if fields := strings.Fields(string(out)); fields[policy] != "0" {
		t.Errorf("a child's policy is %s: %s", fields[policy], out)
	}
}

// A goroutine that never yields is interrupted after 10 ms, although its thread comes
// before others: on one processor the runtime's watcher would have to wait for what the
// kernel gives a thread beside its like (sched_rr_get_interval(2)) else.
func TestGoroutinesShareAProcessorAsEver(t *testing.T) {
	if alone(t) {
		return
	}
	var quantum unix.Timespec
	prompt(t, All)
	if _, _, err := unix.Syscall(unix.SYS_SCHED_RR_GET_INTERVAL, 0, uintptr(unsafe.Pointer(&quantum)), 0); err != 0 {
		t.Fatal(err)
	}
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for i := range len(all) * 64 {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	for id := range policies(t) {
		if err := unix.SchedSetaffinity(id, &one); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GOMAXPROCS(1)
	const times = 20
	begun := time.Now()
	for range times {
		var over atomic.Bool
		go over.Store(true)
		for !over.Load() {
		}
	}
	if took, most := time.Since(begun), times*time.Duration(quantum.Nano())/2; took > most {
		t.Errorf("%d interruptions took %v; as many quanta are %v", times, took, 2*most)
	}
}

func TestRefused(t *testing.T) {
	if err := Prompt(0, All); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		t.Errorf("a priority that there is not: %v", err)
	}
	for id, policy := range policies(t) {
		if policy == unix.SCHED_RR {
			t.Errorf("thread %d has another policy all the same", id)
		}
	}
}
