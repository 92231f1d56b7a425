package wav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, samples []int16, rate int) string {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, samples, rate); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "capture.wav")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func count(n int) []int16 {
	s := make([]int16, n)
	for i := range s {
		s[i] = int16(i + 1)
	}
	return s
}

func TestCaptureGoesRoundInRealTimeAndPlaybackIsRecorded(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		synctest.Test(t, func(t *testing.T) {
			spoken := count(rate/100*5/2 + 3) // two and a half ticks, and a bit
			playback := filepath.Join(t.TempDir(), "playback.wav")
			d, err := Open(write(t, spoken, rate), playback)
			if err != nil {
				t.Fatal(err)
			}
			if d.Rate() != rate {
				t.Fatalf("rate %d", d.Rate())
			}
			var heard, played []int16
			begin := time.Now()
			const ticks = 123
			for range ticks {
				play, captured := make([]int16, rate/100), make([]int16, rate/100)
				for i := range play {
					play[i] = int16(len(played) + i)
				}
				played = append(played, play...)
				if err := d.Exchange(t.Context(), play, captured); err != nil {
					t.Fatal(err)
				}
				heard = append(heard, captured...)
			}
			if took := time.Since(begin); took != ticks*10*time.Millisecond {
				t.Errorf("%d ticks took %v", ticks, took)
			}
			for i, s := range heard {
				if s != spoken[i%len(spoken)] {
					t.Fatalf("sample %d is %d", i, s)
				}
			}
			// Whoever reads the file now finds it whole, up to half a second.
			if got, _, err := readFile(playback); err != nil || len(got) != rate || !slices.Equal(got, played[:rate]) {
				t.Errorf("while recording: %d samples, %v", len(got), err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if got, r, err := readFile(playback); err != nil || r != rate || !slices.Equal(got, played) {
				t.Errorf("after closing: %d samples of %d, %v", len(got), len(played), err)
			}

			// A phone that is started again goes on in the same file.
			d, err = Open("", playback)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Exchange(t.Context(), played[:rate/100], make([]int16, rate/100)); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			want := append(played, played[:rate/100]...)
			if got, _, err := readFile(playback); err != nil || !slices.Equal(got, want) {
				t.Errorf("continued: %d samples of %d, %v", len(got), len(want), err)
			}
		})
	}
}

func TestTicksThatWereLateAreMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := Open("", "")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		pcm := make([]int16, d.Rate()/100)
		begin := time.Now()
		exchange := func() time.Duration {
			if err := d.Exchange(t.Context(), pcm, pcm); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		exchange()
		time.Sleep(35 * time.Millisecond) // the engine was slow; now it is 45
		for range 3 {
			if at := exchange(); at != 45*time.Millisecond {
				t.Errorf("a tick that was due came at %v", at)
			}
		}
		if at := exchange(); at != 50*time.Millisecond {
			t.Errorf("the next one came at %v", at)
		}
		time.Sleep(time.Minute) // the machine was asleep
		woke := time.Since(begin)
		if at := exchange(); at != woke+10*time.Millisecond {
			t.Errorf("after a stop until %v a tick came at %v", woke, at)
		}
	})
}

func TestExchangeEndsWithItsContextAndDoesNotAllocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(write(t, count(1000), 8000), filepath.Join(t.TempDir(), "p.wav"))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		play, captured := make([]int16, 80), make([]int16, 80)
		ctx, cancel := context.WithCancel(t.Context())
		if a := testing.AllocsPerRun(200, func() { d.Exchange(ctx, play, captured) }); a != 0 {
			t.Errorf("%v allocations a tick", a)
		}
		cancel()
		if err := d.Exchange(ctx, play, captured); !errors.Is(err, context.Canceled) {
			t.Errorf("err %v", err)
		}
	})
}

