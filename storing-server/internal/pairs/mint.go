package pairs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

// An owner is whose pairs count together: the beginning of a key's fingerprint, which
// nobody finds another key for that is worth a share of relayed sound.
type owner [8]byte

func ownerOf(key wire.Fingerprint) owner { return owner(key[:8]) }

// clocks is how much later another relay's clock may be.
const clocks = time.Minute

// A mint makes passes that it knows again without having kept them. The name is one block
// of AES: owner, time in seconds, and four bytes by chance; so it says nothing to others. The
// key is the name's HMAC.
type mint struct {
	names cipher.Block
	keys  [sha256.Size]byte
}

func newMint(secret []byte) mint {
	derive := func(what string) (out [sha256.Size]byte) {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(what))
		h.Sum(out[:0])
		return out
	}
	of := derive("flexphone relay names 1")
	names, err := aes.NewCipher(of[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return mint{names, derive("flexphone relay keys 1")}
}

func (m mint) make(o owner, now time.Time) pass.Pass {
	var plain [pass.NameSize]byte
	copy(plain[:], o[:])
	binary.BigEndian.PutUint32(plain[8:], uint32(now.Unix()))
	rand.Read(plain[12:]) // never fails
	var n pass.Name
	m.names.Encrypt(n[:], plain[:])
	return m.of(n)
}

func (m mint) of(n pass.Name) pass.Pass {
	h := hmac.New(sha256.New, m.keys[:])
	h.Write(n[:])
	return pass.Made(n, [pass.KeySize]byte(h.Sum(nil)[:pass.KeySize]))
}

// read is the pass of that name, and whose it is and since when, if it is one: who does not
// show its key has made the name up.
func (m mint) read(n pass.Name) (p pass.Pass, o owner, begun time.Time) {
	var plain [pass.NameSize]byte
	m.names.Decrypt(plain[:], n[:])
	return m.of(n), owner(plain[:8]), time.Unix(int64(binary.BigEndian.Uint32(plain[8:])), 0)
}
