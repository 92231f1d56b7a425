package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// firstNumber is the short number of phone 0 when rows are preloaded.
const firstNumber = 101

// preload writes n rows into dir. The first owned of them belong to the keys
// of the phones with their index; the others to nobody's.
func preload(ctx context.Context, dir string, n, owned int) error {
	now := time.Now()
	var failed error
	err := store.Preload(ctx, dir, func(yield func(wire.Row) bool) {
		for i := range n {
			row := wire.Row{
				MAC: macOf(i), Number: strconv.Itoa(firstNumber + i), Ports: wire.Ports{SIP: 5060, SIPS: 5061},
				Addrs:    []netip.Addr{dotted(addressOf(i, 1))},
				Sequence: 1, Since: now, Expiry: now.Add(lifetime),
			}
			if i < owned {
				if row.Fingerprint, failed = fingerprintOf(i); failed != nil {
					return
				}
			} else {
				row.Fingerprint = sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			}
			if !yield(row) {
				return
			}
		}
	})
	if failed != nil {
		return failed
	}
	return err
}
