package exchange

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// patience is how long a client has to answer the server's half of a
	// handshake before it may give way to another: three times what the slowest
	// satellite takes.
	patience = 2 * time.Second
	// longPatience is for one that has answered something.
	longPatience = 2 * patience
)

// slots are the places of handshakes that are not finished. Whoever is new gets
// one: when there is none, the oldest handshake that was not answered gives
// way. It is not safe for concurrent use.
//
// # Why
//
// Who only begins handshakes, from addresses that are his, cannot be told from
// a phone until a phone answers, one round trip later. A newcomer that is turned
// away leaves the field to him; one that was silent for seconds is no loss. The
// source with the most gives way first, and at once, so that a source that is
// flooded by itself alone does not thrash: its newcomers wait until the others
// had time to answer.
type slots struct {
	most     int
	n        int
	bySource map[netip.Prefix][]*handshake // in the order in which they came
}

func newSlots(most int) *slots {
	return &slots{most: most, bySource: map[netip.Prefix][]*handshake{}}
}

func (s *slots) full() bool { return s.n >= s.most }

func (s *slots) add(h *handshake) {
	at := source(h.first.peer)
	s.bySource[at] = append(s.bySource[at], h)
	s.n++
}

// remove frees h's place, if it still has one.
func (s *slots) remove(h *handshake) {
	at := source(h.first.peer)
	all := s.bySource[at]
	i := slices.Index(all, h)
	if i < 0 {
		return
	}
	s.n--
	if len(all) == 1 {
		delete(s.bySource, at)
		return
	}
	s.bySource[at] = slices.Delete(all, i, i+1)
}

// victim returns which handshake gives way to a new one from a source; nil:
// none, as all had too little time.
func (s *slots) victim(from netip.AddrPort, now time.Time) *handshake {
	var largest []*handshake
	for _, all := range s.bySource {
		if len(all) > len(largest) {
			largest = all
		}
	}
	if len(largest) > len(s.bySource[source(from)])+1 {
		for _, h := range largest {
			if !h.answered.Load() {
				return h
			}
		}
		return largest[0]
	}
	var oldest *handshake
	for _, all := range s.bySource {
		for _, h := range all {
			least := patience
			if h.answered.Load() {
				least = longPatience
			}
			offered := h.offered.Load()
			if offered == 0 || now.Sub(time.Unix(0, offered)) < least {
				continue
			}
			if oldest == nil || offered < oldest.offered.Load() {
				oldest = h
			}
		}
	}
	return oldest
}

// source is what counts as one source of hellos: an IPv4 address, or the
// network that an IPv6 host may choose any address of.
func source(from netip.AddrPort) netip.Prefix {
	a := from.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	prefix, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
