package netlink

import (
	"testing"

	"flexphone/netlink/internal/link"
)

// TestUDPIntact: what wrap writes is intact, and is not once a bit of its UDP
// part or of its addresses is another.
func TestUDPIntact(t *testing.T) {
	for _, payload := range []string{"", "x", "even", "odd number"} {
		b := wrap([]byte(payload), simAddr)
		if !link.UDPIntact(b) {
			t.Fatalf("%q is not intact", payload)
		}
		for i := 12; i < len(b); i++ {
			if i == ipHeader+4 || i == ipHeader+5 {
				continue // the length: a packet that is too short is judged by unwrap
			}
			for bit := range 8 {
				b[i] ^= 1 << bit
				if link.UDPIntact(b) && (b[ipHeader+6] != 0 || b[ipHeader+7] != 0) {
					t.Fatalf("%q: bit %d of byte %d may change", payload, bit, i)
				}
				b[i] ^= 1 << bit
			}
		}
		b[ipHeader+6], b[ipHeader+7] = 0, 0
		if !link.UDPIntact(b) {
			t.Errorf("%q without a checksum is refused", payload)
		}
	}
	for _, b := range [][]byte{nil, {0x45}, make([]byte, 27), append([]byte{0x4f, 0, 0, 0, 0, 0, 0, 0, 0, protoUDP}, make([]byte, 30)...)} {
		if !link.UDPIntact(b) {
			t.Errorf("judges %x, which is no UDP packet", b)
		}
	}
}
