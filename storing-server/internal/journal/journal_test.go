package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// A memory is what a user of a journal holds: the newest of each subject.
type memory map[string]entry

type entry struct {
	data  string
	place uint64
}

func (m memory) apply(subject string, data []byte, place uint64) error {
	if m[subject].place < place {
		m[subject] = entry{string(data), place}
	}
	return nil
}

func (m memory) all(put func(string, []byte, uint64) error) error {
	for subject, e := range m {
		if err := put(subject, []byte(e.data), e.place); err != nil {
			return err
		}
	}
	return nil
}

// append appends messages to j and m alike.
func (m memory) append(t testing.TB, j *Journal, ms ...Message) {
	t.Helper()
	first, err := j.Append(ms)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range ms {
		m[one.Subject] = entry{string(one.Data), first + uint64(i)}
	}
}

// open opens dir and returns what it holds.
func open(t testing.TB, dir string, acknowledged uint64) (*Journal, memory, State) {
	t.Helper()
	m := memory{}
	j, st, err := Open(dir, acknowledged, m.apply)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, m, st
}

func message(subject, data int) Message {
	return Message{fmt.Sprintf("row.%02d", subject), fmt.Appendf(nil, "data %d of %d", data, subject)}
}

// written makes a folder of batches of 1 to 4 messages, and returns what it
// holds after each.
func written(t testing.TB, dir string, batches int) (after []memory) {
	t.Helper()
	j, m, _ := open(t, dir, 0)
	for n := range batches {
		var ms []Message
		for i := range 1 + n%4 {
			ms = append(ms, message((n+i)%10, n))
		}
		m.append(t, j, ms...)
		after = append(after, maps.Clone(m))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return after
}

// What was appended is there after a restart, and after it was written anew,
// while others append.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	after := written(t, dir, 20)
	j, m, st := open(t, dir, 0)
	if want := after[len(after)-1]; !maps.Equal(m, want) || len(st.Damages) > 0 {
		t.Fatalf("read %v, damages %v; want %v", m, st.Damages, want)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	for n := range 4 {
		all.Go(func() {
			for i := range 50 {
				mu.Lock()
				m.append(t, j, message(10+n, i), message(20+n, i))
				mu.Unlock()
			}
		})
	}
	for range 5 {
		mu.Lock()
		upTo, err := j.Mark()
		copied := maps.Clone(m)
		mu.Unlock()
		if err == nil {
			err = j.Renew(upTo, copied.all)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	size := j.Size()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	_, again, st := open(t, dir, j.Newest())
	if !maps.Equal(again, m) || len(st.Damages) > 0 || st.Newest != j.Newest() || st.Size != size {
		t.Errorf("read %d subjects up to %d of %d bytes, damages %v; want %d up to %d of %d", len(again), st.Newest, st.Size, st.Damages, len(m), j.Newest(), size)
	}
	if files, err := names(dir); err != nil || len(files) > 2 {
		t.Errorf("files %v, %v; want one that holds all and a segment", files, err)
	}
}

// A batch that a power cut has torn is not there, whole batches are.
func TestTornBatch(t *testing.T) {
	dir := t.TempDir()
	after := written(t, dir, 12)
	file := onlyFile(t, dir, segmentEnding)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(text) {
		if err := os.WriteFile(file, text[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		j, m, st := open(t, dir, 0)
		if len(st.Damages) > 0 || len(m) > 0 && !slices.ContainsFunc(after, func(o memory) bool { return maps.Equal(m, o) }) {
			t.Fatalf("cut at %d: %v, damages %v; want what was there after a batch", size, m, st.Damages)
		}
		if size%7 == 0 {
			m.append(t, j, message(50, 1), message(51, 1))
			if _, again, st := open(t, dir, j.Newest()); !maps.Equal(again, m) || len(st.Damages) > 0 {
				t.Fatalf("cut at %d and appended to: %v, damages %v; want %v", size, again, st.Damages, m)
			}
		}
		j.Close()
	}
}

// Whichever byte of a folder is changed, one record is missing at the most, and
// it is said where; nothing is changed by looking, and what is written after that
// lasts.
func TestDamagedByte(t *testing.T) {
	whole := t.TempDir()
	written(t, whole, 15)
	j, m, _ := open(t, whole, 0)
	upTo, err := j.Mark()
	if err == nil {
		err = j.Renew(upTo, m.all)
	}
	if err != nil {
		t.Fatal(err)
	}
	const replaced = 3
	for n := range 4 { // one that replaces, one that is new
		m.append(t, j, message(replaced, 100+n), message(30+n, n))
	}
	want, newest := maps.Clone(m), j.Newest()
	j.Close()
	for _, ending := range []string{segmentEnding, wholeEnding} {
		name := filepath.Base(onlyFile(t, whole, ending))
		text, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		for at := range text {
			dir := t.TempDir()
			damaged := bytes.Clone(text)
			damaged[at] ^= 1 << rand.N(8)
			if err := errors.Join(os.CopyFS(dir, os.DirFS(whole)), os.WriteFile(filepath.Join(dir, name), damaged, 0o600)); err != nil {
				t.Fatal(err)
			}
			j, got, st := open(t, dir, newest)
			missing := 0
			for subject, e := range want {
				if got[subject] != e {
					missing++
				}
			}
			if missing > 1 || len(got) > len(want) || missing == 1 && len(st.Damages) == 0 {
				t.Fatalf("byte %d of %s: %d subjects are wrong, damages %v", at, name, missing, st.Damages)
			}
			if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(now, damaged) {
				t.Fatalf("byte %d of %s: the file was changed by looking: %v", at, name, err)
			}
			if len(st.Damages) == 0 || at%5 > 0 {
				continue
			}
			got.append(t, j, message(60, at))
			upTo, err := j.Mark()
			if err == nil {
				err = j.Renew(upTo, got.all)
			}
			if err != nil {
				t.Fatal(err)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, name+damagedEnding)); err != nil || !bytes.Equal(kept, damaged) {
				t.Fatalf("byte %d of %s: the damaged file was not kept: %v", at, name, err)
			}
			j.Close()
			if _, again, st := open(t, dir, j.Newest()); !maps.Equal(again, got) || len(st.Damages) > 0 {
				t.Fatalf("byte %d of %s, written anew: %v, damages %v; want %v", at, name, again, st.Damages, got)
			}
		}
	}
}

// What was acknowledged and is gone is missed, wherever the file was cut.
func TestCut(t *testing.T) {
	dir := t.TempDir()
	written(t, dir, 12)
	j, want, _ := open(t, dir, 0)
	newest := j.Newest()
	j.Close()
	file := onlyFile(t, dir, segmentEnding)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(text) {
		if err := os.WriteFile(file, text[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, st := open(t, dir, newest); len(st.Damages) == 0 || st.Damages[len(st.Damages)-1].Lost == 0 {
			t.Fatalf("cut at %d of %d: damages %v", size, len(text), st.Damages)
		}
	}
	if err := os.WriteFile(file, append(text, bytes.Repeat([]byte(marker), 500)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, m, st := open(t, dir, newest); !maps.Equal(m, want) || len(st.Damages) > 0 {
		t.Errorf("with noise behind the end: %v, damages %v; want %v", m, st.Damages, want)
	}
}

// A segment that is gone is missed, between others and at the end.
func TestMissingSegment(t *testing.T) {
	dir := t.TempDir()
	j, m, _ := open(t, dir, 0)
	for n := range 3 {
		m.append(t, j, message(n, 0), message(n, 1))
		if _, err := j.Mark(); err != nil {
			t.Fatal(err)
		}
	}
	newest := j.Newest()
	j.Close()
	files, err := names(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, gone := range files[:3] {
		part := t.TempDir()
		if err := errors.Join(os.CopyFS(part, os.DirFS(dir)), os.Remove(filepath.Join(part, gone.name))); err != nil {
			t.Fatal(err)
		}
		_, got, st := open(t, part, newest)
		if len(st.Damages) != 1 || st.Damages[0].Lost != 2 || len(got) != 2 {
			t.Errorf("without %s: %d subjects, damages %v; want 2, and 2 records lost", gone.name, len(got), st.Damages)
		}
	}
}

// What cannot be appended is refused, and what comes after it is taken.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	j, m, _ := open(t, dir, 0)
	for _, ms := range [][]Message{nil, {{"big", make([]byte, recordMost)}}, make([]Message, BatchMost+1)} {
		if _, err := j.Append(ms); err == nil {
			t.Errorf("Append() of %d messages = nil", len(ms))
		}
	}
	if err := j.Probe(); err != nil {
		t.Error(err)
	}
	m.append(t, j, message(1, 1))
	if err := j.Probe(); err != nil {
		t.Error(err)
	}
	m.append(t, j, message(2, 1))
	j.Close()
	if _, again, st := open(t, dir, 2); !maps.Equal(again, m) || len(st.Damages) > 0 {
		t.Errorf("read %v, damages %v; want %v", again, st.Damages, m)
	}
}

// A folder that Create made is one that was appended to.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	want := memory{}
	newest, err := Create(dir, func(put func(string, []byte) error) error {
		for n := range 1000 {
			m := message(n, n)
			want[m.Subject] = entry{string(m.Data), uint64(n + 1)}
			if err := put(m.Subject, m.Data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || newest != 1000 || !There(dir) || There(t.TempDir()) {
		t.Fatalf("Create() = %d, %v", newest, err)
	}
	j, m, st := open(t, dir, newest)
	m.append(t, j, message(5000, 1))
	want["row.5000"] = entry{string(message(5000, 1).Data), 1001}
	if !maps.Equal(m, want) || len(st.Damages) > 0 {
		t.Errorf("%d subjects, damages %v; want %d", len(m), st.Damages, len(want))
	}
}

func onlyFile(t testing.TB, dir, ending string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(files) != 1 {
		t.Fatalf("*%s: %v, %v; want one", ending, files, err)
	}
	return files[0]
}

// FuzzRead: whatever stands in a segment, it is read without harm, and what is
// written after it is read again, beside what was.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	written(f, dir, 5)
	text, err := os.ReadFile(onlyFile(f, dir, segmentEnding))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, uint64(0))
	f.Add(text[:len(text)/2], uint64(9))
	f.Add([]byte(magic), uint64(1))
	f.Fuzz(func(t *testing.T, text []byte, acknowledged uint64) {
		acknowledged %= 1 << 40
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016x", 1)+segmentEnding), text, 0o600); err != nil {
			t.Fatal(err)
		}
		j, m, st := open(t, dir, acknowledged)
		if st.Newest < acknowledged {
			t.Fatalf("newest %d; %d was acknowledged", st.Newest, acknowledged)
		}
		if st.Newest > 1<<60 { // forged, and more than will ever be
			return
		}
		for subject, e := range m { // of what is newest, nothing may be replaced by less
			if e.place > st.Newest {
				t.Fatalf("%s at %d; the newest is %d", subject, e.place, st.Newest)
			}
		}
		m.append(t, j, message(70, 7))
		if _, again, _ := open(t, dir, 0); again["row.70"] != m["row.70"] {
			t.Fatalf("read %v; want %v", again["row.70"], m["row.70"])
		}
	})
}

// BenchmarkAppend is what a batch costs: with one row in it, and with as many as
// come together under load.
func BenchmarkAppend(b *testing.B) {
	for _, rows := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			j, _, _ := open(b, b.TempDir(), 0)
			ms := make([]Message, rows)
			for i := range ms {
				ms[i] = Message{fmt.Sprintf("row.%012d", i), make([]byte, 190)}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Append(ms); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
