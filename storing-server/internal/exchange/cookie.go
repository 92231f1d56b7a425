package exchange

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// Of a record and a handshake message, RFC 6347 sections 4.1 and 4.2.2.
const (
	recordHeader    = 13
	handshakeHeader = 12

	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplication      = 23
	typeConnectionID     = 25 // tls12_cid, RFC 9146

	messageClientHello        = 1
	messageHelloVerifyRequest = 3

	cookieLength = 20 // pion's
	// cookieTurn is after how long cookies are made otherwise. One is good for
	// one turn at the least, and for two at the most.
	cookieTurn = time.Minute
)

// A hello is what the gate needs of a ClientHello. Its slices are the
// datagram's.
type hello struct {
	sequence uint64 // of its record
	message  uint16 // message_seq
	before   []byte // its body up to the cookie: version, random, session ID
	cookie   []byte
	after    []byte // its body after the cookie
}

// random returns what the client chose for this handshake.
func (h hello) random() [32]byte { return [32]byte(h.before[2:34]) }

// parseHello reads a datagram that begins with a whole ClientHello. One in
// fragments is refused: a client that wants a cookie checked before any memory
// is spent on it sends it in one piece.
func parseHello(data []byte) (h hello, ok bool) {
	if len(data) < recordHeader+handshakeHeader || data[0] != typeHandshake || data[1] != 0xfe ||
		data[2] != 0xff && data[2] != 0xfd || data[3] != 0 || data[4] != 0 {
		return hello{}, false
	}
	h.sequence = recordSequence(data)
	body := data[recordHeader:]
	size := int(binary.BigEndian.Uint16(data[11:]))
	if size < handshakeHeader || size > len(body) || body[0] != messageClientHello {
		return hello{}, false
	}
	h.message = binary.BigEndian.Uint16(body[4:])
	length, offset, fragment := uint24(body[1:]), uint24(body[6:]), uint24(body[9:])
	body = body[handshakeHeader:size]
	if offset != 0 || fragment != length || length != len(body) || length < 2+32+1 {
		return hello{}, false
	}
	end := 2 + 32 + 1 + int(body[34])
	if body[34] > 32 || end+1 > len(body) {
		return hello{}, false
	}
	cookie := end + 1 + int(body[end])
	if cookie > len(body) {
		return hello{}, false
	}
	h.before, h.cookie, h.after = body[:end], body[end+1:cookie], body[cookie:]
	return h, true
}

// first returns the datagram with which a client would have begun that goes on
// with h: without the cookie, and one message earlier.
func (h hello) first() []byte {
	length := len(h.before) + 1 + len(h.after)
	out := make([]byte, 0, recordHeader+handshakeHeader+length)
	out = append(out, typeHandshake, 0xfe, 0xfd, 0, 0)
	out = appendUint48(out, h.sequence^1) // any but its own
	out = binary.BigEndian.AppendUint16(out, uint16(handshakeHeader+length))
	out = append(out, messageClientHello, 0, byte(length>>8), byte(length), 0, 0, 0, 0, 0, 0, byte(length>>8), byte(length))
	out = append(out, h.before...)
	out = append(out, 0)
	return append(out, h.after...)
}

// cookies makes and checks cookies, and keeps nothing about who has them.
type cookies struct{ secret [32]byte }

func newCookies() *cookies {
	c := &cookies{}
	rand.Read(c.secret[:]) // never fails
	return c
}

func (c *cookies) make(from netip.AddrPort, h hello, turn int64) [cookieLength]byte {
	mac := hmac.New(sha256.New, c.secret[:])
	var head [8 + 16 + 2]byte
	binary.BigEndian.PutUint64(head[:], uint64(turn))
	ip := from.Addr().As16()
	copy(head[8:], ip[:])
	binary.BigEndian.PutUint16(head[24:], from.Port())
	mac.Write(head[:])
	mac.Write(h.before)
	return [cookieLength]byte(mac.Sum(nil))
}

func turn(now time.Time) int64 { return now.UnixNano() / int64(cookieTurn) }

// valid reports whether h brings a cookie that was given to from.
func (c *cookies) valid(from netip.AddrPort, h hello, now time.Time) bool {
	if h.message == 0 || len(h.cookie) != cookieLength {
		return false
	}
	for t := turn(now); t >= turn(now)-1; t-- {
		want := c.make(from, h, t)
		if hmac.Equal(h.cookie, want[:]) {
			return true
		}
	}
	return false
}

// request returns the HelloVerifyRequest that answers h. It is shorter than any
// hello, so nobody is flooded through this server.
func (c *cookies) request(from netip.AddrPort, h hello, now time.Time) []byte {
	cookie := c.make(from, h, turn(now))
	const length = 2 + 1 + cookieLength
	out := make([]byte, 0, recordHeader+handshakeHeader+length)
	out = append(out, typeHandshake, 0xfe, 0xfd, 0, 0)
	out = appendUint48(out, h.sequence) // RFC 6347, section 4.2.1
	out = binary.BigEndian.AppendUint16(out, handshakeHeader+length)
	out = append(out, messageHelloVerifyRequest, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length, 0xfe, 0xfd, cookieLength)
	return append(out, cookie[:]...)
}

// turnedAway answers h with the alert that the handshake is cancelled "for some
// reason unrelated to a protocol failure" (RFC 5246, section 7.2.2), so that the
// client need not wait for its own patience to end.
func turnedAway(h hello) []byte {
	out := make([]byte, 0, recordHeader+2)
	out = append(out, typeAlert, 0xfe, 0xfd, 0, 0)
	out = appendUint48(out, h.sequence)
	return append(out, 0, 2, alertFatal, alertUserCanceled)
}

func recordSequence(record []byte) uint64 {
	return binary.BigEndian.Uint64(record[3:]) & (1<<48 - 1)
}

func appendUint48(b []byte, v uint64) []byte {
	return append(b, byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
