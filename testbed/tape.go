package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"flexphone/audio/wav"
)

// newTape makes a tape without a sound on it, unless there is one.
func newTape(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	var empty bytes.Buffer
	if err := wav.Encode(&empty, nil, speechRate); err != nil {
		return fmt.Errorf("testbed: make tape: %w", err)
	}
	if err := os.WriteFile(path, empty.Bytes(), 0o600); err != nil {
		return fmt.Errorf("testbed: make tape: %w", err)
	}
	return nil
}

// continueTape appends the samples that come from a guest, as they come, until
// they end.
func continueTape(path string, from io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("testbed: record: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("testbed: record: %w", err)
	}
	end := info.Size()
	b := make([]byte, 3200) // a tenth of a second
	for held := 0; ; {
		n, err := from.Read(b[held:])
		if err != nil {
			return err
		}
		held += n
		whole := held &^ 1
		if _, err := f.WriteAt(b[:whole], end); err != nil {
			return fmt.Errorf("testbed: record: %w", err)
		}
		end += int64(whole)
		held = copy(b, b[whole:held])
		// The lengths in the header: of what follows it, and of the samples.
		for at, length := range map[int64]int64{4: end - 8, 40: end - wavHeader} {
			var field [4]byte
			binary.LittleEndian.PutUint32(field[:], uint32(length))
			if _, err := f.WriteAt(field[:], at); err != nil {
				return fmt.Errorf("testbed: record: %w", err)
			}
		}
	}
}
