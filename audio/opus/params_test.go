package opus

import (
	"math"
	"testing"
	"time"

	"github.com/hraban/opus"
)

func TestWishes(t *testing.T) {
	for params, want := range map[string]wishes{
		"":                            {bitrate: bitrate},
		"useinbandfec=1":              {bitrate: bitrate, fec: true},
		"useinbandfec=0":              {bitrate: bitrate},
		"minptime=10;useinbandfec=1":  {bitrate: bitrate, fec: true},
		"stereo=0; sprop-stereo=0":    {bitrate: bitrate},
		"maxplaybackrate=8000":        {bitrate: bitrate, bandwidth: opus.Narrowband},
		"maxplaybackrate=7000":        {bitrate: bitrate, bandwidth: opus.Narrowband},
		"maxplaybackrate=12000":       {bitrate: bitrate, bandwidth: opus.Mediumband},
		"maxplaybackrate=16000":       {bitrate: bitrate, bandwidth: opus.Wideband},
		"maxplaybackrate=24000":       {bitrate: bitrate, bandwidth: opus.SuperWideband},
		"maxplaybackrate=44100":       {bitrate: bitrate},
		"maxplaybackrate=48000":       {bitrate: bitrate},
		"maxplaybackrate=0":           {bitrate: bitrate},
		"maxplaybackrate=-8000":       {bitrate: bitrate},
		"maxplaybackrate=99999999999": {bitrate: bitrate},
		"MaxPlaybackRate = 16000 ; MAXAVERAGEBITRATE=12000;CBR=1": {bitrate: 12000, bandwidth: opus.Wideband, constant: true},
		"maxaveragebitrate=20000":                                 {bitrate: 20000},
		"maxaveragebitrate=510000":                                {bitrate: bitrate},
		"maxaveragebitrate=1":                                     {bitrate: lowest},
		"maxaveragebitrate=8000;maxaveragebitrate=10000":          {bitrate: 10000},
		"cbr=0;cbr=x;cbr=;cbr;=;;":                                {bitrate: bitrate},
		"cbr=1;usedtx=1":                                          {bitrate: bitrate, constant: true},
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
		if w := wishesOf(params); w.bitrate < lowest || w.bitrate > bitrate {
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
