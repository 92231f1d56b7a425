package store

import (
	"net/netip"
	"slices"
	"testing"
)

// Numbers that differ have keys that differ, also in zeros at their beginning.
func TestNumberKey(t *testing.T) {
	seen := map[numberKey]string{}
	for _, digits := range []string{"000", "0000", "00000000", "101", "0101", "1101", "00000101", "99999999"} {
		k := keyOf(digits)
		if other, ok := seen[k]; ok || k == 0 {
			t.Errorf("key of %q is %d, which is %q's too", digits, k, other)
		}
		seen[k] = digits
	}
	for _, none := range []string{"", "12", "123456789", "12a", "-12"} {
		if k := keyOf(none); k != 0 {
			t.Errorf("key of %q = %d; want 0", none, k)
		}
	}
}

// An address leads to those who announced it, the newest first, whoever of them
// gives it up.
func TestClaims(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	c := newClaims(0)
	want := func(a netip.Addr, ids ...rowID) {
		t.Helper()
		if got := slices.Collect(c.of(a)); !slices.Equal(got, ids) {
			t.Errorf("%v is claimed by %v; want %v", a, got, ids)
		}
	}
	for i := range rowID(4) {
		c.add(a, i)
	}
	c.add(b, 9)
	want(a, 3, 2, 1, 0)
	c.drop(a, 1)
	want(a, 3, 2, 0)
	c.drop(a, 3)
	want(a, 2, 0)
	c.drop(a, 7) // who has not announced it
	c.drop(a, 0)
	want(a, 2)
	c.drop(a, 2)
	c.drop(a, 2)
	want(a)
	want(b, 9)
	if len(c.four)+len(c.six) != 1 || len(c.older) != 0 {
		t.Errorf("%d addresses and %d older lists are left; want 1 and 0", len(c.four)+len(c.six), len(c.older))
	}
}
