package opus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hraban/opus"
)

// lowest is the least bit rate that maxaveragebitrate may ask for (RFC 7587,
// section 6.1).
const lowest = 6000

// wishes are what a peer asks of those who send to it (RFC 7587, section 6.1), as
// far as it makes a difference to mono speech. That it wants no stereo is met by
// all that we send. DTX (usedtx) is left to it: whoever hears nothing of a peer for
// long takes it for lost. sprop-… is what it sends itself.
type wishes struct {
	bandwidth opus.Bandwidth // 0: any
	bitrate   int            // bits per second
	constant  bool           // cbr
	fec       bool           // useinbandfec: it can use the redundancy that comes with a loss rate
}

// wishesOf reads what stands behind a=fmtp. What cannot be read is no wish; of two
// the later one counts.
func wishesOf(params string) wishes {
	w := wishes{bitrate: bitrate}
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
			w.bitrate = max(lowest, min(bitrate, int(n)))
		case "cbr":
			w.constant = n == 1
		case "useinbandfec":
			w.fec = n == 1
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

// meet makes e do what w says.
func (w wishes) meet(e *opus.Encoder) error {
	if err := e.SetBitrate(w.bitrate); err != nil {
		return fmt.Errorf("opus: set bit rate of %d: %w", w.bitrate, err)
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
	return nil
}
