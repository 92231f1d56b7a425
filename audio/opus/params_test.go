package opus

import (
	"math"
	"testing"
	"time"

	"github.com/hraban/opus"

	"flexphone/audio"
)

func TestWishes(t *testing.T) {
	for params, want := range map[string]wishes{
		"":                            {most: highest},
		"useinbandfec=1":              {most: highest, fec: true},
		"useinbandfec=0":              {most: highest},
		"minptime=10;useinbandfec=1":  {most: highest, fec: true},
		"stereo=0; sprop-stereo=0":    {most: highest},
		"maxplaybackrate=8000":        {most: highest, bandwidth: opus.Narrowband},
		"maxplaybackrate=7000":        {most: highest, bandwidth: opus.Narrowband},
		"maxplaybackrate=12000":       {most: highest, bandwidth: opus.Mediumband},
		"maxplaybackrate=16000":       {most: highest, bandwidth: opus.Wideband},
		"maxplaybackrate=24000":       {most: highest, bandwidth: opus.SuperWideband},
		"maxplaybackrate=44100":       {most: highest},
		"maxplaybackrate=48000":       {most: highest},
		"maxplaybackrate=0":           {most: highest},
		"maxplaybackrate=-8000":       {most: highest},
		"maxplaybackrate=99999999999": {most: highest},
		"MaxPlaybackRate = 16000 ; MAXAVERAGEBITRATE=12000;CBR=1": {most: 12000, bandwidth: opus.Wideband, constant: true},
		"maxaveragebitrate=20000":                                 {most: 20000},
		"maxaveragebitrate=510000":                                {most: highest},
		"maxaveragebitrate=1":                                     {most: lowest},
		"maxaveragebitrate=8000;maxaveragebitrate=10000":          {most: 10000},
		"cbr=0;cbr=x;cbr=;cbr;=;;":                                {most: highest},
		"cbr=1;usedtx=1":                                          {most: highest, constant: true, dtx: true},
		"usedtx=0":                                                {most: highest},
	} {
		if got := wishesOf(params); got != want {
			t.Errorf("%q: %+v, want %+v", params, got, want)
		}
	}
}

// The packets themselves say what was done: their first byte the bandwidth
// (RFC 6716, section 3.1), their lengths the bit rate.
func TestPacketsAreAsThePeerAsksForThem(t *testing.T) {
	for _, tt := range []struct {
		params   string
		widest   int // of bandwidths from 0, narrow, to 4, full
		most     int // bits per second, on the average
		constant bool
	}{
		{"", 4, bitrate, false},
		{"maxplaybackrate=8000;maxaveragebitrate=8000", 0, 8000, false},
		{"maxplaybackrate=12000", 1, bitrate, false},
		{"maxplaybackrate=16000;maxaveragebitrate=16000", 2, 16000, false},
		{"cbr=1;maxaveragebitrate=12000", 4, 12000, true},
		{"useinbandfec=1", 4, bitrate, false},
	} {
		for _, rate := range []int{8000, 16000, 48000} {
			e, err := Format{}.NewEncoder(rate, 20*time.Millisecond, tt.params)
			if err != nil {
				t.Fatal(err)
			}
			const packets = 250 // 5 s
			pcm, b := make([]int16, rate/50), make([]byte, 1300)
			bits, first, seed := 0, 0, uint32(1)
			for n := range packets {
				for i := range pcm {
					x := 2 * math.Pi * float64(n*len(pcm)+i) / float64(rate)
					seed = seed*1664525 + 1013904223 // something in every band
					pcm[i] = int16((4000*math.Sin(150*x) + 3000*math.Sin(450*x)) * (1 + math.Sin(3*x)) / 2)
					pcm[i] += int16(seed>>16) / 16
				}
				size, err := e.Encode(b, pcm)
				if err != nil {
					t.Fatal(err)
				}
				if got := bandwidth(b[0]); got > tt.widest {
					t.Fatalf("%q at %d Hz: bandwidth %d, want %d at most", tt.params, rate, got, tt.widest)
				}
				if n == 0 {
					first = size
				} else if tt.constant && size != first {
					t.Fatalf("%q at %d Hz: packets of %d and of %d bytes", tt.params, rate, first, size)
				}
				bits += 8 * size
			}
			if average := bits * 50 / packets; average > tt.most*21/20 {
				t.Errorf("%q at %d Hz: %d bit/s, want %d", tt.params, rate, average, tt.most)
			}
		}
	}
}

