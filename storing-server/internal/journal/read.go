package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A Damage is a part of a file that cannot be read as what was written.
type Damage struct {
	File   string // in the folder
	Offset int64
	Length int64
	// Lost is how many records are missing there; 0: not known.
	Lost uint64
}

// String implements fmt.Stringer.
func (d Damage) String() string {
	lost := "an unknown number of records"
	switch d.Lost {
	case 0:
	case 1:
		lost = "1 record"
	default:
		lost = fmt.Sprintf("%d records", d.Lost)
	}
	return fmt.Sprintf("%s of %s at byte %d (%d bytes)", lost, d.File, d.Offset, d.Length)
}

// A State is what was found in a folder.
type State struct {
	Newest  uint64 // place
	Records int
	Size    int64 // of all files, in bytes
	Damages []Damage

	open string // the newest segment
	end  int64  // of what was acknowledged there
}

// Read gives all messages of dir to apply, as Open does, and changes nothing. A
// nil apply looks only. Its error is apply's, or that of a file that cannot be
// opened; what cannot be read in a file is a Damage.
func Read(dir string, acknowledged uint64, apply func(subject string, data []byte, place uint64) error) (State, error) {
	files, err := names(dir)
	if err != nil {
		return State{}, err
	}
	var st State
	var whole uint64 // all up to there is in one file
	for _, f := range files {
		if f.whole {
			whole = max(whole, f.place)
		}
	}
	for i, f := range files {
		// What the newest whole file replaces is still there when a power cut
		// came between that and its removal.
		last := i == len(files)-1
		if f.whole && f.place < whole || !f.whole && !last && files[i+1].place <= whole+1 {
			continue
		}
		got, err := readFile(dir, f.name, acknowledged, apply)
		if err != nil {
			return st, err
		}
		st.Records += got.records
		st.Size += got.size
		if f.whole {
			st.Newest = max(st.Newest, f.place, got.newest)
			st.Damages = append(st.Damages, got.damages...)
			continue
		}
		if f.place > st.Newest+1 {
			st.Damages = append(st.Damages, Damage{File: f.name, Lost: f.place - st.Newest - 1})
		}
		st.Damages = append(st.Damages, got.damages...)
		st.Newest = max(st.Newest, f.place-1, got.newest)
		st.open, st.end = f.name, got.end
		// What stands behind the last whole batch of a segment was never
		// acknowledged, unless records are missing before the next one.
		if got.tail > 0 && !last && files[i+1].place > st.Newest+1 {
			st.Damages = append(st.Damages, Damage{File: f.name, Offset: got.end, Length: got.tail, Lost: files[i+1].place - st.Newest - 1})
			st.Newest = files[i+1].place - 1
		}
	}
	if acknowledged > st.Newest {
		d := Damage{File: st.open, Offset: st.end, Lost: acknowledged - st.Newest}
		if st.open == "" {
			d.File = filepath.Base(dir)
		}
		st.Damages = append(st.Damages, d)
		st.Newest = acknowledged
	}
	return st, nil
}

// found is what one file holds.
type found struct {
	records int
	newest  uint64
	end     int64 // of the last whole batch
	tail    int64 // bytes behind it
	size    int64
	damages []Damage
}

// readFile reads a file. In a segment, what begins a batch that is not whole
// there, and is not known to have been acknowledged, is its tail. A nil apply
// looks only.
func readFile(dir, name string, acknowledged uint64, apply func(subject string, data []byte, place uint64) error) (found, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return found{}, fmt.Errorf("journal: read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return found{}, fmt.Errorf("journal: read: %w", err)
	}
	whole := filepath.Ext(name) == wholeEnding
	out := found{size: info.Size(), end: int64(len(magic))}
	w := &window{file: f, size: info.Size()}
	begin := int64(len(magic))
	if string(w.at(0, len(magic))) != magic {
		if begin = 0; w.size < int64(len(magic)) {
			return out, nil // it was being made
		}
	}
	counted, ended := uint64(0), false
	var waiting []held // of a batch whose end has not come yet
	give := func(subject string, data []byte, place uint64) error {
		out.records++
		out.newest = max(out.newest, place)
		if apply == nil {
			return nil
		}
		return apply(subject, data, place)
	}
	before := placeOf(name) - 1 // the place of the record before
	for pos := begin; ; {
		r, at, ok := w.next(pos)
		if !ok {
			break
		}
		if at > pos && at > int64(len(magic)) {
			d := Damage{File: name, Offset: pos, Length: at - pos}
			if !whole && r.place > before+1 {
				d.Lost = r.place - before - 1
			}
			out.damages = append(out.damages, d)
		}
		before, pos = r.place, at+int64(r.size)
		switch {
		case whole && r.subject == "" && len(r.data) == 8:
			counted, ended = binary.BigEndian.Uint64(r.data), true
		case !whole && r.left > 0 && r.place > acknowledged:
			waiting = append(waiting, held{r.subject, bytes.Clone(r.data), r.place})
			continue
		default:
			for _, h := range waiting {
				if err := give(h.subject, h.data, h.place); err != nil {
					return out, err
				}
			}
			waiting = waiting[:0]
			if err := give(r.subject, r.data, r.place); err != nil {
				return out, err
			}
		}
		out.end = pos
	}
	out.tail = max(0, w.size-out.end)
	if whole {
		out.settle(name, counted, ended)
	}
	return out, nil
}

