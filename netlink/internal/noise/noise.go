// Package noise makes packets for tests that are nearly right. It knows how bytes are
// spoiled, and what neighbours say that no telephone may believe.
package noise

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/internal/mac"
	"flexphone/netlink/internal/lldp"
)

// seed is what the generators below begin with; 0: another each time.
var seed = flag.Uint64("noise", 0, "seed of the generated packets; 0: another each time")

// Many is how many of each kind a running agent hears.
const Many = 10_000

// A Noise makes packets that are nearly right: what a broken, old or hostile
// neighbour sends, of which nothing may be believed that leads astray.
type Noise struct{ *rand.Rand }

// New returns one whose seed is in the log of the test.
func New(t testing.TB) Noise {
	seed := *seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-noise=%d", seed)
	return Noise{rand.New(rand.NewPCG(seed, 0))}
}

// Spoil changes, cuts or lengthens b in a few places from the one at first.
func (n Noise) Spoil(b []byte, first int) []byte {
	b = slices.Clone(b)
	for range 1 + n.IntN(4) {
		if len(b) <= first {
			return b
		}
		at := first + n.IntN(len(b)-first)
		switch n.IntN(5) {
		case 0:
			b[at] = byte(n.Uint32())
		case 1:
			b[at] ^= 1 << n.IntN(8)
		case 2:
			b = b[:at]
		case 3:
			b = slices.Insert(b, at, byte(n.Uint32()), byte(n.Uint32()))
		default:
			b = slices.Delete(b, at, at+1)
		}
	}
	return b
}

// LLDP is what no network connectivity device says.
func (n Noise) LLDP() []byte {
	b := lldp.Build(mac.Address{2, 0, 0x5e, 0, 0x53, 2}, "neighbour", uint8(n.IntN(4)), time.Duration(n.IntN(1<<16))*time.Second, lldp.Policy{VLAN: uint16(n.IntN(4096))}, n.IntN(4) > 0)
	b = n.Spoil(b, 0)
	if says, err := lldp.Parse(b); err == nil && says.Device == lldp.Connectivity {
		return b[:4]
	}
	return b
}
