package store

import (
	"encoding/binary"
	"net/netip"

	"flexphone/registry-client/wire"
)

// A rowID is a row's place in the slabs. It is the same as long as the process
// lives.
type rowID uint32

// A slot is an entry as the table keeps it, 112 bytes without a pointer, so that
// the collector passes over millions of them. What few rows have stands beside it,
// in an extra.
type slot struct {
	seq, sequence           uint64
	since, expiry, released moment
	queued                  moment // the earliest time it is on the list of expiries for; zero: it is not
	here                    uint32 // seconds of Unix time: the beginning of the trail; zero: none
	number                  numberKey
	owner                   wire.Fingerprint
	addr                    [16]byte // the first address, IPv4 as mapped to IPv6
	sip, sips               uint16
	mac                     wire.MAC
	flags                   uint8
}

// Flags of a slot.
const (
	slotGone  = 1 << iota // the row was forgotten; only its place is kept
	slotAddr              // it has an address
	slotFour              // which is IPv4
	slotExtra             // it has an extra
	slotReach             // two bits with the row's reach begin here
)

// An extra is what a slot has no room for. Fields that say nothing are zero.
type extra struct {
	addrs  []netip.Addr // all, when there is more than one
	number string       // one that is no short number
	trail  trail        // behind its beginning, or all of it when here is zero
}

// slabs are slots in pieces, so that none is copied when there are more.
type slabs struct {
	pieces [][]slot
	extras map[rowID]extra
	used   int
}

const slabSize = 4096 // slots

func (s *slabs) at(id rowID) *slot { return &s.pieces[id/slabSize][id%slabSize] }

// add returns another slot, of a row that is gone.
func (s *slabs) add(mac wire.MAC) (rowID, *slot) {
	id := rowID(s.used)
	if s.used++; int(id/slabSize) == len(s.pieces) {
		s.pieces = append(s.pieces, make([]slot, slabSize))
	}
	e := s.at(id)
	e.mac, e.flags = mac, slotGone
	return id, e
}

// put makes id's slot say r, or nil that it is gone.
func (s *slabs) put(id rowID, r *record) {
	e := s.at(id)
	delete(s.extras, id)
	*e = slot{mac: e.mac, seq: e.seq, queued: e.queued, flags: slotGone}
	if r == nil {
		return
	}
	e.flags = uint8(r.Reach&3) * slotReach
	e.sequence, e.since, e.expiry, e.released = r.Sequence, r.Since, r.Expiry, r.Released
	e.owner, e.sip, e.sips = r.Owner, r.Ports.SIP, r.Ports.SIPS
	var more extra
	if e.number = keyOf(r.Number); e.number == 0 {
		more.number = r.Number
	}
	if len(r.Addrs) == 1 && r.Addrs[0].Zone() == "" && !r.Addrs[0].Is4In6() {
		e.addr, e.flags = r.Addrs[0].As16(), e.flags|slotAddr
		if r.Addrs[0].Is4() {
			e.flags |= slotFour
		}
	} else if len(r.Addrs) > 0 {
		more.addrs = r.Addrs
	}
	e.here, more.trail = r.Trail.cut()
	if more.addrs != nil || more.number != "" || more.trail != "" {
		s.extras[id] = more
		e.flags |= slotExtra
	}
}

// cut divides a trail into its beginning in seconds and the rest; zero and all of
// it where that cannot be put together again.
func (t trail) cut() (here uint32, rest trail) {
	n, size := uint64(0), 0
	for size < len(t) && size < binary.MaxVarintLen32 {
		n |= uint64(t[size]&0x7f) << (7 * size)
		if size++; t[size-1] < 0x80 {
			break
		}
	}
	if n == 0 || n > 1<<32-1 || trail(binary.AppendUvarint(nil, n)) != t[:size] {
		return 0, t
	}
	return uint32(n), t[size:]
}

// get returns what id's slot says.
func (s *slabs) get(id rowID) entry {
	e := s.at(id)
	out := entry{seq: e.seq, gone: e.flags&slotGone != 0}
	if out.gone {
		return out
	}
	var more extra
	if e.flags&slotExtra != 0 {
		more = s.extras[id]
	}
	out.record = record{
		MAC: e.mac, Owner: e.owner, Number: more.number, Addrs: more.addrs, Ports: wire.Ports{SIP: e.sip, SIPS: e.sips},
		Sequence: e.sequence, Since: e.since, Expiry: e.expiry, Released: e.released, Trail: more.trail,
		Reach: wire.Reach(e.flags / slotReach & 3),
	}
	if e.number != 0 {
		out.Number = e.number.digits()
	}
	if e.flags&slotAddr != 0 {
		a := netip.AddrFrom16(e.addr)
		if e.flags&slotFour != 0 {
			a = a.Unmap()
		}
		out.Addrs = []netip.Addr{a}
	}
	if e.here != 0 {
		out.Trail = trail(binary.AppendUvarint(nil, uint64(e.here))) + more.trail
	}
	return out
}

// online reports whether the row's phone can be called at now.
func (e *slot) online(now moment) bool {
	return e.flags&slotGone == 0 && e.released == 0 && now < e.expiry
}
