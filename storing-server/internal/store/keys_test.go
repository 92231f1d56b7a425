package store

import (
	"net/netip"
	"slices"
	"testing"

	"flexphone/registry-client/wire"
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
	c := claims{newest: map[addrKey]wire.MAC{}, older: map[addrKey][]wire.MAC{}}
	want := func(a netip.Addr, macs ...wire.MAC) {
		t.Helper()
		if got := slices.Collect(c.of(a)); !slices.Equal(got, macs) {
			t.Errorf("%v is claimed by %v; want %v", a, got, macs)
		}
	}
	for i := range 4 {
		c.add(a, mac(i))
	}
	c.add(b, mac(9))
	want(a, mac(3), mac(2), mac(1), mac(0))
	c.drop(a, mac(1))
	want(a, mac(3), mac(2), mac(0))
	c.drop(a, mac(3))
	want(a, mac(2), mac(0))
	c.drop(a, mac(7)) // who has not announced it
	c.drop(a, mac(0))
	want(a, mac(2))
	c.drop(a, mac(2))
	c.drop(a, mac(2))
	want(a)
	want(b, mac(9))
	if len(c.newest) != 1 || len(c.older) != 0 {
		t.Errorf("%d addresses and %d older lists are left; want 1 and 0", len(c.newest), len(c.older))
	}
}
