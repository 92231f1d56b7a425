package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// formatVersion is of what Append writes.
const formatVersion = 1

// plainLength is how long what Append writes is, besides the connection ID.
const plainLength = 3 + 2*keyLength + 2*4 + 3*8 + 1

// Append appends the session to b, with its keys: whoever reads it can speak
// for both ends. The session must not be used any more after that, since two
// of it would use the same numbers.
func (s *Session) Append(b []byte) []byte {
	b = append(b, formatVersion, byte(s.own), byte(len(s.peer)))
	b = append(b, s.peer...)
	b = append(b, s.sealKey[:]...)
	b = append(b, s.openKey[:]...)
	b = append(b, s.sealIV[:]...)
	b = append(b, s.openIV[:]...)
	b = binary.BigEndian.AppendUint64(b, s.number)
	b = binary.BigEndian.AppendUint64(b, s.newest)
	b = binary.BigEndian.AppendUint64(b, s.seen)
	if s.some {
		return append(b, 1)
	}
	return append(b, 0)
}

// Parse reads what Append has written, and returns what follows it.
func Parse(b []byte) (s *Session, rest []byte, err error) {
	if len(b) < plainLength || len(b) < plainLength+int(b[2]) {
		return nil, nil, errors.New("record: read session: cut short")
	}
	if b[0] != formatVersion {
		return nil, nil, fmt.Errorf("record: read session: format %d, want %d", b[0], formatVersion)
	}
	s = &Session{own: int(b[1]), peer: append([]byte(nil), b[3:3+int(b[2])]...)}
	b = b[3+len(s.peer):]
	for _, field := range [][]byte{s.sealKey[:], s.openKey[:], s.sealIV[:], s.openIV[:]} {
		b = b[copy(field, b):]
	}
	for i, field := range []*uint64{&s.number, &s.newest, &s.seen} {
		*field = binary.BigEndian.Uint64(b[8*i:])
	}
	if b[24] > 1 {
		return nil, nil, errors.New("record: read session: malformed")
	}
	s.some = b[24] == 1
	return s, b[25:], s.ciphers()
}
