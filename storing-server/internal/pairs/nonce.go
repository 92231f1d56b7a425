package pairs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// A nonce is as good as its epoch and the one before.
const nonceTime = time.Minute

func epoch(now time.Time) int64 { return now.UnixNano() / int64(nonceTime) }

// nonce is what an address has to show that it receives: 16 letters.
func (r *Relay) nonce(of netip.AddrPort, epoch int64) (text [16]byte) {
	var b [16 + 2 + 8]byte
	ip := of.Addr().As16()
	copy(b[:], ip[:])
	binary.BigEndian.PutUint16(b[16:], of.Port())
	binary.BigEndian.PutUint64(b[18:], uint64(epoch))
	h := hmac.New(sha256.New, r.secret[:])
	h.Write(b[:])
	const letters = "0123456789abcdefghijklmnopqrstuv"
	for i, c := range h.Sum(nil)[:len(text)] {
		text[i] = letters[c&31]
	}
	return text
}

func (r *Relay) fresh(shown []byte, from netip.AddrPort, now time.Time) bool {
	if len(shown) == 0 {
		return false
	}
	e := epoch(now)
	present, before := r.nonce(from, e), r.nonce(from, e-1)
	return hmac.Equal(shown, present[:]) || hmac.Equal(shown, before[:])
}
