package srtp

// A kind is what a datagram on the one socket is.
type kind uint8

const (
	other kind = iota // nothing of ours
	isSTUN
	isDTLS
	isRTP
	isRTCP
)

// shortest is the length of an RTP header without anything behind it; what is
// shorter is neither RTP nor, with its tag and index, SRTCP.
const shortest = 12

// kindOf tells what b is by its first byte (RFC 7983, section 7), and RTCP from
// RTP by its second (RFC 5761, section 4).
func kindOf(b []byte) kind {
	if len(b) == 0 {
		return other
	}
	switch first := b[0]; {
	case first <= 3:
		return isSTUN
	case first >= 20 && first <= 63:
		return isDTLS
	case first < 128 || first > 191 || len(b) < shortest:
		return other
	}
	if t := b[1]; t >= 192 && t <= 223 {
		return isRTCP
	}
	return isRTP
}

// isClientHello reports whether b, which is DTLS, begins with a ClientHello that
// nothing encrypts: a wish to shake hands (RFC 6347, sections 4.1 and 4.3.2).
func isClientHello(b []byte) bool {
	const handshake, clientHello, header = 22, 1, 13
	return len(b) > header && b[0] == handshake && b[3] == 0 && b[4] == 0 && b[header] == clientHello
}
