// Package record seals and opens the records of a DTLS 1.2 session whose
// handshake somebody else has made.
//
// It knows AES-128-GCM (RFC 5288), connection IDs (RFC 9146) and which records
// came before (RFC 6347, section 4.1.2.6). It refuses to know handshakes,
// sockets and what a record carries: a session stays in the epoch in which it
// was taken over, and is never renegotiated.
//
// # Why
//
// pion/dtls keeps a family of goroutines, queues and timers for a session,
// which is most of what a silent one costs. A session that has shaken hands
// needs two keys, two numbers and a window.
package record

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

// Types of records, RFC 5246 section 6.2.1 and RFC 9146 section 4.
const (
	TypeAlert       = 21
	TypeHandshake   = 22
	TypeApplication = 23
	TypeCID         = 25
)

const (
	version12     = 0xfefd
	fixed         = 1 + 2 + 8 // type, version, epoch and sequence number
	explicitNonce = 8
	tagLength     = 16
	keyLength     = 16
	window        = 64 // records
	numberMost    = 1<<48 - 1
)

// Overhead is by how many bytes a record is longer than its content, besides
// the connection ID.
const Overhead = fixed + 2 + explicitNonce + 1 + tagLength

// Why a record is not opened.
var (
	ErrMalformed = errors.New("record: malformed")
	ErrReplayed  = errors.New("record: came before, or is too old to tell")
	ErrForged    = errors.New("record: not sealed by the peer")
	ErrUsedUp    = errors.New("record: all sequence numbers are used up")
)

// A Session is the two directions of one session. It is not safe for
// concurrent use.
type Session struct {
	seal, open       cipher.AEAD
	sealKey, openKey [keyLength]byte
	sealIV, openIV   [4]byte
	own              int    // length of the connection ID that the peer sends
	peer             []byte // the connection ID that it is sent
	number           uint64 // of the next record sealed: epoch and sequence number
	newest           uint64 // the highest that was opened, likewise
	seen             uint64 // bit i: newest-i was opened
	some             bool   // any was
	// Scratch, so that nothing is allocated for a record.
	nonce      [explicitNonce + 4]byte
	additional []byte
}

// exported are those fields of pion's serialised state that a session needs.
type exported struct {
	LocalEpoch                uint16
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
	LocalConnectionID         []byte
	RemoteConnectionID        []byte
	IsClient                  bool
}

func export(conn *dtls.Conn) (e exported, err error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return e, errors.New("record: export session: no state")
	}
	b, err := state.MarshalBinary()
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&e)
	}
	if err != nil {
		return e, fmt.Errorf("record: export session: %w", err)
	}
	return e, nil
}

// Take copies the session out of conn, which has shaken hands. It can open
// records at once; before it seals one, conn must have ended, and Succeed have
// been called.
func Take(conn *dtls.Conn) (*Session, error) {
	e, err := export(conn)
	if err != nil {
		return nil, err
	}
	if e.LocalEpoch != 1 || dtls.CipherSuiteID(e.CipherSuiteID) != dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
		return nil, fmt.Errorf("record: take session: epoch %d, cipher suite %#x", e.LocalEpoch, e.CipherSuiteID)
	}
	client, server := e.LocalRandom, e.RemoteRandom
	if !e.IsClient {
		client, server = server, client
	}
	keys, err := prf.GenerateEncryptionKeys(e.MasterSecret, client[:], server[:], 0, keyLength, 4, sha256.New)
	if err != nil {
		return nil, fmt.Errorf("record: take session: %w", err)
	}
	s := &Session{own: len(e.LocalConnectionID), peer: e.RemoteConnectionID, number: e.number(), newest: 1 << 48}
	s.sealKey, s.openKey = [keyLength]byte(keys.ServerWriteKey), [keyLength]byte(keys.ClientWriteKey)
	s.sealIV, s.openIV = [4]byte(keys.ServerWriteIV), [4]byte(keys.ClientWriteIV)
	if e.IsClient {
		s.sealKey, s.openKey = s.openKey, s.sealKey
		s.sealIV, s.openIV = s.openIV, s.sealIV
	}
	return s, s.ciphers()
}

// ciphers sets up the ciphers of the session's keys.
func (s *Session) ciphers() (err error) {
	if s.seal, err = gcm(s.sealKey[:]); err != nil {
		return err
	}
	s.open, err = gcm(s.openKey[:])
	return err
}

// Sealed returns how long the record of n bytes is that Seal makes.
func (s *Session) Sealed(n int) int {
	n += fixed + 2 + len(s.peer) + explicitNonce + tagLength
	if len(s.peer) > 0 {
		n++ // the type inside
	}
	return n
}

// Own returns the length of the connection ID that the peer sends; 0: none.
func (s *Session) Own() int { return s.own }

func (e exported) number() uint64 { return uint64(e.LocalEpoch)<<48 | e.SequenceNumber&numberMost }

