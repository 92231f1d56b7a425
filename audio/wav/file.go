package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// headerSize is that of the files we write: RIFF, WAVE, fmt and data.
const headerSize = 44

// maxSound is the most bytes of sound that are taken from one file: half an
// hour at 48 kHz.
const maxSound = 48000 * 2 * 1800

var errFormat = errors.New("want 16-bit mono PCM at 8000, 16000 or 48000 Hz")

func rateOK(rate int) bool { return rate == 8000 || rate == 16000 || rate == 48000 }

// Decode reads a whole WAV file: 16-bit mono PCM at 8, 16 or 48 kHz. Chunks that
// it does not know are passed over. A file that was cut short, or whose writer
// did not live to fill in the lengths, is read as far as it goes.
func Decode(file io.Reader) (samples []int16, rate int, err error) {
	r := &counter{Reader: file}
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, fmt.Errorf("wav: read header: %w", err)
	}
	if string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return nil, 0, errors.New("wav: read header: no RIFF WAVE file")
	}
	length := binary.LittleEndian.Uint32(head[4:])
	unknown := func() bool { return int64(length)+8 <= r.read || length == math.MaxUint32 }
	for {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); err != nil {
			return nil, 0, fmt.Errorf("wav: find sound: %w", err)
		}
		size := int64(binary.LittleEndian.Uint32(chunk[4:]))
		switch string(chunk[:4]) {
		case "fmt ":
			if rate, err = decodeFormat(r, size); err != nil {
				return nil, 0, fmt.Errorf("wav: read format: %w", err)
			}
		case "data":
			if rate == 0 {
				return nil, 0, errors.New("wav: find sound: no format before it")
			}
			if size == 0 && unknown() {
				size = maxSound // nobody said how much there is
			}
			b, err := io.ReadAll(io.LimitReader(r, min(size, maxSound)))
			if err != nil {
				return nil, 0, fmt.Errorf("wav: read sound: %w", err)
			}
			samples = make([]int16, len(b)/2)
			for i := range samples {
				samples[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
			}
			return samples, rate, nil
		default:
			if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
				return nil, 0, fmt.Errorf("wav: pass over chunk %q: %w", chunk[:4], err)
			}
		}
	}
}

// A counter knows how far a file was read.
type counter struct {
	io.Reader
	read int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read += int64(n)
	return n, err
}

func decodeFormat(r io.Reader, size int64) (rate int, err error) {
	var f [16]byte
	if size < int64(len(f)) {
		return 0, fmt.Errorf("%d bytes: %w", size, errFormat)
	}
	if _, err := io.ReadFull(r, f[:]); err != nil {
		return 0, err
	}
	rest := size - int64(len(f))
	if _, err := io.CopyN(io.Discard, r, rest+size&1); err != nil {
		return 0, err
	}
	const pcm, extensible = 1, 0xfffe
	kind := binary.LittleEndian.Uint16(f[0:])
	channels := binary.LittleEndian.Uint16(f[2:])
	rate = int(binary.LittleEndian.Uint32(f[4:]))
	bits := binary.LittleEndian.Uint16(f[14:])
	if kind != pcm && kind != extensible || channels != 1 || bits != 16 || !rateOK(rate) {
		return 0, fmt.Errorf("format %d, %d channels, %d bits, %d Hz: %w", kind, channels, bits, rate, errFormat)
	}
	return rate, nil
}

// Encode writes a whole WAV file.
func Encode(w io.Writer, samples []int16, rate int) error {
	b := append(appendHeader(nil, rate, len(samples)), make([]byte, 2*len(samples))...)
	putSamples(b[headerSize:], samples)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("wav: write file: %w", err)
	}
	return nil
}

func putSamples(b []byte, samples []int16) {
	for i, s := range samples {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(s))
	}
}

func appendHeader(b []byte, rate, samples int) []byte {
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, uint32(headerSize-8+2*samples))
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, 1) // PCM
	b = le.AppendUint16(b, 1) // mono
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(2*rate))
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 16)
	b = append(b, "data"...)
	return le.AppendUint32(b, uint32(2*samples))
}
