package opus

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hraban/opus"
)

// wishes are what a peer asks of those who send to it (RFC 7587, section 6.1), as
// far as it makes a difference to mono speech. That it wants no stereo is met by
// all that we send. Where it wants silence left out (usedtx), libopus sends a packet
// each 400 ms all the same, so that nobody takes us for lost. sprop-… is what it sends
// itself.
type wishes struct {
	bandwidth opus.Bandwidth // 0: any
	most      int            // bits per second
	constant  bool           // cbr
	fec       bool           // useinbandfec: it can use the redundancy that comes with a loss rate
	dtx       bool           // usedtx
}

// wishesOf reads what stands behind a=fmtp. What cannot be read is no wish; of two
// the later one counts.
func wishesOf(params string) wishes {
	w := wishes{most: highest}
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
		if err != nil {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "maxplaybackrate":
			w.bandwidth = bandwidthOf(int(n))
		case "maxaveragebitrate":
			w.most = max(lowest, min(highest, int(n)))
		case "cbr":
			w.constant = n == 1
		case "useinbandfec":
			w.fec = n == 1
		case "usedtx":
			w.dtx = n == 1
		}
	}
	return w
}

// bandwidthOf is the narrowest bandwidth with all that can be heard at a rate of
// playback in Hz (RFC 7587, section 3.1.1); 0: every one.
func bandwidthOf(rate int) opus.Bandwidth {
	switch {
	case rate == 0 || rate > 24000:
		return 0
	case rate <= 8000:
		return opus.Narrowband
	case rate <= 12000:
		return opus.Mediumband
	case rate <= 16000:
		return opus.Wideband
	}
	return opus.SuperWideband
}

// usual is the bit rate for packets of a duration, where nothing is lost.
func (w wishes) usual(packet time.Duration) int {
	if packet < 20*time.Millisecond {
		return min(shortBitrate, w.most)
	}
	return min(bitrate, w.most)
}

// meet makes e, of packets of a duration, do what w says.
func (w wishes) meet(e *opus.Encoder, packet time.Duration) error {
	if err := e.SetBitrate(w.usual(packet)); err != nil {
		return fmt.Errorf("opus: set bit rate of %d: %w", w.most, err)
	}
	if w.bandwidth != 0 {
		if err := e.SetMaxBandwidth(w.bandwidth); err != nil {
			return fmt.Errorf("opus: set bandwidth: %w", err)
		}
	}
	if err := e.SetVBR(!w.constant); err != nil {
		return fmt.Errorf("opus: set constant bit rate: %w", err)
	}
	if err := e.SetInBandFEC(w.fec); err != nil {
		return fmt.Errorf("opus: set redundancy: %w", err)
	}
	if err := e.SetDTX(w.dtx); err != nil {
		return fmt.Errorf("opus: set discontinuous transmission: %w", err)
	}
	return nil
}
