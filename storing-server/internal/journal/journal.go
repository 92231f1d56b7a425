// Package journal keeps the newest message of each subject in the files of one
// folder, durably: what Append has returned for survives a power cut.
//
// It knows files, syncing, checksums and batches that are there whole or not at
// all. It refuses to know what a subject or a message means, and which messages
// have been replaced: whoever uses it holds them all in memory, and gives them
// to Renew when the files have grown.
//
// # Why
//
// All rows are in memory already, and change in batches. What is left for the
// disk is to append a batch and to sync it once. On the same machine and work
// this took a fifth of the processor that pebble needed and a thirtieth of
// bbolt's, and half to a tenth of the time at load (docs/scale.md); and neither
// of them gives up less than a block or a page where the disk has rotted.
//
// Each record has a marker, its length and a checksum of its own: a record that
// is damaged is the only one that is lost, wherever the damage is, since the
// next marker with a right checksum is where reading goes on. Records in a
// segment are numbered without a gap, so that it is known how many are missing.
// Looking at a folder changes nothing in it.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"flexphone/internal/durable"
)

const (
	magic = "fxjrnl1\n"
	// A record: marker, checksum of what follows it, length of all of it, place,
	// how many records of its batch follow, length of its subject; then subject
	// and data.
	marker     = "\xf1\xe7JR"
	atChecksum = len(marker)
	atLength   = atChecksum + 4
	atPlace    = atLength + 4
	atLeft     = atPlace + 8
	atSubject  = atLeft + 2
	headSize   = atSubject + 2
	// recordMost bounds a record, and so what a damaged length can ask for.
	recordMost = 1 << 20
	// BatchMost is how many messages one batch may have.
	BatchMost = 1 << 16

	segmentEnding = ".journal" // and before it the place of its first record
	wholeEnding   = ".whole"   // and before it the place up to which it holds all
	// segmentMost is the size at which another segment is begun, in bytes: what
	// Renew leaves behind is let go of in pieces.
	segmentMost = 64 << 20
	// pieceMost is how much Renew writes between two syncs: who waits for a batch
	// waits for no more than that.
	pieceMost = 1 << 20
)

// ErrBroken: the end of the newest segment could neither be written nor cut off.
var ErrBroken = errors.New("the journal's end cannot be written")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Message is the newest that is said about a subject.
type Message struct {
	Subject string
	Data    []byte
}

// A Journal is a folder that is written to. It is safe for concurrent use, but
// for Renew, of which one may run at a time.
type Journal struct {
	dir string

	mu     sync.Mutex
	file   *os.File // the newest segment; nil: none yet
	end    int64    // of what is acknowledged there
	torn   bool     // there may be more behind it
	newest uint64
	size   int64 // of all files, in bytes
	buf    []byte

	damaged map[string]bool // files that were, when the folder was opened
}

// Open reads the folder dir, which is made if it is missing, gives what can be
// read to apply, and returns a journal that goes on after it. apply gets the
// messages of a subject in the order of their places, but may get one again, and
// one that Renew has left out; subject and data are its own until it returns.
// acknowledged is the highest place that is known to have been on the disk; 0:
// none is.
//
// Nothing in the folder is changed before the first Append, Mark or Probe: when
// State tells of damage, that is for the caller to judge. A damaged file is never
// written to again.
func Open(dir string, acknowledged uint64, apply func(subject string, data []byte, place uint64) error) (*Journal, State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, State{}, fmt.Errorf("journal: make folder: %w", err)
	}
	st, err := Read(dir, acknowledged, apply)
	if err != nil {
		return nil, st, err
	}
	j := &Journal{dir: dir, newest: st.Newest, size: st.Size, damaged: map[string]bool{}}
	for _, d := range st.Damages {
		j.damaged[d.File] = true
	}
	if st.open != "" && len(st.Damages) == 0 {
		if j.file, err = os.OpenFile(filepath.Join(dir, st.open), os.O_RDWR, 0o600); err != nil {
			return nil, st, fmt.Errorf("journal: open segment: %w", err)
		}
		j.end, j.torn = st.end, true // if only by zeros
	}
	return j, st, nil
}

// Close lets go of the files. All that was acknowledged is on the disk already.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Newest returns the place of the newest message.
func (j *Journal) Newest() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.newest
}

// Size returns how many bytes the files have.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// Append writes messages as one batch and returns the place of the first; the
// others follow it. When it returns nil they are on the disk. After an error none
// of them is there, nor will be; after ErrBroken that is true once another Append
// has succeeded.
func (j *Journal) Append(ms []Message) (first uint64, err error) { return j.append(ms, true) }

