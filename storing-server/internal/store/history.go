package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"flexphone/registry-client/wire"
)

// historyMost is how many earlier stays are kept of each phone: some 12 bytes
// each with one IPv4 address.
const historyMost = 10

// A Stay is a time for which a phone had the same addresses.
type Stay struct {
	Addrs []netip.Addr
	// From and Until are whole seconds. Until is when it had others, or was off
	// the net before it had others; zero: it has them now.
	From, Until time.Time
}

// History returns where a phone was, newest first: where it is now, and at
// most historyMost earlier stays. A phone that came back to the address that it
// had has stayed there. ok is false when there is no row.
func (s *Store) History(mac wire.MAC) (stays []Stay, ok bool) {
	e, known := s.table.row(mac)
	if !known || e.gone {
		return nil, false
	}
	return e.stays(s.opts.Now()), true
}

// A trail is the history of a record as it is kept: when the present stay
// began, and then the earlier ones, newest first, each as its beginning, its
// length, and its addresses. Times are seconds. It stands in the row itself, so
// that it is as durable, as well replicated and as bounded as the row is. The
// empty trail says nothing, since rows were once made without.
type trail string

// errTrail: it was not made by trailOf.
var errTrail = errors.New("store: decode history")

func trailOf(here time.Time, before []Stay) trail {
	b := binary.AppendUvarint(nil, uint64(max(0, here.Unix())))
	for _, s := range before[:min(len(before), historyMost)] {
		from, until := max(0, s.From.Unix()), s.Until.Unix()
		b = binary.AppendUvarint(b, uint64(from))
		b = binary.AppendUvarint(b, uint64(max(0, until-from))) // the clock may have been put back
		b = append(b, byte(len(s.Addrs)))
		for _, a := range s.Addrs {
			raw := a.AsSlice()
			b = append(append(b, byte(len(raw))), raw...)
		}
	}
	return trail(b)
}

// stays reads what trailOf wrote.
func (t trail) stays() (here time.Time, before []Stay, err error) {
	b := []byte(t)
	number := func() time.Duration {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<40 {
			err, b = errTrail, nil
			return 0
		}
		b = b[size:]
		return time.Duration(n)
	}
	take := func(n int) (out []byte) {
		if len(b) < n {
			err, b = errTrail, nil
			return make([]byte, n)
		}
		out, b = b[:n], b[n:]
		return out
	}
	here = time.Unix(int64(number()), 0)
	for err == nil && len(b) > 0 {
		s := Stay{From: time.Unix(int64(number()), 0)}
		s.Until = time.Unix(s.From.Unix()+int64(number()), 0)
		for range take(1)[0] {
			a, ok := netip.AddrFromSlice(take(int(take(1)[0])))
			if !ok || err != nil {
				return here, nil, fmt.Errorf("%w: no address", errTrail)
			}
			s.Addrs = append(s.Addrs, a)
		}
		if before = append(before, s); len(before) > historyMost {
			return here, nil, fmt.Errorf("%w: more than %d stays", errTrail, historyMost)
		}
	}
	return here, before, err
}

// here is when the present stay began.
func (r *record) here() (time.Time, []Stay) {
	here, before, err := r.Trail.stays()
	if err != nil {
		return r.Since.time(), nil // a history that cannot be read is none
	}
	return here, before
}

// stays returns the whole history at now.
func (r *record) stays(now time.Time) []Stay {
	here, before := r.here()
	present := Stay{Addrs: r.Addrs, From: here}
	if !r.online(now) {
		present.Until = r.ended(now)
	}
	return append([]Stay{present}, before...)
}

// ended is when a phone that is off the net at now went off, and now itself
// for others.
func (r *record) ended(now time.Time) time.Time {
	switch {
	case r.Released != 0:
		return r.Released.time()
	case !r.online(now):
		return r.Expiry.time()
	}
	return now
}

// trailTo returns the trail of a phone with record r, the zero one if there is
// none, that announces addrs at now.
func (r *record) trailTo(addrs []netip.Addr, now time.Time) trail {
	switch {
	case len(r.Addrs) == 0:
		return trailOf(now, nil)
	case slices.Equal(r.Addrs, addrs):
		return r.Trail
	}
	here, before, ok := r.Trail.split(historyMost - 1)
	if !ok {
		here, before = r.Since.time(), "" // as in here
	}
	return trailOf(now, []Stay{{Addrs: r.Addrs, From: here, Until: r.ended(now)}}) + before
}

// split returns when the present stay began, and the newest most of the earlier
// ones as they are kept. It is done at each change of address, and so reads no
// more than it has to; ok is false when that could not be read.
func (t trail) split(most int) (here time.Time, before trail, ok bool) {
	var at int
	number := func() uint64 {
		n, size := uint64(0), 0
		for ; at+size < len(t) && size < binary.MaxVarintLen64; size++ {
			n |= uint64(t[at+size]&0x7f) << (7 * size)
			if t[at+size] < 0x80 {
				at += size + 1
				return n
			}
		}
		at = len(t) + 1 // cut off
		return 0
	}
	here = time.Unix(int64(number()), 0)
	begin := at
	for n := 0; n < most && at < len(t); n++ {
		number()
		number()
		if at >= len(t) {
			return here, "", false
		}
		addrs := int(t[at])
		for at++; addrs > 0 && at < len(t); addrs-- {
			at += 1 + int(t[at])
		}
		if addrs > 0 {
			return here, "", false
		}
	}
	if at > len(t) {
		return here, "", false
	}
	return here, t[begin:at], true
}