// Silence is left out where the peer asks for that, but for a packet now and then,
// and words are not.
func TestSilenceIsLeftOutWhereThePeerAsks(t *testing.T) {
	for params, wanted := range map[string]bool{"": false, "usedtx=1": true, "usedtx=0": false, "useinbandfec=1;usedtx=1": true} {
		for _, rate := range []int{8000, 16000, 48000} {
			f, err := Format{}.NewEncoder(rate, 20*time.Millisecond, params)
			if err != nil {
				t.Fatal(err)
			}
			pcm, b, seed := make([]int16, rate/50), make([]byte, 1300), uint32(1)
			left, row, longest := 0, 0, 0
			for n := range 300 {
				for i := range pcm {
					seed = seed*1664525 + 1013904223
					pcm[i] = int16(seed>>16) / 4096 // a room
					if n < 100 || n >= 250 {
						x := 2 * math.Pi * float64(n*len(pcm)+i) / float64(rate)
						pcm[i] += int16((4000*math.Sin(150*x) + 3000*math.Sin(450*x)) * (1 + math.Sin(3*x)) / 2)
					}
				}
				size, err := f.Encode(b, pcm)
				if err != nil {
					t.Fatal(err)
				}
				row++
				if size > 0 {
					row = 0
				} else if left++; n < 100 || n >= 250 {
					t.Fatalf("%q at %d Hz: a word is left out", params, rate)
				}
				longest = max(longest, row)
			}
			if wanted != (left > 90) || longest > 20 {
				t.Errorf("%q at %d Hz: %d packets of 150 were left out, %d in a row", params, rate, left, longest)
			}
		}
	}
}

// Loss is believed at once and forgotten slowly, and packets grow and shrink with
// what is repeated in them, without allocating.
func TestEncoderGoesByLoss(t *testing.T) {
	e, err := Format{}.NewEncoder(16000, 20*time.Millisecond, "useinbandfec=1")
	if err != nil {
		t.Fatal(err)
	}
	adapter := e.(audio.Adapter)
	pcm, b, at := make([]int16, 320), make([]byte, 1300), 0
	second := func() (bits int) {
		for range 50 {
			for i := range pcm {
				x := 2 * math.Pi * float64(at) / 16000
				pcm[i] = int16((4000*math.Sin(150*x) + 3000*math.Sin(450*x)) * (1 + math.Sin(3*x)) / 2)
				at++
			}
			n, err := e.Encode(b, pcm)
			if err != nil {
				t.Fatal(err)
			}
			bits += 8 * n
		}
		return bits
	}
	second()
	well := second()
	if err := adapter.Adapt(audio.Reported{Lost: 0.12}); err != nil {
		t.Fatal(err)
	}
	second()
	if ill := second(); ill < well*3/2 {
		t.Errorf("%d bit/s without loss, %d with", well, ill)
	}
	reports := 0
	for second() > well*11/10 {
		if err := adapter.Adapt(audio.Reported{}); err != nil || reports > 20 {
			t.Fatalf("after %d good reports %d bit/s still, %v", reports, second(), err)
		}
		reports++
	}
	if reports < 3 {
		t.Errorf("loss was forgotten after %d reports", reports)
	}
	if n := testing.AllocsPerRun(10, func() { adapter.Adapt(audio.Reported{Lost: 0.1}); adapter.Adapt(audio.Reported{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// bandwidth is that of a packet whose first byte is toc: 0 narrow, 1 medium, 2
// wide, 3 superwide, 4 full (RFC 6716, table 2).
func bandwidth(toc byte) int {
	switch config := toc >> 3; {
	case config < 12:
		return int(config / 4)
	case config < 16:
		return 3 + int(config-12)/2
	default:
		return []int{0, 2, 3, 4}[(config-16)/4]
	}
}

// FuzzParams: whatever a peer asks for, there is an encoder that does what can be
// done.
func FuzzParams(f *testing.F) {
	f.Add("maxplaybackrate=16000; sprop-maxcapturerate=16000; maxaveragebitrate=20000; stereo=1; useinbandfec=1; usedtx=0")
	f.Add("minptime=10;cbr=1")
	f.Add("=;;maxaveragebitrate=-1;\x00=\xff")
	f.Fuzz(func(t *testing.T, params string) {
		if w := wishesOf(params); w.most < lowest || w.most > highest {
			t.Fatalf("%+v", w)
		}
		e, err := Format{}.NewEncoder(16000, 20*time.Millisecond, params)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := e.Encode(make([]byte, 1300), make([]int16, 320)); err != nil || n == 0 {
			t.Fatalf("%d bytes, %v", n, err)
		}
	})
}