// AppendLazily is Append that does not wait for the disk: a later Append or Close
// and a sync of the file system bring it there.
func (j *Journal) AppendLazily(ms []Message) (first uint64, err error) { return j.append(ms, false) }

func (j *Journal) append(ms []Message, sync bool) (uint64, error) {
	if len(ms) == 0 || len(ms) > BatchMost {
		return 0, fmt.Errorf("journal: append: batch of %d messages; want 1 to %d", len(ms), BatchMost)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ready(); err != nil {
		return 0, err
	}
	first := j.newest + 1
	j.buf = j.buf[:0]
	for i, m := range ms {
		var err error
		if j.buf, err = appendRecord(j.buf, m.Subject, m.Data, first+uint64(i), len(ms)-1-i); err != nil {
			return 0, err
		}
	}
	_, err := j.file.WriteAt(j.buf, j.end)
	if err == nil && sync {
		err = unix.Fdatasync(int(j.file.Fd()))
	}
	if err != nil {
		j.torn = true
		if cut := j.mend(); cut != nil {
			return 0, fmt.Errorf("journal: append: %w: %w: %w", ErrBroken, err, cut)
		}
		return 0, fmt.Errorf("journal: append: %w", err)
	}
	j.end += int64(len(j.buf))
	j.size += int64(len(j.buf))
	j.newest += uint64(len(ms))
	return first, nil
}

// Probe tries to write: it brings what is there to the disk once more.
func (j *Journal) Probe() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ready(); err != nil {
		return err
	}
	// A byte behind the end is no record: reading ignores it.
	_, err := j.file.WriteAt([]byte{0}, j.end)
	if err == nil {
		err = unix.Fdatasync(int(j.file.Fd()))
	}
	if err != nil {
		j.torn = true
		return fmt.Errorf("journal: try to write: %w", err)
	}
	return nil
}

// ready makes a segment that can be appended to.
func (j *Journal) ready() error {
	if j.torn {
		if err := j.mend(); err != nil {
			return fmt.Errorf("journal: append: %w: %w", ErrBroken, err)
		}
	}
	if j.file == nil || j.end >= segmentMost {
		return j.begin()
	}
	return nil
}

// mend cuts off what stands behind the acknowledged end.
func (j *Journal) mend() error {
	if j.file == nil {
		j.torn = false
		return nil
	}
	err := j.file.Truncate(j.end)
	if err == nil {
		err = j.file.Sync()
	}
	j.torn = err != nil
	return err
}

