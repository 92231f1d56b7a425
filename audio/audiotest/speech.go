package audiotest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"flexphone/audio/resample"
)

// Recorded is the speech that tests speak: of Debian's pocketsphinx-testdata,
// 16 kHz.
const Recorded = "/usr/share/pocketsphinx/test/data"

// Speech returns the named recording of Recorded, one of its .raw files, at
// rate. The test is skipped, with the reason, where the package is missing.
func Speech(t testing.TB, name string, rate int) []int16 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Recorded, name))
	if err != nil {
		t.Skipf("recorded speech is not here: install pocketsphinx-testdata (%v)", err)
	}
	pcm := make([]int16, len(b)/2/320*320) // whole ticks
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	switch rate {
	case 8000:
		out := make([]int16, len(pcm)/2)
		resample.NewDown(2).Process(out, pcm)
		return out
	case 48000:
		out := make([]int16, len(pcm)*3)
		resample.NewUp(3).Process(out, pcm)
		return out
	}
	return pcm
}
