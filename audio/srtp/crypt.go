package srtp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	pion "github.com/pion/srtp/v3"

	"flexphone/audio"
	"flexphone/internal/secret"
)

// A Suite is how sound is encrypted and authenticated. Its value is the profile's of
// DTLS-SRTP (RFC 5764, section 4.1.2; RFC 7714, section 14.2).
type Suite uint16

// The suites that we speak.
const (
	AES128CMSHA1 Suite = 0x0001 // AES_CM_128_HMAC_SHA1_80 (RFC 4568, section 6.2)
	AES128GCM    Suite = 0x0007 // AEAD_AES_128_GCM (RFC 7714)
)

// String returns the suite's name in a=crypto.
func (s Suite) String() string {
	switch s {
	case AES128CMSHA1:
		return "AES_CM_128_HMAC_SHA1_80"
	case AES128GCM:
		return "AEAD_AES_128_GCM"
	}
	return fmt.Sprintf("suite %#x", uint16(s))
}

const keySize = 16 // of either suite's master key, in bytes

// saltSize is the length of the suite's master salt in bytes; 0: there is no such
// suite.
func (s Suite) saltSize() int {
	switch s {
	case AES128CMSHA1:
		return 14
	case AES128GCM:
		return 12
	}
	return 0
}

// KeyingSize is the length of master key and salt together, in bytes.
func (s Suite) KeyingSize() int { return keySize + s.saltSize() }

// rtcpTrailer is what follows SRTCP's index: the tag, where it is not in front of it.
func (s Suite) rtcpTrailer() int {
	if s == AES128CMSHA1 {
		return 10
	}
	return 0
}

// overhead is the most that a suite adds to a packet: a tag of 16 bytes, or of 10,
// and SRTCP's index.
const overhead = 16 + 4

const (
	// window is how far behind the newest a packet may be (RFC 3711, section 3.3.2):
	// five seconds of packets of 20 ms.
	window = 256
	// mostSources bounds what a peer can make us remember.
	mostSources = 32
	// hole is how many packets may be missing until the keys are made new. A context
	// takes what comes after 2^15 for what was long before, for ever.
	hole = 1 << 14
)

var (
	errSources = errors.New("too many sources")
	errUsed    = errors.New("these keys were in use before")
	errSuite   = errors.New("no such suite, or a key of another length")
)

// A keyring makes contexts, and of any key no more than one: with the same key
// again, numbers would be used twice (RFC 3711, section 9.1), and packets after a
// wrap not be understood.
type keyring struct{ used map[[sha256.Size]byte]bool }

func (r *keyring) context(s Suite, keying secret.Bytes) (*pion.Context, error) {
	if s.saltSize() == 0 || keying.Len() != s.KeyingSize() {
		return nil, errSuite
	}
	id := sha256.Sum256(keying.Reveal())
	if r.used[id] {
		return nil, errUsed
	}
	c, err := pion.CreateContext(keying.Reveal()[:keySize], keying.Reveal()[keySize:], pion.ProtectionProfile(s),
		pion.SRTPReplayProtection(window), pion.SRTCPReplayProtection(window))
	if err != nil {
		return nil, err
	}
	if r.used == nil {
		r.used = make(map[[sha256.Size]byte]bool)
	}
	r.used[id] = true
	return c, nil
}

// An outbound encrypts what we send.
type outbound struct {
	mu     sync.Mutex
	ctx    *pion.Context
	rtp    rtp.Header
	rtcp   rtcp.Header
	packet [maxPacket]byte
}

// seal encrypts b, and has send send it.
func (o *outbound) seal(what audio.Protocol, b []byte, send func([]byte) error) error {
	if len(b)+overhead > len(o.packet) {
		return fmt.Errorf("srtp: send: %d bytes are too many", len(b))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var sealed []byte
	var err error
	if what == audio.RTCP {
		sealed, err = o.ctx.EncryptRTCP(o.packet[:0], b, &o.rtcp)
	} else {
		sealed, err = o.ctx.EncryptRTP(o.packet[:0], b, &o.rtp)
	}
	if err != nil {
		return fmt.Errorf("srtp: encrypt: %w", err)
	}
	return send(sealed)
}

// An inbound decrypts what the peer sends. It belongs to the goroutine that
// receives.
type inbound struct {
	suite Suite
	ctx   *pion.Context
	rtp   rtp.Header
	rtcp  rtcp.Header
	// highest are the newest numbers, by source and protocol.
	highest map[source]uint32
}

type source struct {
	ssrc uint32
	of   audio.Protocol
}

// An opened is a packet that the peer has sent for certain.
type opened struct {
	bytes  []byte
	newest bool // newer than all before
	jumped bool // so many are missing before it that the keys must be made new
}

// open decrypts b in its place.
func (i *inbound) open(what audio.Protocol, b []byte) (o opened, err error) {
	s := source{of: what}
	if what == audio.RTCP {
		s.ssrc = binary.BigEndian.Uint32(b[4:])
	} else {
		s.ssrc = binary.BigEndian.Uint32(b[8:])
	}
	before, known := i.highest[s]
	if !known && len(i.highest) >= mostSources {
		return opened{}, errSources
	}
	var number uint32
	if what == audio.RTCP {
		if len(b) < 4+i.suite.rtcpTrailer() {
			return opened{}, errSuite
		}
		number = binary.BigEndian.Uint32(b[len(b)-4-i.suite.rtcpTrailer():]) &^ (1 << 31)
		o.bytes, err = i.ctx.DecryptRTCP(b, b, &i.rtcp)
		o.newest = !known || number > before
	} else {
		number = uint32(binary.BigEndian.Uint16(b[2:]))
		o.bytes, err = i.ctx.DecryptRTP(b, b, &i.rtp)
		// What opens is no older than the window: it is ahead, however far.
		behind := uint16(before) - uint16(number)
		o.newest = !known || behind > window
		o.jumped = known && o.newest && -behind > hole
	}
	if err != nil {
		return opened{}, err
	}
	if o.newest {
		i.highest[s] = number
	}
	return o, nil
}

func newInbound(s Suite, ctx *pion.Context) *inbound {
	return &inbound{suite: s, ctx: ctx, highest: make(map[source]uint32)}
}
