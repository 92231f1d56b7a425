package serial

import (
	"encoding/binary"
	"fmt"
	"io"
)

// tapeBlock is the length of a piece of a tape, in bytes: whole sectors of a
// disk, and of memory's pages, which direct writing asks for.
const tapeBlock = 4096

// MaxTaped is how much one Write to a tape may hold, in bytes.
const MaxTaped = tapeBlock

// A TapeWriter sends bytes past a line that is too slow for them: it writes them
// to a disk that both ends have, one block after the other and from its
// beginning again when it is full, and says on the line how many they are.
//
// Some machines of QEMU's have no other line than a UART, which takes sound one
// byte at a time, the processor's interrupts off: 30 ms of each 100.
type TapeWriter struct {
	line   io.Writer
	disk   io.WriterAt
	blocks int64 // of the disk
	next   int64
	block  []byte // a page
}

// NewTapeWriter begins a tape on a disk of that size in bytes. page is a page
// of memory.
func NewTapeWriter(line io.Writer, disk io.WriterAt, size int64, page []byte) *TapeWriter {
	return &TapeWriter{line: line, disk: disk, blocks: size / tapeBlock, block: page[:tapeBlock]}
}

// Write implements io.Writer, for at most MaxTaped bytes at a time.
func (t *TapeWriter) Write(b []byte) (int, error) {
	if len(b) > MaxTaped {
		return 0, fmt.Errorf("serial: write to tape: %d bytes at a time, more than %d", len(b), MaxTaped)
	}
	copy(t.block, b)
	if _, err := t.disk.WriteAt(t.block, t.next%t.blocks*tapeBlock); err != nil {
		return 0, fmt.Errorf("serial: write to tape: %w", err)
	}
	t.next++
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(b)))
	if _, err := t.line.Write(length[:]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A TapeReader reads what a TapeWriter at the other end wrote. It must not be
// behind by as much as the disk holds.
type TapeReader struct {
	line   io.Reader
	disk   io.ReaderAt
	blocks int64
	next   int64
	unread []byte
	block  [tapeBlock]byte
}

// NewTapeReader reads the tape on a disk of that size in bytes.
func NewTapeReader(line io.Reader, disk io.ReaderAt, size int64) *TapeReader {
	return &TapeReader{line: line, disk: disk, blocks: size / tapeBlock}
}

// Read implements io.Reader.
func (t *TapeReader) Read(b []byte) (int, error) {
	for len(t.unread) == 0 {
		var length [2]byte
		if _, err := io.ReadFull(t.line, length[:]); err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint16(length[:])
		if n > tapeBlock {
			return 0, fmt.Errorf("serial: read tape: a piece of %d bytes", n)
		}
		if _, err := t.disk.ReadAt(t.block[:], t.next%t.blocks*tapeBlock); err != nil {
			return 0, fmt.Errorf("serial: read tape: %w", err)
		}
		t.next++
		t.unread = t.block[:n]
	}
	n := copy(b, t.unread)
	t.unread = t.unread[n:]
	return n, nil
}