func TestFilesThatAreNotOursAreRefused(t *testing.T) {
	good := appendHeader(nil, 16000, 0)
	change := func(at int, v ...byte) []byte {
		b := slices.Clone(good)
		copy(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"text":      []byte("this is no sound, but long enough to be a header of it"),
		"short":     good[:20],
		"no data":   good[:36],
		"stereo":    change(22, 2),
		"8 bits":    change(34, 8),
		"44.1 kHz":  change(24, 0x44, 0xac),
		"float":     change(20, 3),
		"fmt short": change(16, 4),
	} {
		f := filepath.Join(t.TempDir(), "f.wav")
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f, ""); err == nil {
			t.Errorf("%s: taken for sound", name)
		}
		if _, err := Open("", f); err == nil {
			t.Errorf("%s: recorded into", name)
		}
		if got, _ := os.ReadFile(f); !bytes.Equal(got, b) {
			t.Errorf("%s: overwritten", name)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.wav"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	eight := write(t, count(10), 8000)
	if _, err := Open(write(t, count(10), 16000), eight); err == nil {
		t.Error("a recording was continued at another rate")
	}
}

// A writer that was killed left the lengths of its first moment, whatever these
// were; what it wrote of sound is there, and is continued.
func TestRecordingWhoseWriterWasKilled(t *testing.T) {
	sound := count(1000)
	var whole bytes.Buffer
	if err := Encode(&whole, sound, 16000); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		riff, data uint32
		cut        int // bytes, from the end
		after      []byte
		want       int // samples
	}{
		"both 0":                {0, 0, 0, nil, 1000},
		"of an empty file":      {36, 0, 0, nil, 1000},
		"both unknown":          {math.MaxUint32, math.MaxUint32, 0, nil, 1000},
		"RIFF unknown, data 0":  {math.MaxUint32, 0, 0, nil, 1000},
		"RIFF 0, data right":    {0, 2000, 0, nil, 1000},
		"data too long":         {0, 4000, 0, nil, 1000},
		"half a sample":         {0, 0, 1, nil, 999},
		"nothing at all":        {0, 0, 2000, nil, 0},
		"really empty":          {48, 0, 2000, []byte("LIST\x04\x00\x00\x00abcd"), 0},
		"lengths of before":     {36 + 1000, 1000, 0, nil, 500},
		"lengths of after this": {36 + 2002, 2002, 0, nil, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			b := append(bytes.Clone(whole.Bytes()[:whole.Len()-c.cut]), c.after...)
			le.PutUint32(b[4:], c.riff)
			le.PutUint32(b[40:], c.data)
			got, rate, err := Decode(bytes.NewReader(b))
			if err != nil || rate != 16000 || !slices.Equal(got, sound[:c.want]) {
				t.Fatalf("%d samples at %d Hz of %d, %v", len(got), rate, c.want, err)
			}
			if c.after != nil {
				return // not one of ours
			}
			file := filepath.Join(t.TempDir(), "playback.wav")
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				d, err := Open("", file)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Exchange(t.Context(), count(160), make([]int16, 160)); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}
			want := slices.Concat(sound[:c.want], count(160), count(160))
			if got, _, err := readFile(file); err != nil || !slices.Equal(got, want) {
				t.Errorf("continued: %d samples of %d, %v", len(got), len(want), err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	var b bytes.Buffer
	if err := Encode(&b, count(20), 8000); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:50])
	list := append([]byte{}, b.Bytes()[:36]...)
	list = append(list, "LIST\x03\x00\x00\x00abc\x00"...)
	f.Add(append(list, b.Bytes()[36:]...))
	f.Add(binary.LittleEndian.AppendUint32([]byte("RIFFxxxxWAVEjunk"), 0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, rate, err := Decode(bytes.NewReader(b))
		if err != nil {
			return
		}
		if !rateOK(rate) {
			t.Fatalf("rate %d", rate)
		}
		var again bytes.Buffer
		if err := Encode(&again, samples, rate); err != nil {
			t.Fatal(err)
		}
		back, r, err := Decode(&again)
		if err != nil || r != rate || !slices.Equal(back, samples) {
			t.Fatalf("round trip: %d samples of %d, %v", len(back), len(samples), err)
		}
	})
}
