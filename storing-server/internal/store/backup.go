package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flexphone/internal/durable"
	"flexphone/storing-server/internal/journal"
)

// A backup is a magic line, then frames of a length in 4 bytes and so many
// bytes of CBOR, then a length of zero and the SHA-256 hash of all before it.
// The first frame is a backupHead; each other one is a change, of the streams
// in their order: of two with the same subject the later counts.
const (
	backupMagic = "flexphone backup 1\n"
	frameMost   = 1 << 20 // bytes
)

type backupHead struct {
	Made       int64             `cbor:"1,keyasint"` // milliseconds of Unix time
	Partitions int               `cbor:"2,keyasint"`
	Files      map[string][]byte `cbor:"3,keyasint"` // of the data folder
}

type backupEntry struct {
	_       struct{} `cbor:",toarray"`
	Part    int
	Subject string
	Data    []byte
}

// ErrBackup: a backup cannot be used: it was cut or changed.
var ErrBackup = errors.New("the backup is not whole")

// ErrNotEmpty: the data folder holds rows already.
var ErrNotEmpty = errors.New("the data folder holds rows already")

// errClusterBackup: a cluster has copies of its own.
var errClusterBackup = errors.New("the rows are in a NATS cluster: back it up there, by `nats stream backup`")

// Backup writes all rows to w, as they are at one moment near its end, with
// what else Options.Keep names. It goes on serving: changes wait only for what
// came while the rest was written. It is written from memory; what has rotted on
// the disk meanwhile is looked for as well, returned, and written anew there.
func (s *Store) Backup(ctx context.Context, w io.Writer) (rotten string, err error) {
	if s.opts.NATS != "" {
		return "", fmt.Errorf("store: back up: %w", errClusterBackup)
	}
	head := backupHead{Made: time.Now().UnixMilli(), Partitions: 1, Files: map[string][]byte{}}
	for _, name := range s.opts.Keep {
		data, err := os.ReadFile(filepath.Join(s.opts.Dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("store: back up: %w", err)
		}
		if err == nil {
			head.Files[name] = data
		}
	}
	out := newFrameWriter(w)
	if err := out.put(head); err != nil {
		return "", err
	}
	tokens := map[string]bool{} // that were there, and may be used meanwhile
	begun := uint64(0)          // the newest place when it began
	begin := func(*view) error { begun = slices.Max(s.tails); return nil }
	all := func(after uint64) error {
		return s.table.dump(after, func(subject string, data []byte, _ uint64) error {
			if strings.HasPrefix(subject, notePrefix+tokenNote) {
				tokens[subject] = len(data) > 0
			}
			return out.put(backupEntry{Subject: subject, Data: data})
		})
	}
	last := func(*view) error {
		if err := all(begun); err != nil {
			return err
		}
		for subject := range tokens {
			k, err := parseNoteKey(strings.TrimPrefix(subject, notePrefix))
			if err == nil && len(s.table.note(k).data) == 0 {
				err = out.put(backupEntry{Subject: subject})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	// Most of it, and then what came meanwhile, while nothing is written.
	if err = s.turn(ctx, &operation{plan: begin, still: true}); err == nil {
		err = all(0)
	}
	if err == nil {
		err = s.turn(ctx, &operation{plan: last, still: true})
	}
	if err != nil {
		return "", fmt.Errorf("store: back up: %w", err)
	}
	return s.inspect(), out.end()
}

// inspect looks whether the journal can still be read, and has it written anew
// from memory where it cannot. It returns what cannot be read.
func (s *Store) inspect() string {
	l, ok := s.engine.(*local)
	if !ok {
		return ""
	}
	rotten := l.rotten()
	if rotten == "" {
		return ""
	}
	s.opts.Log.Error("the disk has changed what was written to it: look after the disk; the rows are in memory, and are written anew from there",
		"folder", l.dir, "damage", rotten)
	s.wornOut()
	return rotten
}

// CheckBackup reads a backup to its end, and returns how many entries it has
// and when it was made. An error that is ErrBackup says that it was cut or
// changed.
func CheckBackup(r io.Reader) (entries int, made time.Time, err error) {
	head, err := readBackup(r, func(backupEntry) error { entries++; return nil })
	return entries, time.UnixMilli(head.Made), err
}

// Restore makes a data folder of a backup. There may be none, or one without
// rows: nothing is overwritten. A restore that is cut short leaves no rows.
func Restore(ctx context.Context, dir string, r io.ReadSeeker) (entries int, err error) {
	if _, _, err := CheckBackup(r); err != nil {
		return 0, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("store: restore: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("store: restore: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if journal.There(filepath.Join(dir, journalName)) || streamsThere(filepath.Join(dir, natsName)) {
		return 0, fmt.Errorf("store: restore to %s: %w", dir, ErrNotEmpty)
	}
	part := filepath.Join(dir, "restoring")
	if err := errors.Join(os.RemoveAll(part), os.RemoveAll(filepath.Join(dir, natsName)), os.RemoveAll(filepath.Join(dir, journalName)), os.RemoveAll(filepath.Join(dir, ledgerName))); err != nil {
		return 0, fmt.Errorf("store: restore: %w", err)
	}
	head, entries, err := fill(part, r)
	if err == nil {
		err = writeFiles(dir, head.Files)
	}
	if err == nil {
		err = os.Rename(part, filepath.Join(dir, journalName))
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		_ = os.RemoveAll(part)
		return 0, fmt.Errorf("store: restore: %w", err)
	}
	return entries, nil
}

// fill makes a journal of a backup in dir.
func fill(dir string, r io.Reader) (head backupHead, entries int, err error) {
	_, err = journal.Create(dir, func(put func(string, []byte) error) error {
		head, err = readBackupFrom(r, func(backupHead) error { return nil }, func(e backupEntry) error {
			entries++
			return put(e.Subject, e.Data)
		})
		return err
	})
	return head, entries, err
}

// writeFiles writes files into dir that are not there.
func writeFiles(dir string, files map[string][]byte) error {
	for name, data := range files {
		if name != filepath.Base(name) || name == "." || name == ".." {
			return fmt.Errorf("file %q: %w", name, ErrBackup)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			if have, readErr := os.ReadFile(filepath.Join(dir, name)); readErr == nil && bytes.Equal(have, data) {
				continue
			}
			return fmt.Errorf("%s is there already and is another: %w", name, ErrNotEmpty)
		}
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

type frameWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func newFrameWriter(w io.Writer) *frameWriter {
	f := &frameWriter{w: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	_, _ = f.write([]byte(backupMagic)) // bufio keeps the error for end
	return f
}

func (f *frameWriter) write(p []byte) (int, error) {
	f.sum.Write(p)
	return f.w.Write(p)
}

func (f *frameWriter) put(x any) error {
	b, err := cbor.Marshal(x)
	if err == nil {
		_, err = f.write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	}
	if err == nil {
		_, err = f.write(b)
	}
	if err != nil {
		return fmt.Errorf("store: write backup: %w", err)
	}
	return nil
}

func (f *frameWriter) end() error {
	_, _ = f.write(make([]byte, 4))
	_, _ = f.w.Write(f.sum.Sum(nil))
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("store: write backup: %w", err)
	}
	return nil
}

func readBackup(r io.Reader, each func(backupEntry) error) (backupHead, error) {
	return readBackupFrom(r, func(backupHead) error { return nil }, each)
}

// readBackupFrom gives a backup's head to begin and its entries to each.
func readBackupFrom(r io.Reader, begin func(backupHead) error, each func(backupEntry) error) (head backupHead, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	sum := sha256.New()
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != backupMagic {
		return head, fmt.Errorf("store: read backup: it does not begin as one: %w", ErrBackup)
	}
	sum.Write(magic)
	var length [4]byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return head, fmt.Errorf("store: read backup: cut after %d entries: %w: %w", n, ErrBackup, err)
		}
		sum.Write(length[:])
		size := binary.BigEndian.Uint32(length[:])
		if size == 0 {
			break
		}
		if size > frameMost {
			return head, fmt.Errorf("store: read backup: an entry of %d bytes: %w", size, ErrBackup)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return head, fmt.Errorf("store: read backup: cut after %d entries: %w: %w", n, ErrBackup, err)
		}
		sum.Write(frame)
		var e backupEntry
		if n == 0 {
			if err = decoder().Unmarshal(frame, &head); err == nil {
				if head.Partitions < 1 || head.Partitions > maxPartitions {
					return head, fmt.Errorf("store: read backup: %d partitions: %w", head.Partitions, ErrBackup)
				}
				err = begin(head)
			} else {
				err = fmt.Errorf("%w: %w", ErrBackup, err)
			}
		} else if err = decoder().Unmarshal(frame, &e); err == nil {
			err = each(e)
		} else {
			err = fmt.Errorf("%w: %w", ErrBackup, err)
		}
		if err != nil {
			return head, fmt.Errorf("store: read backup: entry %d: %w", n, err)
		}
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in, want); err != nil || !bytes.Equal(want, sum.Sum(nil)) {
		return head, fmt.Errorf("store: read backup: it was changed: %w", ErrBackup)
	}
	return head, nil
}