// begin begins another segment.
func (j *Journal) begin() error {
	f, err := os.OpenFile(filepath.Join(j.dir, fmt.Sprintf("%016x", j.newest+1)+segmentEnding), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("journal: begin segment: %w", err)
	}
	if _, err = f.WriteString(magic); err == nil {
		err = errors.Join(f.Sync(), durable.SyncDir(j.dir))
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("journal: begin segment: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.end = f, int64(len(magic))
	j.size += j.end
	return nil
}

func appendRecord(b []byte, subject string, data []byte, place uint64, left int) ([]byte, error) {
	size := headSize + len(subject) + len(data)
	if size > recordMost || len(subject) > 1<<16-1 {
		return b, fmt.Errorf("journal: append %s: %d bytes; want %d at the most", subject, size, recordMost)
	}
	at := len(b)
	b = append(b, marker...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint64(b, place)
	b = binary.BigEndian.AppendUint16(b, uint16(left))
	b = binary.BigEndian.AppendUint16(b, uint16(len(subject)))
	b = append(b, subject...)
	b = append(b, data...)
	binary.BigEndian.PutUint32(b[at+atChecksum:], crc32.Checksum(b[at+atLength:], castagnoli))
	return b, nil
}

// Mark begins a segment, and returns the newest place before it, for Renew.
func (j *Journal) Mark() (upTo uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ready(); err != nil {
		return 0, err
	}
	if j.end == int64(len(magic)) { // it is empty
		return j.newest, nil
	}
	return j.newest, j.begin()
}

// Renew writes all messages anew, each with its place, as all gives them to put,
// and then removes the files that held them up to the place upTo, which Mark has
// returned: a message of those that all does not give is forgotten. What is
// appended meanwhile need not be given. Damaged files are kept, under another
// name.
func (j *Journal) Renew(upTo uint64, all func(put func(subject string, data []byte, place uint64) error) error) error {
	old, err := names(j.dir)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%016x", upTo) + wholeEnding
	written, err := writeWhole(j.dir, name, upTo, all)
	if err != nil {
		return fmt.Errorf("journal: renew: %w", err)
	}
	j.mu.Lock()
	j.size += written
	j.mu.Unlock()
	for _, n := range old {
		if n.place > upTo || n.name == name {
			continue
		}
		freed, err := j.discard(n.name)
		if err != nil {
			return fmt.Errorf("journal: renew: %w", err)
		}
		j.mu.Lock()
		j.size -= freed
		j.mu.Unlock()
	}
	return durable.SyncDir(j.dir)
}

// damagedEnding is what a damaged file gets when it is replaced: an operator may
// still want to look at it.
const damagedEnding = ".damaged"

// discard removes a file, or keeps it aside when it is damaged.
func (j *Journal) discard(name string) (freed int64, err error) {
	path := filepath.Join(j.dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if j.damaged[name] {
		return info.Size(), os.Rename(path, path+damagedEnding)
	}
	return info.Size(), os.Remove(path)
}

// Create makes a folder with a journal of all messages, which get the places from
// 1 on, in their order. There must be no journal in it.
func Create(dir string, all func(put func(subject string, data []byte) error) error) (newest uint64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("journal: make folder: %w", err)
	}
	// The name tells the place, which is known at the end.
	temporary := "new" + wholeEnding
	_, err = writeWhole(dir, temporary, 0, func(put func(string, []byte, uint64) error) error {
		return all(func(subject string, data []byte) error {
			newest++
			return put(subject, data, newest)
		})
	})
	if err == nil {
		err = os.Rename(filepath.Join(dir, temporary), filepath.Join(dir, fmt.Sprintf("%016x", newest)+wholeEnding))
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return 0, fmt.Errorf("journal: create: %w", err)
	}
	return newest, nil
}

// writeWhole writes the file name, which is there when it is whole. Its last
// records, without a subject, say how many there are.
func writeWhole(dir, name string, place uint64, all func(put func(subject string, data []byte, place uint64) error) error) (size int64, err error) {
	f, err := os.CreateTemp(dir, ".whole-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	defer f.Close()
	var buf []byte
	var count, unsynced int64
	flush := func(least int) error {
		if len(buf) < least {
			return nil
		}
		n, err := f.Write(buf)
		size += int64(n)
		unsynced += int64(n)
		buf = buf[:0]
		if err == nil && unsynced >= pieceMost {
			unsynced = 0
			err = unix.Fdatasync(int(f.Fd()))
		}
		return err
	}
	buf = append(buf, magic...)
	if err = all(func(subject string, data []byte, place uint64) error {
		count++
		var err error
		if buf, err = appendRecord(buf, subject, data, place, 0); err != nil {
			return err
		}
		return flush(64 << 10)
	}); err != nil {
		return 0, err
	}
	for range 2 { // one of them may rot
		if buf, err = appendRecord(buf, "", binary.BigEndian.AppendUint64(nil, uint64(count)), place, 0); err != nil {
			return 0, err
		}
	}
	if err = flush(0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	return size, err
}

// A file of the folder, by its name.
type named struct {
	name  string
	place uint64
	whole bool
}

// names lists the files of a folder: those that hold all first, by their places.
func names(dir string) (out []named, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: read folder: %w", err)
	}
	for _, e := range entries {
		for ending, whole := range map[string]bool{segmentEnding: false, wholeEnding: true} {
			digits, ok := strings.CutSuffix(e.Name(), ending)
			place, err := strconv.ParseUint(digits, 16, 64)
			if ok && err == nil && len(digits) == 16 {
				out = append(out, named{e.Name(), place, whole})
			}
		}
	}
	slices.SortFunc(out, func(a, b named) int {
		if a.whole != b.whole {
			if a.whole {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return out, nil
}

// placeOf returns the place in a file's name.
func placeOf(name string) uint64 {
	place, _ := strconv.ParseUint(strings.TrimSuffix(name, filepath.Ext(name)), 16, 64) // a name that names gave
	return place
}

// Size returns how many bytes the files of a folder have; 0 without one.
func Size(dir string) (bytes int64, err error) {
	files, err := names(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, f.name)); err == nil { // else it was replaced meanwhile
			bytes += info.Size()
		}
	}
	return bytes, err
}

// There reports whether dir holds a journal.
func There(dir string) bool {
	ns, err := names(dir)
	return len(ns) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}
