package jitter

import "time"

const (
	// floor of the target: what the clocks of a network without jitter need. What more
	// the ends' threads need is seen as any jitter is.
	floor = 3 * time.Millisecond
	// begin is the target until something is known: enough for a packet that the next one
	// overtakes. So many packets in a row that floor would have been enough for say that
	// this network is an even one; what was waited for too long is left in so many more
	// where it is quiet for a moment, and in as many again anywhere.
	begin   = 30 * time.Millisecond
	proved  = 8
	soon    = 50
	settled = proved + 2*soon
	// step is the resolution of relative delays; steps of it are told apart. margin is
	// what is waited beyond one that is worth it.
	step   = 2 * time.Millisecond
	steps  = 150
	margin = time.Millisecond
	// keep is what is left of a weight after each packet of usual length: so many of
	// them are what counts.
	keep    = 0.998
	memory  = 1 / (1 - keep)
	usually = 20 * time.Millisecond
	// price of a percent of packets that come too late, as delay. Simulated over
	// traces of LANs, Wi-Fi and the Internet, 40 to 80 ms are equally good.
	price = 60 * time.Millisecond
	// up is how much a target may grow at a time, and down how much it shrinks in
	// usually.
	up   = 40 * time.Millisecond
	down = 200 * time.Microsecond
	// The fastest of so many packets is what the others are measured against.
	minima, perMinimum = 10, 50
	// shift is by how much a network is slower that has another way now.
	shift = 60 * time.Millisecond
	// Where even the best of so many packets in a row came later than the target,
	// what waits is not too much.
	lately = 3
)

// A network is what the packets' times say of it: how much later than the fastest
// they come, and how long it is worth to wait for them.
type network struct {
	least  [minima]time.Duration // transits, the newest at 0
	have   int                   // of least
	count  int                   // packets in the newest
	recent [lately]time.Duration
	at     int // of recent
	weight [steps]float64
	total  float64 // of these, and of what came too late for any delay
	target time.Duration
	even   int // packets in a row that floor was enough for, up to settled, where it stays
}

func newNetwork() network { return network{target: begin, total: memory} }

// hurries reports whether this network has lately proved to be an even one, so that what
// was waited for too long is left where it is quiet for a moment, or, later, anywhere.
func (n *network) hurries() (quiet, anywhere bool) {
	return n.even >= proved && n.even < settled, n.even >= proved+soon && n.even < settled
}

// restart forgets what transits are measured against: another clock. How evenly
// packets come is still believed.
func (n *network) restart() { n.have, n.count, n.least[0] = 0, 0, 0 }

// base is the transit of the fastest packet, 0 if there is none.
func (n *network) base() time.Duration {
	least := n.least[0]
	for _, t := range n.least[min(1, n.have):n.have] {
		least = min(least, t)
	}
	return least
}

// arrive takes the transit of a packet of some length: when it came by our clock,
// less when it was made by that of its timestamps.
func (n *network) arrive(transit, length time.Duration) {
	if n.have == 0 {
		n.have, n.count, n.least[0] = 1, 0, transit
		for i := range n.recent {
			n.recent[i] = transit
		}
	}
	n.recent[n.at] = transit
	n.at = (n.at + 1) % lately
	if n.count == perMinimum {
		n.nextMinimum(transit)
	}
	n.count++
	n.least[0] = min(n.least[0], transit)
	part := float64(length) / float64(usually)
	late := transit - n.base()
	n.weigh(late, part)
	shrink := time.Duration(part * float64(down))
	switch known := n.even >= proved; {
	case n.even == settled:
	case late > floor && known:
		n.even = settled
	case late > floor:
		n.even = 0
	default:
		if n.even++; n.even == proved {
			shrink = begin
		}
	}
	n.aim(shrink)
}

func (n *network) nextMinimum(transit time.Duration) {
	before := n.base()
	copy(n.least[1:], n.least[:minima-1])
	n.have, n.count, n.least[0] = min(n.have+1, minima), 0, transit
	// What was late by the old way is in time by the new one.
	if risen := n.base() - before; risen >= shift {
		k := min(int(risen/step), steps)
		soon := 0.0
		for _, w := range n.weight[:k] {
			soon += w
		}
		copy(n.weight[:], n.weight[k:])
		clear(n.weight[steps-k:])
		n.weight[0] += soon
		n.target = max(n.target-risen, floor)
	}
}

// weigh enters a relative delay into the histogram.
func (n *network) weigh(late time.Duration, weight float64) {
	left := 1 - (1-keep)*weight
	for i := range n.weight {
		n.weight[i] *= left
	}
	n.total = n.total*left + weight
	if i := int(late / step); i < steps {
		n.weight[i] += weight
	}
}

// aim moves the target towards the delay that costs least: itself, and what comes
// too late for it. It shrinks by so much at most.
func (n *network) aim(shrink time.Duration) {
	best, least := time.Duration(0), time.Duration(1<<62)
	late := 0.0 // but for what is late for any
	for i := steps - 1; i >= 0; i-- {
		d := time.Duration(i+1) * step
		if cost := d + time.Duration(float64(price)*100*late/n.total); cost <= least {
			best, least = d, cost
		}
		late += n.weight[i]
	}
	want := max(best+margin, floor)
	switch {
	case want > n.target:
		n.target = min(want, n.target+up)
	default:
		n.target = max(want, n.target-shrink)
	}
}

// wanted is the delay to play with, after the fastest packet.
func (n *network) wanted() time.Duration {
	if n.have == 0 {
		return n.target
	}
	soonest := n.recent[0]
	for _, t := range n.recent[1:] {
		soonest = min(soonest, t)
	}
	return max(n.target, soonest-n.base())
}
