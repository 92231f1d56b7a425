package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"flexphone/audio/resample"
	"flexphone/audio/wav"
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
			samples, _, err := wav.Decode(bytes.NewReader(b))
			return samples, err
		}
		samples := make([]int16, len(b)/2)
		for i := range samples {
			samples[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
		}
		return samples, nil
	}
	return nil, fmt.Errorf("testbed: read speech: no %s in %s (Debian's package pocketsphinx-testdata)", name, speechDir)
}

// slower returns speech at a rate that is lower by a whole factor.
func slower(speech []int16, factor int) []int16 {
	out := make([]int16, len(speech)/factor)
	resample.NewDown(factor).Process(out, speech[:factor*len(out)])
	return out
}

// writeWAV writes speech into a file.
func writeWAV(path string, speech []int16, rate int) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("testbed: write speech: %w", err)
	}
	if err := errors.Join(wav.Encode(f, speech, rate), f.Close()); err != nil {
		return fmt.Errorf("testbed: write speech: %w", err)
	}
	return nil
}
