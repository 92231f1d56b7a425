// Command engines compares what can keep the rows of one machine: the server's own
// journal, the embedded JetStream that it had before, pebble and bbolt, each on the
// same work in the same run.
//
// It knows batches of rows and how long they take. It refuses to know what a row
// says. Rates are to be compared within one run alone; it prints ratios.
package main

import (
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rowSize is what a row of one address takes, as the server encodes it.
const rowSize = 110

// A keeper brings rows to the disk.
type keeper interface {
	// commit returns when all rows are on the disk, or none.
	commit(rows []uint64, body []byte) error
	close() error
}

// An engine makes and opens keepers. read gives each row that can be read in a
// folder to give, the newest of each last; its error says that the folder is
// refused.
type engine struct {
	name string
	open func(dir string) (keeper, error)
	read func(dir string, give func(row, body string)) error
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "count" { // in a process of its own: damage may crash it
		countIn(os.Args[2])
		return
	}
	dir, err := os.MkdirTemp("", "engines-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%-10s %22s %22s %22s %12s %10s %8s %16s\n", "", "1 row a batch", "100 rows", "1000 rows", "processor", "disk", "start", "4 bytes flipped")
	fmt.Printf("%-10s %22s %22s %22s %12s %10s %8s %16s\n", "", "rows/s  p50 p99", "rows/s  p50 p99", "rows/s  p50 p99", "us a row", "B a row", "s", "rows lost, of")
	for round := range 2 {
		for _, e := range engines {
			if err := try(e, filepath.Join(dir, e.name+strconv.Itoa(round))); err != nil {
				log.Fatalf("%s: %v", e.name, err)
			}
			debug.FreeOSMemory()
		}
	}
}

const (
	preloaded = 200_000
	each      = 2 * time.Second // a measurement
	trials    = 10              // of damage
)

func key(n uint64) uint64 { return n * 2654435761 % (1 << 40) }

func try(e engine, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	k, err := e.open(dir)
	if err != nil {
		return err
	}
	body := make([]byte, rowSize)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	var rows []uint64
	for n := range uint64(preloaded) {
		if rows = append(rows, key(n)); len(rows) == 1000 {
			if err := k.commit(rows, body); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	disk := usage(dir)
	var texts []string
	var cpu float64
	for _, size := range []int{1, 100, 1000} {
		text, us, err := measure(k, body, size)
		if err != nil {
			return err
		}
		texts, cpu = append(texts, text), us
	}
	if err := k.close(); err != nil {
		return err
	}
	start := time.Now()
	have, err := count(e, dir)
	if err != nil || have != preloaded {
		return fmt.Errorf("%d rows are read, %v; %d were written", have, err, preloaded)
	}
	took := time.Since(start)
	fmt.Printf("%-10s %22s %22s %22s %12.1f %10d %8.1f %16s\n", e.name, texts[0], texts[1], texts[2], cpu, disk/preloaded, took.Seconds(), damage(e, dir))
	return nil
}

// measure commits batches of rows that are there already, as phones move.
func measure(k keeper, body []byte, size int) (text string, us float64, err error) {
	var took []time.Duration
	rows := make([]uint64, size)
	before, begun, n := processor(), time.Now(), 0
	for time.Since(begun) < each {
		for i := range rows {
			rows[i] = key(rand.Uint64N(preloaded))
		}
		slices.Sort(rows)
		start := time.Now()
		if err := k.commit(slices.Compact(slices.Clone(rows)), body); err != nil {
			return "", 0, err
		}
		took = append(took, time.Since(start))
		n += size
	}
	spent := processor() - before
	slices.Sort(took)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
	return fmt.Sprintf("%d %s %s", int(float64(n)/time.Since(begun).Seconds()), ms(took[len(took)/2]), ms(took[len(took)*99/100])),
		float64(spent) / float64(time.Microsecond) / float64(n), nil
}

func processor() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func usage(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil {
				bytes += st.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}

// damage flips four bytes of the largest file, at random, and tells how many rows
// cannot be read then: the mean of some trials, and how often all were refused.
func damage(e engine, dir string) string {
	lost, refused := 0, 0
	for range trials {
		copied := dir + "-damaged"
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			return err.Error()
		}
		var largest string
		var size int64
		_ = filepath.WalkDir(copied, func(path string, d os.DirEntry, err error) error {
			if info, err := os.Stat(path); err == nil && !d.IsDir() && info.Size() > size {
				largest, size = path, info.Size()
			}
			return nil
		})
		text, err := os.ReadFile(largest)
		if err != nil {
			return err.Error()
		}
		at := rand.IntN(len(text) - 4)
		for i := at; i < at+4; i++ {
			text[i] ^= 0xff
		}
		if err := os.WriteFile(largest, text, 0o600); err != nil {
			return err.Error()
		}
		have, err := count(e, copied)
		if err != nil {
			refused++
		} else {
			lost += preloaded - have
		}
		os.RemoveAll(copied)
	}
	if refused == trials {
		return fmt.Sprintf("all refused (%d)", trials)
	}
	return fmt.Sprintf("%.1f, %d refused", float64(lost)/float64(trials-refused), refused)
}

// count asks another process.
func count(e engine, dir string) (int, error) {
	out, err := self("count", e.name+":"+dir)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

func countIn(what string) {
	name, dir, _ := strings.Cut(what, ":")
	for _, e := range engines {
		if e.name == name {
			rows := map[string]string{}
			if err := e.read(dir, func(row, body string) { rows[row] = body }); err != nil {
				log.Fatal(err)
			}
			// All have the same body; one that was changed is no row.
			like := map[string]int{}
			for _, body := range rows {
				like[body]++
			}
			fmt.Println(slices.Max(append(slices.Collect(maps.Values(like)), 0)))
		}
	}
}
