package directory

import (
	"net/netip"
	"testing"

	"flexphone/internal/mac"
)

func TestThePhoneOwnsItsNumbersAlone(t *testing.T) {
	s := Self{MAC: mac.Address{0x02, 0, 0x5e, 0, 0x53, 0xab}, Number: "101", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
	for user, want := range map[string]bool{
		"02005e0053ab": true, "02005E0053AB": true, "02:00:5e:00:53:ab": true, "02-00-5e-00-53-ab": true,
		s.MAC.Digits(): true, "101": true, "": true, "192.0.2.1": true, "2001:db8:0::1": true,
		"102": false, "02005e0053ac": false, "1": false, "000000000000101": false, "192.0.2.2": false, "2001:db8::2": false,
	} {
		if got := s.Owns(user); got != want {
			t.Errorf("Owns(%q) = %v; want %v", user, got, want)
		}
	}
	s.Number = ""
	if s.Owns("101") {
		t.Error("a phone without a short number owns one")
	}
}

func TestWhatOthersSeeOfThisPhone(t *testing.T) {
	s := Self{MAC: mac.Address{0x02, 0, 0x5e, 0, 0x53, 0xab}}
	if got := s.Name(); got != s.MAC.Digits() || len(got) != 15 {
		t.Errorf("without a short number: %q", got)
	}
	s.Number = "101"
	if got := s.Name(); got != "101" {
		t.Errorf("with a short number: %q", got)
	}
}

func TestOurAddressSuitsThePeer(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		ours []netip.Addr
		peer string
		want netip.Addr
	}{
		{[]netip.Addr{four, six}, "198.51.100.1", four},
		{[]netip.Addr{four, six}, "2001:db8::9", six},
		{[]netip.Addr{six, four}, "::ffff:198.51.100.1", four},
		{[]netip.Addr{four}, "2001:db8::9", four},
		{nil, "198.51.100.1", netip.Addr{}},
	} {
		if got := (Self{Addrs: tt.ours}).AddressFor(netip.MustParseAddr(tt.peer)); got != tt.want {
			t.Errorf("of %v to %s: %v; want %v", tt.ours, tt.peer, got, tt.want)
		}
	}
}
