package gpio

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A keyMatrix is the copper of a keypad without diodes: a contact joins its row
// and its column, and current flows both ways.
type keyMatrix struct {
	rows, cols int
	contacts   uint64 // bit row*cols+col
}

// columns returns the columns that are joined, by any path, to a row in driven.
func (k *keyMatrix) columns(driven uint64) (cols uint64) {
	for rows := driven; ; {
		rowsBefore, colsBefore := rows, cols
		for r := range k.rows {
			joined := k.contacts >> (r * k.cols) & (1<<k.cols - 1)
			if rows>>r&1 != 0 {
				cols |= joined
			}
			if joined&cols != 0 {
				rows |= 1 << r
			}
		}
		if rows == rowsBefore && cols == colsBefore {
			return cols
		}
	}
}

// scan looks at one row after the other.
func (k *keyMatrix) scan() (matrix uint64) {
	for r := range k.rows {
		matrix |= k.columns(1<<r) << (r * k.cols)
	}
	return matrix
}

const phoneKeys = "123456789*0#"

func contacts(keys string) (m uint64) {
	for _, k := range keys {
		m |= 1 << strings.IndexRune(phoneKeys, k)
	}
	return m
}

// A bench runs a scanner against a matrix in simulated time.
type bench struct {
	scanner
	keyMatrix
	now   time.Time
	again time.Duration
	story strings.Builder // "+1 -1 ": what was reported
}

func newBench() *bench {
	return &bench{
		scanner:   scanner{cols: 3, debounce: 5 * time.Millisecond},
		keyMatrix: keyMatrix{rows: 4, cols: 3},
		now:       time.Unix(1e9, 0),
	}
}

func (b *bench) look() {
	var moves []move
	moves, b.again = b.step(b.now, b.scan())
	for _, m := range moves {
		sign := '-'
		if m.down {
			sign = '+'
		}
		fmt.Fprintf(&b.story, "%c%c ", sign, phoneKeys[m.key])
	}
}

// hold holds exactly keys for d.
func (b *bench) hold(keys string, d time.Duration) {
	b.contacts = contacts(keys)
	for end := b.now.Add(d); ; {
		b.look()
		if b.again == 0 || b.now.Add(b.again).After(end) {
			b.now = end
			return
		}
		b.now = b.now.Add(b.again)
	}
}

func TestGhostCurrents(t *testing.T) {
	k := keyMatrix{rows: 4, cols: 3, contacts: contacts("124")}
	if got, want := k.scan(), contacts("1245"); got != want {
		t.Errorf("three corners scan as %012b; want all four, %012b", got, want)
	}
}

func TestScanner(t *testing.T) {
	const long, short = 50 * time.Millisecond, 2 * time.Millisecond
	type hold struct {
		keys string
		d    time.Duration
	}
	for _, c := range []struct {
		name  string
		holds []hold
		want  string
	}{
		{"one key", []hold{{"5", long}, {"", long}}, "+5 -5 "},
		{"long press", []hold{{"#", time.Minute}, {"", long}}, "+# -# "},
		{"bounce at both ends", []hold{
			{"7", short}, {"", short}, {"7", short}, {"", short}, {"7", long},
			{"", short}, {"7", short}, {"", short}, {"7", short}, {"", long},
		}, "+7 -7 "},
		{"a spike is no press", []hold{{"7", short}, {"", long}}, ""},
		{"a gap is no release", []hold{{"7", long}, {"", short}, {"7", long}, {"", long}}, "+7 -7 "},
		{"two in a row", []hold{{"1", long}, {"12", long}, {"2", long}, {"", long}}, "+1 +2 -1 -2 "},
		{"two in a column", []hold{{"1", long}, {"14", long}, {"4", long}, {"", long}}, "+1 +4 -1 -4 "},
		{"roll over", []hold{{"1", long}, {"15", long}, {"59", long}, {"9", long}, {"", long}}, "+1 +5 -1 +9 -5 -9 "},
		{"three corners", []hold{{"1", long}, {"12", long}, {"124", long}, {"", long}}, "+1 +2 -1 -2 "},
		{"three corners at once", []hold{{"124", long}, {"", long}}, ""},
		{"three corners, then the first released", []hold{{"1", long}, {"12", long}, {"124", long}, {"24", long}, {"", long}}, "+1 +2 -1 +4 -2 -4 "},
		{"far corners", []hold{{"1", long}, {"1#", long}, {"13#", long}, {"1#", long}, {"", long}}, "+1 +# -1 -# "},
		{"three that are no corners", []hold{{"1", long}, {"15", long}, {"159", long}, {"", long}}, "+1 +5 +9 -1 -5 -9 "},
		{"all at once", []hold{{phoneKeys, long}, {"", long}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench()
			for _, h := range c.holds {
				b.hold(h.keys, h.d)
			}
			if got := b.story.String(); got != c.want {
				t.Errorf("reported %q; want %q", got, c.want)
			}
			if b.again != 0 {
				t.Errorf("wants to look again in %v with no key down", b.again)
			}
		})
	}
}

func TestScannerTellsWhenTheContactMoved(t *testing.T) {
	s := scanner{cols: 3, debounce: 5 * time.Millisecond}
	t0 := time.Unix(1e9, 0)
	s.step(t0, contacts("1"))
	s.step(t0.Add(4*time.Millisecond), contacts("16"))
	moves, _ := s.step(t0.Add(20*time.Millisecond), contacts("16"))
	if len(moves) != 2 || moves[0].at != t0 || moves[1].at != t0.Add(4*time.Millisecond) {
		t.Errorf("moves %+v; want key 1 at once and key 6 after 4 ms", moves)
	}
}

// Whatever hands do, no key is reported that nobody touched, each down is
// followed by its up, and in the end all are up.
func TestScannerNeverInvents(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := newBench()
		touched := uint64(0)
		for range 100 {
			held := b.contacts
			for range 1 + rnd.IntN(2) {
				held ^= 1 << rnd.IntN(12)
			}
			touched |= held
			b.contacts = held
			for end := b.now.Add(time.Duration(rnd.IntN(40)) * time.Millisecond); b.now.Before(end); {
				moves, _ := b.step(b.now, b.scan())
				for _, m := range moves {
					if m.down && touched>>m.key&1 == 0 {
						t.Fatalf("seed %d: key %c reported, but never touched", seed, phoneKeys[m.key])
					}
				}
				b.now = b.now.Add(time.Millisecond)
			}
			touched = held | b.scanner.down | b.scanner.unsure // who is still bouncing may be told of later
		}
		b.hold("", time.Second)
		if b.scanner.down != 0 || b.again != 0 {
			t.Fatalf("seed %d: keys %b are down when no contact is", seed, b.scanner.down)
		}
	}
}
