package arp

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"flexphone/internal/mac"
)

var (
	ours    = mac.Address{2, 0, 0x5e, 0, 0x53, 1}
	theirs  = mac.Address{2, 0, 0x5e, 0, 0x53, 2}
	addr    = netip.MustParseAddr("192.0.2.50")
	router  = netip.MustParseAddr("192.0.2.1")
	another = netip.MustParseAddr("192.0.2.80")
)

func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(Filter(ours, addr, router))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		pass   bool
	}{
		{"another's announcement", Packet(theirs, addr, true), true},
		{"another's probe", Packet(theirs, addr, false), true},
		{"our announcement", Packet(ours, addr, true), false},
		{"our probe", Packet(ours, addr, false), false},
		{"the router", Packet(theirs, router, true), true},
		{"about another address", Packet(theirs, another, true), false},
		{"a probe for another address", Packet(theirs, another, false), false},
	} {
		if n, err := vm.Run(tt.packet); err != nil || (n != 0) != tt.pass {
			t.Errorf("%s: passes %d bytes, %v", tt.name, n, err)
		}
		c, err := Parse(tt.packet)
		if err != nil || tt.pass && (c.Addr != addr && c.Addr != router || c.From != theirs) {
			t.Errorf("%s: read as %+v, %v", tt.name, c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Packet(ours, addr, true))
	f.Add(Packet(ours, addr, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Parse(Packet(c.From, c.Addr, !c.Probe)); err != nil || c != again && !c.Addr.IsUnspecified() {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}