// Succeed lets s go on with the sequence numbers where conn has ended.
func (s *Session) Succeed(conn *dtls.Conn) error {
	e, err := export(conn)
	if err != nil {
		return err
	}
	s.number = max(s.number, e.number())
	return nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("record: set up cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// Split returns the first record with a connection ID of cid bytes of a
// datagram, and what follows it. Where there is no connection ID the record has
// its type outside (RFC 6347, section 4.1).
func Split(data []byte, cid int) (record, rest []byte, ok bool) {
	header := fixed + cid + 2
	if len(data) < header || (data[0] == TypeCID) != (cid > 0) || binary.BigEndian.Uint16(data[1:]) != version12 {
		return nil, nil, false
	}
	end := header + int(binary.BigEndian.Uint16(data[header-2:]))
	least := header + explicitNonce + tagLength
	if cid > 0 {
		least++ // the type inside
	}
	if len(data) < end || end < least {
		return nil, nil, false
	}
	return data[:end], data[end:], true
}

// CID returns the connection ID of what Split returned.
func CID(record []byte, cid int) []byte { return record[fixed : fixed+cid] }

// Open opens a record that Split returned, in place, and returns its content
// and the type of that. latest is true when none that was opened is newer.
func (s *Session) Open(record []byte) (content []byte, kind byte, latest bool, err error) {
	number := binary.BigEndian.Uint64(record[3:])
	if s.old(number) {
		return nil, 0, false, ErrReplayed
	}
	content, kind, err = s.unseal(record[:0], record)
	if err != nil {
		return nil, 0, false, err
	}
	latest = !s.some || number > s.newest
	s.mark(number)
	return content, kind, latest, nil
}

// Peek returns of what type the content of a record is, and changes nothing.
func (s *Session) Peek(record []byte) (kind byte, err error) {
	if s.old(binary.BigEndian.Uint64(record[3:])) {
		return 0, ErrReplayed
	}
	_, kind, err = s.unseal(nil, record)
	return kind, err
}

// unseal opens record, in place unless dst is nil.
func (s *Session) unseal(dst, record []byte) (content []byte, kind byte, err error) {
	header := fixed + s.own + 2
	sealed := record[header+explicitNonce:]
	if dst != nil {
		dst = sealed[:0]
	}
	copy(s.nonce[:], s.openIV[:])
	copy(s.nonce[4:], record[header:header+explicitNonce])
	if s.own > 0 {
		s.bind(binary.BigEndian.Uint64(record[3:]), CID(record, s.own), len(sealed)-tagLength)
	} else {
		s.bindPlain(binary.BigEndian.Uint64(record[3:]), record[0], len(sealed)-tagLength)
	}
	inner, err := s.open.Open(dst, s.nonce[:], sealed, s.additional)
	switch {
	case err != nil:
		return nil, 0, ErrForged
	case s.own == 0:
		return inner, record[0], nil
	}
	// The type, and then zeros as padding (RFC 9146, section 4).
	for len(inner) > 0 && inner[len(inner)-1] == 0 {
		inner = inner[:len(inner)-1]
	}
	if len(inner) == 0 {
		return nil, 0, ErrMalformed
	}
	return inner[:len(inner)-1], inner[len(inner)-1], nil
}

// old reports whether number cannot be taken any more: it is of another epoch,
// was opened already, or is older than the window.
func (s *Session) old(number uint64) bool {
	switch {
	case number>>48 != s.newest>>48:
		return true
	case !s.some || number > s.newest:
		return false
	}
	age := s.newest - number
	return age >= window || s.seen>>age&1 == 1
}

func (s *Session) mark(number uint64) {
	switch {
	case !s.some:
		s.some, s.newest, s.seen = true, number, 1
	case number > s.newest:
		s.seen <<= number - s.newest // 64 or more leave nothing
		s.seen |= 1
		s.newest = number
	default:
		s.seen |= 1 << (s.newest - number)
	}
}

// bind sets the additional data of a record with a connection ID, RFC 9146
// section 5.3.
func (s *Session) bind(number uint64, cid []byte, inner int) {
	a := append(s.additional[:0], 255, 255, 255, 255, 255, 255, 255, 255, TypeCID, byte(len(cid)), TypeCID)
	a = binary.BigEndian.AppendUint16(a, version12)
	a = binary.BigEndian.AppendUint64(a, number)
	a = append(a, cid...)
	s.additional = binary.BigEndian.AppendUint16(a, uint16(inner))
}

// bindPlain is bind without a connection ID, RFC 5246 section 6.2.3.3.
func (s *Session) bindPlain(number uint64, kind byte, length int) {
	a := binary.BigEndian.AppendUint64(s.additional[:0], number)
	a = append(a, kind)
	a = binary.BigEndian.AppendUint16(a, version12)
	s.additional = binary.BigEndian.AppendUint16(a, uint16(length))
}

// Seal appends content, of the given type, to dst as one record. The sequence
// number is the explicit nonce as well (RFC 5288, section 3).
func (s *Session) Seal(dst []byte, kind byte, content []byte) ([]byte, error) {
	if s.number&numberMost == numberMost {
		return dst, ErrUsedUp
	}
	number := s.number
	s.number++
	inner := len(content)
	outer := kind
	if len(s.peer) > 0 {
		inner, outer = len(content)+1, TypeCID
	}
	dst = append(dst, outer)
	dst = binary.BigEndian.AppendUint16(dst, version12)
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = append(dst, s.peer...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(explicitNonce+inner+tagLength))
	dst = binary.BigEndian.AppendUint64(dst, number)
	copy(s.nonce[:], s.sealIV[:])
	binary.BigEndian.PutUint64(s.nonce[4:], number)
	at := len(dst)
	dst = append(dst, content...)
	if len(s.peer) > 0 {
		dst = append(dst, kind)
		s.bind(number, s.peer, inner)
	} else {
		s.bindPlain(number, kind, inner)
	}
	return s.seal.Seal(dst[:at], s.nonce[:], dst[at:], s.additional), nil
}