// settle compares what a whole file holds with how many it says it does.
func (f *found) settle(name string, counted uint64, ended bool) {
	switch {
	case !ended: // it got its name when it was whole
		f.damages = append(f.damages, Damage{File: name, Offset: f.end, Length: f.tail})
	case counted <= uint64(f.records):
		f.damages = nil
	case len(f.damages) == 0:
		f.damages = []Damage{{File: name, Lost: counted - uint64(f.records)}}
	default: // how many are missing where is not known
		first, last := f.damages[0], f.damages[len(f.damages)-1]
		first.Length, first.Lost = last.Offset+last.Length-first.Offset, counted-uint64(f.records)
		f.damages = []Damage{first}
	}
}

type held struct {
	subject string
	data    []byte
	place   uint64
}

// A record, as it was read; data is valid until the next one is.
type record struct {
	size    int
	place   uint64
	left    int
	subject string
	data    []byte
}

// parse returns the record that b begins with. need is how many bytes of it are
// needed for more to be said; 0: there is none.
func parse(b []byte) (r record, need int) {
	if len(b) < headSize {
		return r, headSize
	}
	size := int(binary.BigEndian.Uint32(b[atLength:]))
	subject := int(binary.BigEndian.Uint16(b[atSubject:]))
	if string(b[:len(marker)]) != marker || size > recordMost || size < headSize+subject {
		return r, 0
	}
	if len(b) < size {
		return r, size
	}
	b = b[:size]
	if crc32.Checksum(b[atLength:], castagnoli) != binary.BigEndian.Uint32(b[atChecksum:]) {
		return r, 0
	}
	return record{
		size: size, place: binary.BigEndian.Uint64(b[atPlace:]), left: int(binary.BigEndian.Uint16(b[atLeft:])),
		subject: string(b[headSize : headSize+subject]), data: b[headSize+subject:],
	}, size
}

const (
	windowSize = 4 << 20
	sectorSize = 4096
)

// A window is the part of a file that is in memory. What the disk does not give
// is zeros there, which are no record.
type window struct {
	file *os.File
	size int64
	buf  []byte
	base int64
}

// at returns n bytes from pos on, or less at the end of the file.
func (w *window) at(pos int64, n int) []byte {
	n = int(min(int64(n), w.size-pos))
	if n <= 0 {
		return nil
	}
	if pos < w.base || pos+int64(n) > w.base+int64(len(w.buf)) {
		w.load(pos, max(n, windowSize))
	}
	return w.buf[pos-w.base:][:n]
}

func (w *window) load(pos int64, n int) {
	n = int(min(int64(n), w.size-pos))
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.base = w.buf[:n], pos
	got, err := w.file.ReadAt(w.buf, pos)
	if err == nil || errors.Is(err, io.EOF) {
		clear(w.buf[got:])
		return
	}
	for at := 0; at < n; at += sectorSize {
		piece := w.buf[at:min(at+sectorSize, n)]
		got, err := w.file.ReadAt(piece, pos+int64(at))
		if err != nil {
			clear(piece[got:])
		}
	}
}

// next returns the first record from pos on, and where it is.
func (w *window) next(pos int64) (r record, at int64, ok bool) {
	for {
		b := w.at(pos, headSize)
		if len(b) < headSize {
			return r, 0, false
		}
		r, need := parse(b)
		if need > len(b) {
			if b = w.at(pos, need); len(b) == need {
				r, need = parse(b)
			} else {
				need = 0
			}
		}
		if need > 0 {
			return r, pos, true
		}
		// The next marker, of whatever is in the window.
		pos++
		rest := w.at(pos, windowSize)
		i := bytes.Index(rest, []byte(marker))
		switch {
		case i >= 0:
			pos += int64(i)
		case pos+int64(len(rest)) >= w.size:
			return r, 0, false
		default:
			pos += int64(len(rest) - len(marker) + 1)
		}
	}
}
