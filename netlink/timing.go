package netlink

import (
	"math/rand/v2"
	"time"
)

const (
	// replaceGrace is how long a refused address is kept for a new one to take
	// its place. It covers a server that pings before it offers (one second).
	replaceGrace = 2 * time.Second
	// rebootWait is how long a server may be silent to the address we had
	// before we ask for any. A server that is not authoritative stays silent
	// about another network's address (RFC 2131 §4.3.2).
	rebootWait = time.Second
	// strangerWait is how long it may be silent when the router that we knew is asked
	// at the same time and is silent as well: likely this is another network, and
	// nothing is lost by asking for any address when it is not.
	strangerWait = 250 * time.Millisecond
	// attachWait is how long a server may be silent once the router has shown
	// that this is the network we knew (RFC 4436 §4.1).
	attachWait = 100 * time.Millisecond
	// confirmWait is when a server is asked again about a lease that was kept for the
	// router's sake: one that was slow, and not silent, may have refused it meanwhile.
	confirmWait = 2 * time.Second
	// discoversBeforeOld is how many DISCOVERs stay unanswered before a lease
	// that has not expired is used again (RFC 2131 §3.2).
	discoversBeforeOld = 3
	// firstRetry and maxRetry bound the exponential back-off. RFC 2131 §4.1
	// begins at 4 s for 10 Mbit/s Ethernet of its time; a phone that waits as
	// long as that for one lost packet is a dead phone.
	firstRetry = time.Second
	maxRetry   = 64 * time.Second
	// portRetry is how often a server is asked after the first few times, portTries
	// times, which are two minutes: the port of a switch forwards nothing for the
	// first 30 s of a spanning tree or 50 s (IEEE 802.1D), and a server comes back
	// after its phones when the power does.
	portRetry = 8 * time.Second
	portTries = 14
	// doubtGap is how long a lease that a server confirmed is not doubted again: a
	// thousand phones without their storing server ask a DHCP server 17 times a
	// second.
	doubtGap = time.Minute
	// doubtMetric is added to that of a lease that nobody confirms, or of an interface
	// that is shunned, so that another interface's routes come before it.
	doubtMetric = 1000
	// requestTries is how many REQUESTs an offer is worth (RFC 2131 §3.1.5), a
	// quarter of a minute of them. The first time it is worth firstTries, three
	// seconds: a phone that waits longer for a rogue that offered first is one that
	// cannot be called, and when nobody else offers, the server was only slow.
	requestTries = 4
	firstTries   = 2
	// declineWait follows a second address in conflict (RFC 2131 §3.1.5 asks
	// for ten seconds after any; the first time another address is asked for
	// at once).
	declineWait = 10 * time.Second
	// nakMemory is how far apart two refusals are for the second to be answered
	// at once again. An ACK between them does not count: a server may give an
	// address again and again, and refuse to renew it.
	nakMemory = time.Minute
	// minOnlySix is MIN_V6ONLY_WAIT of RFC 8925 §3.4.
	minOnlySix = 300 * time.Second
	// holdForProbe is how long an address waits for an answer to its first ARP
	// probe, from the sending of the probe. A host answers from its kernel, on
	// Ethernet within a fraction of it; who is later is heard by the probes that
	// follow, and the address goes again.
	holdForProbe = time.Millisecond
	// repairGap is the least time between two installations of the same
	// address when somebody keeps removing it.
	repairGap = time.Second
	// minRenew is the earliest T1: a server that says less is asked once a
	// second, not once a millisecond.
	minRenew = time.Second
	// forever is the lease time that never ends (RFC 2131 §3.3).
	forever = time.Duration(0xffffffff) * time.Second
)

// backoff returns the wait before transmission n+1: 0.1 to 0.6 s, since an answer is
// lost where the other end of the cable has not yet seen that this one is up; 2, 4 s,
// for two minutes 8 s, and then 16, 32, 64 s, each a quarter more or less so that a
// street that lost its power does not speak in chorus.
func backoff(r *rand.Rand, n int) time.Duration {
	d := maxRetry
	switch later := n - portTries; {
	case n == 0:
		return firstRetry/10 + time.Duration(r.Int64N(int64(firstRetry/2)))
	case n < 3:
		d = firstRetry << n
	case later < 3:
		d = portRetry
	case later < 6:
		d = portRetry << (later - 3)
	}
	return fuzz(r, d, 4)
}

// fuzz returns d more or less up to one part-th of it.
func fuzz(r *rand.Rand, d time.Duration, part int64) time.Duration {
	span := int64(d) / part
	if span <= 0 {
		return d
	}
	return d + time.Duration(r.Int64N(2*span+1)-span)
}

// leaseTimes returns T1 and T2 of a lease of length d: what the server said
// when that makes sense, else the defaults of RFC 2131 §4.4.5, T1 with some
// fuzz. 0 < T1 < T2 < d holds for every d of a millisecond or more.
func leaseTimes(r *rand.Rand, d, t1, t2 time.Duration) (time.Duration, time.Duration) {
	if t2 <= 0 || t2 >= d {
		t2 = d / 8 * 7
	}
	if t1 > 0 && t1 < t2 {
		return clampRenew(t1, t2), t2
	}
	return clampRenew(fuzz(r, min(d/2, t2/7*4), 20), t2), t2
}

func clampRenew(t1, t2 time.Duration) time.Duration {
	if t1 < minRenew {
		return min(minRenew, t2/7*4)
	}
	return t1
}

// renewRetry returns the wait before the next REQUEST of a renewal that should
// be done in left, of a span of the whole: half of what is left (RFC 2131
// §4.4.5), never less than an eighth of the span or a second, never more often
// than a minute when there is time.
func renewRetry(left, span time.Duration) time.Duration {
	floor := min(max(span/8, time.Second), time.Minute)
	return max(left/2, floor)
}

const (
	// routeGrace is how long a watcher waits for the default route that follows
	// an address. Whoever installs both does it within milliseconds; a network
	// without a router has none.
	routeGrace = time.Second
	// gapGrace is how long a watched interface may be without an address
	// before that counts as lost: other clients remove the old address before
	// they ask for another, and udhcpc rests three seconds in between.
	gapGrace = 5 * time.Second
	// fourGrace is how long a first IPv6 address waits for an IPv4 one.
	fourGrace = 300 * time.Millisecond
	// renewSlack: an expiry that moved by less is the same one, seen in whole
	// seconds.
	renewSlack = 2 * time.Second
)
