package store

import (
	"iter"
	"net/netip"
	"slices"
	"strconv"

	"flexphone/registry-client/wire"
)

// A numberKey is a short number: its digits behind a 1, which keeps zeros at the
// beginning apart. Zero is no number. Millions of these stand in maps, as IPv4
// addresses do; they hold no pointers, so that the collector passes over the maps.
type numberKey uint32

// keyOf returns the key of digits, and zero for what is no short number.
func keyOf(digits string) numberKey {
	if !wire.ValidNumber(digits) {
		return 0
	}
	k := numberKey(1)
	for _, c := range []byte(digits) {
		k = 10*k + numberKey(c-'0')
	}
	return k
}

// digits undoes keyOf.
func (k numberKey) digits() string { return strconv.Itoa(int(k))[1:] }

// claims are who has announced an address. Mostly it is one phone. IPv4 has a map
// of its own, with half the room for each.
type claims struct {
	four  map[[4]byte]rowID // the newest
	six   map[[16]byte]rowID
	older map[netip.Addr][]rowID // in the order of announcing
}

// newClaims returns claims with room for some addresses.
func newClaims(some int) claims {
	return claims{four: make(map[[4]byte]rowID, some), six: map[[16]byte]rowID{}, older: map[netip.Addr][]rowID{}}
}

func (c *claims) newest(a netip.Addr) (id rowID, ok bool) {
	if a.Is4() {
		id, ok = c.four[a.As4()]
	} else {
		id, ok = c.six[a.As16()]
	}
	return id, ok
}

func (c *claims) set(a netip.Addr, id rowID) {
	if a.Is4() {
		c.four[a.As4()] = id
	} else {
		c.six[a.As16()] = id
	}
}

func (c *claims) add(a netip.Addr, id rowID) {
	a = a.Unmap().WithZone("")
	if before, ok := c.newest(a); ok {
		c.older[a] = append(c.older[a], before)
	}
	c.set(a, id)
}

func (c *claims) drop(a netip.Addr, id rowID) {
	a = a.Unmap().WithZone("")
	newest, ok := c.newest(a)
	if !ok {
		return
	}
	older := c.older[a]
	switch {
	case newest != id:
		older = slices.DeleteFunc(older, func(o rowID) bool { return o == id })
	case len(older) > 0:
		c.set(a, older[len(older)-1])
		older = older[:len(older)-1]
	case a.Is4():
		delete(c.four, a.As4())
	default:
		delete(c.six, a.As16())
	}
	if len(older) > 0 {
		c.older[a] = older
	} else {
		delete(c.older, a)
	}
}

// of yields who has announced a, the newest first.
func (c *claims) of(a netip.Addr) iter.Seq[rowID] {
	return func(yield func(rowID) bool) {
		a := a.Unmap().WithZone("")
		id, ok := c.newest(a)
		if !ok || !yield(id) {
			return
		}
		for _, o := range slices.Backward(c.older[a]) {
			if !yield(o) {
				return
			}
		}
	}
}
