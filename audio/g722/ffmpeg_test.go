package g722

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"flexphone/audio/audiotest"
)

// signal is two seconds of what is hard for a codec: a tone that sweeps through
// both bands, silence, noise, steps, and a voice-like sound that comes and goes.
func signal() []int16 {
	r := rand.New(rand.NewPCG(7, 22))
	pcm := make([]int16, 2*rate)
	phase := 0.0
	for i := range pcm {
		x := float64(i) / rate
		switch {
		case i < rate/2:
			phase += 2 * math.Pi * (50 + 15000*x) / rate
			pcm[i] = int16(12000 * math.Sin(phase))
		case i < rate*3/4:
		case i < rate:
			pcm[i] = int16(r.IntN(16000) - 8000)
		case i < rate*5/4:
			pcm[i] = int16(6000 * (1 - 2*(i/100%2)))
		default:
			pcm[i] = int16((5000*math.Sin(2*math.Pi*140*x) + 3000*math.Sin(2*math.Pi*980*x) + 900*math.Sin(2*math.Pi*5100*x)) *
				(1 + math.Sin(2*math.Pi*3*x)) / 2)
		}
	}
	return pcm
}

func encode(pcm []int16) []byte {
	b := make([]byte, len(pcm)/2)
	NewCoder().Encode(b, pcm)
	return b
}

func decode(b []byte) []int16 {
	pcm := make([]int16, 2*len(b))
	NewDecoder().Decode(pcm, b)
	return pcm
}

func inBytes(pcm []int16) []byte {
	var b []byte
	for _, v := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

// The filters are not part of the standard's sequences. With them, this is what
// ffmpeg 5.1.9 makes of the same, by the commands of TestSameAsFFmpeg.
func TestGolden(t *testing.T) {
	codes := encode(signal())
	if got := crc32.ChecksumIEEE(codes); got != goldenCodes {
		t.Errorf("codes: checksum %#08x, want %#08x", got, goldenCodes)
	}
	if got := crc32.ChecksumIEEE(inBytes(decode(codes))); got != goldenSound {
		t.Errorf("sound: checksum %#08x, want %#08x", got, goldenSound)
	}
}

const goldenCodes, goldenSound = 0x555e0ba2, 0x6beceb95

// anything is half a minute of whatever a microphone may be given, at levels from next to
// nothing to a third of full scale: noise, tones, steps and clicks, each for 50 ms, as
// they come.
func anything() []int16 {
	r := rand.New(rand.NewPCG(7, 22))
	var pcm []int16
	for range 600 {
		level := 10 * math.Pow(1000, r.Float64())
		kind, turns, held := r.IntN(5), 0.5*r.Float64(), 1+r.IntN(40)
		v := 0.0
		for i := range rate / 20 {
			switch kind {
			case 0:
				v = 2*r.Float64() - 1
			case 1:
				v = math.Sin(2 * math.Pi * turns * float64(i))
			case 2:
				v = math.Sin(2*math.Pi*turns*float64(i))/2 + r.Float64() - 0.5
			case 3:
				if i%held == 0 {
					v = 2*r.Float64() - 1
				}
			case 4:
				if v = 0; r.IntN(held) == 0 {
					v = float64(1 - 2*r.IntN(2))
				}
			}
			pcm = append(pcm, int16(level*v))
		}
	}
	return pcm
}

// Another implementation makes the same bytes and the same sound: of tones,
// noise, speech, and of bytes that no coder makes. Only of sound that reaches the
// limits of the bands does it make something else, since it does not have LIMIT
// (clause 6.2.1) behind the transmit filter.
func TestSameAsFFmpeg(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skipf("the second opinion is not here: install ffmpeg (%v)", err)
	}
	ffmpeg := func(in []byte, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "ffmpeg", append([]string{"-v", "error"}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		return out
	}
	raw := []string{"-f", "s16le", "-ar", "16000", "-ac", "1"}
	g722 := []string{"-f", "g722", "-c:a", "g722"}
	in, out := []string{"-i", "-"}, []string{"-"}
	sounds := map[string][]int16{"signal": signal(), "anything": anything(), "speech": audiotest.Speech(t, "goforward.raw", rate)}
	streams := map[string][]byte{"noise": make([]byte, 400000)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range streams["noise"] {
		streams["noise"][i] = byte(r.Uint32())
	}
	for name, pcm := range sounds {
		want := ffmpeg(inBytes(pcm), slices.Concat(raw, in, g722, out)...)
		if got := encode(pcm); !bytes.Equal(got, want) {
			t.Errorf("%s: encoded differently", name)
		}
		streams[name] = want
	}
	for name, b := range streams {
		want := ffmpeg(b, slices.Concat([]string{"-f", "g722"}, in, raw, out)...)
		if got := inBytes(decode(b)); !bytes.Equal(got, want) {
			t.Errorf("%s: decoded differently", name)
		}
	}
}
