package testbed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// speechRate is the sampling rate of the recorded speech, in Hz.
const speechRate = 16000

// speechDir holds recorded speech: Debian's package pocketsphinx-testdata.
const speechDir = "/usr/share/pocketsphinx/test/data"

// Speech returns a recording of a person who speaks, as 16-bit samples at
// 16 kHz: "goforward" and "something" (3 s), "numbers" (4 s), or "cards/001"
// (1 s).
func Speech(name string) ([]int16, error) {
	for _, ending := range []string{".raw", ".wav"} {
		b, err := os.ReadFile(filepath.Join(speechDir, name+ending))
		if err != nil {
			continue
		}
		if ending == ".wav" {
			i := bytes.Index(b, []byte("data")) // these files hold nothing odd before it
			if i < 0 || len(b) < i+8 {
				return nil, fmt.Errorf("testbed: read speech %s: no WAV file", name)
			}
			b = b[i+8:]
		}
		samples := make([]int16, len(b)/2)
		for i := range samples {
			samples[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
		}
		return samples, nil
	}
	return nil, fmt.Errorf("testbed: read speech: no %s in %s (Debian's package pocketsphinx-testdata)", name, speechDir)
}

// writeWAV writes mono 16-bit PCM.
func writeWAV(path string, rate int, samples []int16) error {
	var b bytes.Buffer
	size := uint32(2 * len(samples))
	b.WriteString("RIFF")
	for _, v := range []any{
		36 + size, [8]byte([]byte("WAVEfmt ")), uint32(16), uint16(1), uint16(1),
		uint32(rate), uint32(2 * rate), uint16(2), uint16(16), [4]byte([]byte("data")), size, samples,
	} {
		binary.Write(&b, binary.LittleEndian, v) // to memory: cannot fail
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("testbed: write sound: %w", err)
	}
	return nil
}
