package srtp

import "time"

// Times of doubt.
const (
	// deafTime is how long nothing of what comes from the peer's place may open,
	// and deafPackets how many there must have been, until the keys are doubted.
	deafTime    = time.Second
	deafPackets = 10
	// renewPause is between two times that the keys are made new.
	renewPause = 10 * time.Second
)

// A doubt decides when the keys are to be made new: when so many packets are
// missing that the context may lose count, or already has (a peer's packets do not
// open any more, and come on).
type doubt struct {
	since   time.Time // of the first that did not open after the last that did
	refused int
	renewed time.Time
}

// opened: a packet has opened. It reports whether new keys are due.
func (d *doubt) opened(jumped bool, now time.Time) bool {
	d.refused = 0
	return jumped && d.renew(now)
}

// shut: a packet from where the peer is did not open.
func (d *doubt) shut(now time.Time) bool {
	if d.refused == 0 {
		d.since = now
	}
	d.refused++
	return d.refused >= deafPackets && now.Sub(d.since) >= deafTime && d.renew(now)
}

func (d *doubt) renew(now time.Time) bool {
	if !d.renewed.IsZero() && now.Sub(d.renewed) < renewPause {
		return false
	}
	d.renewed, d.refused = now, 0
	return true
}
