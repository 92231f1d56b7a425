package store

import (
	"iter"
	"net/netip"
	"slices"
	"strconv"

	"flexphone/registry-client/wire"
)

// Millions of these stand in maps. They hold no pointers, so that the
// collector passes over the maps.
type (
	// A numberKey is a short number: its digits behind a 1, which keeps zeros at
	// the beginning apart. Zero is no number.
	numberKey uint32
	// An addrKey is an address: IPv4 as it is mapped to IPv6, which nobody
	// announces.
	addrKey [16]byte
)

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

// claims are who has announced an address. Mostly it is one phone.
type claims struct {
	newest map[addrKey]wire.MAC
	older  map[addrKey][]wire.MAC // in the order of announcing
}

func (c *claims) add(a netip.Addr, mac wire.MAC) {
	k := addrKey(a.As16())
	if before, ok := c.newest[k]; ok {
		c.older[k] = append(c.older[k], before)
	}
	c.newest[k] = mac
}

func (c *claims) drop(a netip.Addr, mac wire.MAC) {
	k := addrKey(a.As16())
	older := c.older[k]
	switch {
	case c.newest[k] != mac:
		older = slices.DeleteFunc(older, func(m wire.MAC) bool { return m == mac })
	case len(older) > 0:
		c.newest[k] = older[len(older)-1]
		older = older[:len(older)-1]
	default:
		delete(c.newest, k)
	}
	if len(older) > 0 {
		c.older[k] = older
	} else {
		delete(c.older, k)
	}
}

// of yields who has announced a, the newest first.
func (c *claims) of(a netip.Addr) iter.Seq[wire.MAC] {
	return func(yield func(wire.MAC) bool) {
		k := addrKey(a.As16())
		mac, ok := c.newest[k]
		if !ok || !yield(mac) {
			return
		}
		for _, m := range slices.Backward(c.older[k]) {
			if !yield(m) {
				return
			}
		}
	}
}
