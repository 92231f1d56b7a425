package netlink

import (
	"encoding/binary"
	"slices"
	"time"
)

// Bounds of reassembly: DHCP messages are small, servers few, and fragments of
// others' packets pass the filter too.
const (
	maxWhole     = 4096
	maxFragments = 16
	maxWholes    = 4
	// wholeLife is short of RFC 1122's 60 s: a server's answer comes at once.
	wholeLife = 5 * time.Second
)

// A reassembly puts IPv4 fragments together (RFC 791 §3.2). A packet socket
// sees them as they are on the wire.
type reassembly struct{ wholes []whole }

type whole struct {
	key    [10]byte // source, destination, identification
	since  time.Time
	pieces []fragment // by offset, none overlapping another
	end    int        // of the payload; 0: the last one is missing
}

type fragment struct {
	at   int
	data []byte
	head []byte // of the first one
}

// add takes a packet, and returns it, or what it completes, as one that is not
// fragmented; nil when there is none yet.
func (r *reassembly) add(now time.Time, b []byte) []byte {
	if len(b) < ipHeader {
		return nil
	}
	hlen, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	flags := binary.BigEndian.Uint16(b[6:])
	more, at := flags&0x2000 != 0, int(flags&0x1fff)*8
	if !more && at == 0 {
		return b
	}
	if hlen < ipHeader || total <= hlen || total > len(b) || at+total-hlen > maxWhole || more && (total-hlen)%8 != 0 {
		return nil
	}
	f := fragment{at: at, data: b[hlen:total], head: b[:hlen]}
	w := r.find(now, [10]byte(slices.Concat(b[12:20], b[4:6])))
	if !w.insert(f, more) {
		r.forget(w.key) // an overlap is a mistake or an attack (RFC 5722, for IPv6)
		return nil
	}
	out := w.join()
	if out != nil {
		r.forget(w.key)
	}
	return out
}

func (r *reassembly) find(now time.Time, key [10]byte) *whole {
	r.wholes = slices.DeleteFunc(r.wholes, func(w whole) bool { return now.Sub(w.since) > wholeLife })
	for i := range r.wholes {
		if r.wholes[i].key == key {
			return &r.wholes[i]
		}
	}
	if len(r.wholes) == maxWholes {
		r.wholes = slices.Delete(r.wholes, 0, 1)
	}
	r.wholes = append(r.wholes, whole{key: key, since: now})
	return &r.wholes[len(r.wholes)-1]
}

func (r *reassembly) forget(key [10]byte) {
	r.wholes = slices.DeleteFunc(r.wholes, func(w whole) bool { return w.key == key })
}

// insert reports whether f fits between the others.
func (w *whole) insert(f fragment, more bool) bool {
	i, found := slices.BinarySearchFunc(w.pieces, f.at, func(p fragment, at int) int { return p.at - at })
	end := f.at + len(f.data)
	switch {
	case found, len(w.pieces) == maxFragments,
		i > 0 && w.pieces[i-1].at+len(w.pieces[i-1].data) > f.at,
		i < len(w.pieces) && end > w.pieces[i].at,
		w.end > 0 && end > w.end, !more && (w.end > 0 || i < len(w.pieces)):
		return false
	}
	if !more {
		w.end = end
	}
	w.pieces = slices.Insert(w.pieces, i, f)
	return true
}

// join returns the whole packet, nil while something is missing.
func (w *whole) join() []byte {
	if w.end == 0 || w.pieces[0].at != 0 {
		return nil
	}
	out := slices.Clone(w.pieces[0].head)
	hlen := len(out)
	for _, p := range w.pieces {
		if p.at != len(out)-hlen {
			return nil
		}
		out = append(out, p.data...)
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	out[6], out[7] = 0, 0
	return out
}
