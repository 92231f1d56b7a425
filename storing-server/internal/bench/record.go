package bench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// Records, RFC 6347 section 4.1 and RFC 9146 section 4.
const (
	typeAlert       = 21
	typeApplication = 23
	typeCID         = 25
	version12       = 0xfefd
	headerFixed     = 1 + 2 + 8 // type, version, epoch and sequence number
	explicitNonce   = 8
	tagLength       = 16
	// cidLength is of our own connection IDs: the phone's place in its line.
	cidLength = 4
)

var errRecord = errors.New("bench: not a record for us")

// A secret is the state of one DTLS 1.2 session after its handshake, with
// AES-128-GCM and connection IDs in both directions. It is not safe for
// concurrent use.
type secret struct {
	seal, open     cipher.AEAD
	sealIV, openIV [4]byte
	theirs         []byte // connection ID that we send
	number         uint64 // of the next record: epoch and sequence number
	// additional is scratch for the additional data.
	additional []byte
}

// exported are those fields of pion's serialised state that a session needs.
type exported struct {
	LocalEpoch                uint16
	LocalRandom, RemoteRandom [32]byte
	MasterSecret              []byte
	SequenceNumber            uint64
	LocalConnectionID         []byte
	RemoteConnectionID        []byte
}

// export takes a client's session out of pion's hands, which must not send in
// it any more.
func export(conn *dtls.Conn) (*secret, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errors.New("bench: export session: no state")
	}
	b, err := state.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("bench: export session: %w", err)
	}
	var e exported
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&e); err != nil {
		return nil, fmt.Errorf("bench: export session: %w", err)
	}
	if len(e.RemoteConnectionID) == 0 || len(e.LocalConnectionID) != cidLength {
		return nil, errors.New("bench: export session: the server gives or takes no connection ID")
	}
	keys, err := prf.GenerateEncryptionKeys(e.MasterSecret, e.LocalRandom[:], e.RemoteRandom[:], 0, 16, 4, sha256.New)
	if err != nil {
		return nil, fmt.Errorf("bench: export session: %w", err)
	}
	s := &secret{
		sealIV: [4]byte(keys.ClientWriteIV), openIV: [4]byte(keys.ServerWriteIV),
		theirs: e.RemoteConnectionID,
		number: uint64(e.LocalEpoch)<<48 | e.SequenceNumber&(1<<48-1),
	}
	if s.seal, err = gcm(keys.ClientWriteKey); err != nil {
		return nil, err
	}
	if s.open, err = gcm(keys.ServerWriteKey); err != nil {
		return nil, err
	}
	return s, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("bench: set up cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// nonce is the implicit and the explicit part, RFC 5288 section 3.
func nonce(iv [4]byte, explicit []byte) (n [12]byte) {
	copy(n[:], iv[:])
	copy(n[4:], explicit)
	return n
}

// bind returns the additional data of a record, RFC 9146 section 5.3.
func (s *secret) bind(number uint64, cid []byte, inner int) []byte {
	a := append(s.additional[:0], 255, 255, 255, 255, 255, 255, 255, 255, typeCID, byte(len(cid)), typeCID)
	a = binary.BigEndian.AppendUint16(a, version12)
	a = binary.BigEndian.AppendUint64(a, number)
	a = append(a, cid...)
	s.additional = binary.BigEndian.AppendUint16(a, uint16(inner))
	return s.additional
}

// wrap appends content as one record of the given type to dst.
func (s *secret) wrap(dst []byte, kind byte, content []byte) []byte {
	number := s.number
	s.number++
	dst = append(dst, typeCID)
	dst = binary.BigEndian.AppendUint16(dst, version12)
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = append(dst, s.theirs...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(explicitNonce+len(content)+1+tagLength))
	dst = binary.BigEndian.AppendUint64(dst, number)
	explicit := dst[len(dst)-explicitNonce:]
	n := nonce(s.sealIV, explicit)
	at := len(dst)
	dst = append(append(dst, content...), kind)
	return s.seal.Seal(dst[:at], n[:], dst[at:], s.bind(number, s.theirs, len(content)+1))
}

// cidOf returns the connection ID that a record is for.
func cidOf(record []byte) (uint32, bool) {
	if len(record) < headerFixed+cidLength+2+explicitNonce+1+tagLength || record[0] != typeCID {
		return 0, false
	}
	return binary.BigEndian.Uint32(record[headerFixed:]), true
}

// unwrap opens a record for which cidOf was true, in place, and returns the
// content, its type, and what else is in the datagram.
func (s *secret) unwrap(record []byte) (content []byte, kind byte, rest []byte, err error) {
	header := headerFixed + cidLength + 2
	length := int(binary.BigEndian.Uint16(record[header-2:]))
	if length < explicitNonce+1+tagLength || len(record) < header+length {
		return nil, 0, nil, errRecord
	}
	number := binary.BigEndian.Uint64(record[3:])
	cid := record[headerFixed : headerFixed+cidLength]
	body, rest := record[header:header+length], record[header+length:]
	n := nonce(s.openIV, body[:explicitNonce])
	sealed := body[explicitNonce:]
	inner, err := s.open.Open(sealed[:0], n[:], sealed, s.bind(number, cid, len(sealed)-tagLength))
	if err != nil {
		return nil, 0, rest, errRecord
	}
	for len(inner) > 0 && inner[len(inner)-1] == 0 {
		inner = inner[:len(inner)-1]
	}
	if len(inner) == 0 {
		return nil, 0, rest, errRecord
	}
	return inner[:len(inner)-1], inner[len(inner)-1], rest, nil
}
