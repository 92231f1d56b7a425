package serial

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// What goes through a tape comes out of it, also when the disk has been filled
// more than once.
func TestTape(t *testing.T) {
	const blocks = 3
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.Truncate(blocks * tapeBlock); err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	w := NewTapeWriter(&line, disk, blocks*tapeBlock, make([]byte, tapeBlock))
	r := NewTapeReader(&line, disk, blocks*tapeBlock)
	for n, length := range []int{1, MaxTaped, 0, 3200, 7, 2, 4095} {
		sent := bytes.Repeat([]byte{byte(n + 1)}, length)
		if _, err := w.Write(sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, length)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("piece %d of %d bytes: %.20q, %v", n, length, got, err)
		}
	}
	if _, err := w.Write(make([]byte, MaxTaped+1)); err == nil {
		t.Error("a piece that is too long was written")
	}
	line.Write([]byte{0xff, 0xff})
	if n, err := r.Read(make([]byte, 1)); err == nil {
		t.Errorf("a length that cannot be was read as %d bytes", n)
	}
}
