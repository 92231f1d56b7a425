package trust

import (
	"net/netip"
	"sync"
	"time"

	"flexphone/registry-client/wire"
)

// A Network is what counts as one source of requests: an IPv4 address, or the
// /64 that an IPv6 host may choose any address of.
type Network [9]byte

// NetworkOf returns a's network.
func NetworkOf(a netip.Addr) (n Network) {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		n[0] = 4
		copy(n[1:], b[:])
		return n
	}
	if a.Is6() {
		b := a.As16()
		n[0] = 6
		copy(n[1:], b[:8])
	}
	return n
}

// fingerprint makes a key of a network, which is no key's fingerprint.
func (n Network) fingerprint() (f wire.Fingerprint) {
	copy(f[:], n[:])
	return f
}

// limiterMost bounds how many sources a Limiter remembers.
const limiterMost = 1 << 16

// A Limiter lets each source do something so often. It is safe for concurrent
// use, and its memory is bounded: two generations of sources are kept, and who
// was not heard of for a whole one is forgotten.
type Limiter[K comparable] struct {
	rate, burst float64
	most        int

	mu       sync.Mutex
	now, old map[K]allowance
}

type allowance struct {
	tokens float64
	at     time.Time
}

// NewLimiter lets each source do rate a second, and burst at once.
func NewLimiter[K comparable](rate, burst float64) *Limiter[K] {
	return &Limiter[K]{rate: rate, burst: burst, most: limiterMost, now: map[K]allowance{}}
}

// Allow reports whether source may do it once more.
func (l *Limiter[K]) Allow(source K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.now[source]
	if !ok {
		if a, ok = l.old[source]; !ok {
			a = allowance{l.burst, now}
		}
		if len(l.now) >= l.most {
			l.now, l.old = make(map[K]allowance, l.most/4), l.now
		}
	}
	// A clock that was put back gives nothing, and takes nothing.
	a.tokens = min(l.burst, a.tokens+max(0, now.Sub(a.at).Seconds())*l.rate)
	a.at = now
	allowed := a.tokens >= 1
	if allowed {
		a.tokens--
	}
	l.now[source] = a
	return allowed
}
