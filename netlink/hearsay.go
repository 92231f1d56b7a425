package netlink

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
)

// A hearsay is what the routers of a link say: prefixes, name servers or domains,
// each for its lifetime. It is without I/O and without a clock.
//
// A router that came back with another prefix does not say that the old one is
// gone (RFC 8978); it says the new one only. What a router has left out since goes
// behind what it says now, and two routers that say different things are both
// believed, in an order that their speaking in turn does not change.
type hearsay[T comparable] struct {
	said []saying[T]
}

type saying[T comparable] struct {
	what  T
	by    netip.Addr
	last  time.Time
	until time.Time // zero: for ever
	// missed is when its router first spoke and left it out, in another breath than
	// that in which it last said it; stale when it did staleAfter that. Zero: not yet.
	missed, stale time.Time
}

const (
	// oneBreath is how far apart the parts of one advertisement are, which may be
	// several packets (RFC 4861 §6.2.3).
	oneBreath = time.Second
	// staleAfter and staleWait: a router that spoke so long after it last said a
	// thing, and did not say it in so long after that, does not mean it any more.
	staleAfter = 5 * time.Second
	staleWait  = 3 * time.Second
	// maxAdvertise is the longest that a router may be silent (RFC 4861 §6.2.1,
	// MaxRtrAdvInterval).
	maxAdvertise = 30 * time.Minute
	// maxHearsay bounds what is kept, whatever a link says.
	maxHearsay = 32
)

// say records what a router says, for a lifetime; none ends it, and a negative one
// is for ever.
func (h *hearsay[T]) say(now time.Time, by netip.Addr, life time.Duration, what ...T) {
	h.forget(now)
	for i := range h.said {
		if s := &h.said[i]; s.by == by {
			silent := now.Sub(s.last)
			if silent >= oneBreath && s.missed.IsZero() {
				s.missed = now
			}
			if silent >= staleAfter && s.stale.IsZero() {
				s.stale = now
			}
		}
	}
	for _, w := range what {
		i := slices.IndexFunc(h.said, func(s saying[T]) bool { return s.what == w && s.by == by })
		switch {
		case life == 0 && i >= 0:
			h.said = slices.Delete(h.said, i, i+1)
		case life == 0:
		case i < 0 && len(h.said) >= maxHearsay:
		default:
			s := saying[T]{what: w, by: by, last: now}
			if life > 0 {
				s.until = now.Add(life)
			}
			if i < 0 {
				h.said = append(h.said, s)
			} else {
				h.said[i] = s
			}
		}
	}
}

// forget drops what has run out.
func (h *hearsay[T]) forget(now time.Time) {
	h.said = slices.DeleteFunc(h.said, func(s saying[T]) bool { return moment.Passed(now, s.until) })
}

// known returns what holds, each once: what the routers still say before what they
// left out.
func (h *hearsay[T]) known(now time.Time) (out []T) {
	h.forget(now)
	for _, left := range []bool{false, true} {
		for _, s := range h.said {
			if s.leftOut(now) == left && !slices.Contains(out, s.what) {
				out = append(out, s.what)
			}
		}
	}
	return out
}

// leftOut reports whether a saying's router has left it out, and not only for the
// moment between two packets.
func (s saying[T]) leftOut(now time.Time) bool {
	return moment.Passed(now, moment.Later(s.missed, oneBreath))
}

// gone reports whether it does not mean it any more.
func (s saying[T]) gone(now time.Time) bool {
	return moment.Passed(now, moment.Later(s.stale, staleWait))
}

// standing says what of a thing is known: whether anybody said it, whether by this
// router, and whether all who did have left it out, for now or for good.
func (h *hearsay[T]) standing(now time.Time, what T, router netip.Addr) (known, byRouter, out, gone bool) {
	out, gone = true, true
	for _, s := range h.said {
		if s.what == what {
			known, byRouter = true, byRouter || s.by == router
			out = out && s.leftOut(now)
			gone = gone && s.gone(now)
		}
	}
	return known, byRouter, known && out, known && gone
}

// deadline returns when something will be different though nobody speaks; zero:
// never.
func (h *hearsay[T]) deadline(now time.Time) (d time.Time) {
	for _, s := range h.said {
		for _, t := range []time.Time{s.until, moment.Later(s.missed, oneBreath), moment.Later(s.stale, staleWait)} {
			if t.After(now) {
				d = moment.Earliest(d, t)
			}
		}
	}
	return d
}

// A routerSays is what one router advertisement says of prefixes (RFC 4861 §4.6.2).
type routerSays struct {
	router   netip.Addr
	prefixes []saidPrefix
}

type saidPrefix struct {
	prefix netip.Prefix
	valid  time.Duration // negative: for ever
}

const (
	ipv6Header  = 40
	raHeader    = 16
	raPrefix    = 3
	raAutonomic = 0x40
	protoICMPv6 = 58
	typeRA      = 134
)

var errRA = errors.New("netlink: parse router advertisement: malformed")

// parseRA reads an IPv6 packet with a router advertisement. Checksum, hop limit and
// source are those that RFC 4861 §6.1.2 asks for, so that nobody beyond the link speaks.
func parseRA(b []byte) (routerSays, error) {
	if len(b) < ipv6Header+raHeader || b[0]>>4 != 6 || b[6] != protoICMPv6 || b[7] != 255 || b[ipv6Header] != typeRA || b[ipv6Header+1] != 0 {
		return routerSays{}, errRA
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	says := routerSays{router: netip.AddrFrom16([16]byte(b[8:24]))}
	if !says.router.IsLinkLocalUnicast() || n < raHeader || ipv6Header+n > len(b) {
		return routerSays{}, errRA
	}
	if sum := link.Checksum(uint32(n)+protoICMPv6, b[8:40]); link.Checksum(uint32(sum), b[ipv6Header:ipv6Header+n]) != 0xffff {
		return routerSays{}, errRA
	}
	for opts := b[ipv6Header+raHeader : ipv6Header+n]; len(opts) > 0; {
		if len(opts) < 2 || opts[1] == 0 || int(opts[1])*8 > len(opts) {
			return routerSays{}, errRA
		}
		o := opts[:int(opts[1])*8]
		opts = opts[len(o):]
		if o[0] != raPrefix || len(o) != 32 || o[3]&raAutonomic == 0 || o[2] > 128 {
			continue
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:32])), int(o[2])).Masked()
		if isHost6(p.Addr()) && len(says.prefixes) < maxHearsay {
			says.prefixes = append(says.prefixes, saidPrefix{p, lifeOf(binary.BigEndian.Uint32(o[4:]))})
		}
	}
	return says, nil
}

// lifeOf reads a lifetime as routers send it, in seconds.
func lifeOf(seconds uint32) time.Duration {
	if seconds == lifeForever {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// routerFilter lets through IPv6 packets with a router advertisement.
func routerFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipv6Header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeRA, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}
