package srtp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/transport/v5/deadline"

	"flexphone/internal/secret"
)

const (
	// flightTime is between two tries of a flight. It does not grow: who is called
	// begins while it rings, and a caller that can only answer once the call is
	// taken must not be waited for any longer then.
	flightTime = 400 * time.Millisecond
	// handshakeTime is how long one handshake may take, after which it is begun
	// anew.
	handshakeTime = 10 * time.Second
	// longestFlight is how many datagrams are kept to be sent once more, where they
	// are to go elsewhere.
	longestFlight = 8
	// queued is how many datagrams wait for a handshake.
	queued = 32
	// exporterLabel names the keys of DTLS-SRTP (RFC 5764, section 4.2).
	exporterLabel = "EXTRACTOR-dtls_srtp"
)

// errWrongKey: whoever shook hands is not the phone that was meant.
var errWrongKey = errors.New("the peer's certificate is not the one that was named")

// A Fingerprint is a certificate's (RFC 8122, section 5).
type Fingerprint struct {
	Hash  string // sha-256, sha-384 or sha-512; others say nothing
	Value string // the bytes
}

// FingerprintOf is a certificate's SHA-256, which everybody knows.
func FingerprintOf(c tls.Certificate) Fingerprint {
	if len(c.Certificate) == 0 {
		return Fingerprint{}
	}
	sum := sha256.Sum256(c.Certificate[0])
	return Fingerprint{"sha-256", string(sum[:])}
}

// of reports whether f is the fingerprint of der.
func (f Fingerprint) of(der []byte) bool {
	var h hash.Hash
	switch strings.ToLower(f.Hash) {
	case "sha-256":
		h = sha256.New()
	case "sha-384":
		h = sha512.New384()
	case "sha-512":
		h = sha512.New()
	default:
		return false
	}
	h.Write(der)
	return subtle.ConstantTimeCompare(h.Sum(nil), []byte(f.Value)) == 1
}

// pinned reports whether der holds the key with that SHA-256.
func pinned(der []byte, pin [32]byte) bool {
	c, err := x509.ParseCertificate(der)
	return err == nil && sha256.Sum256(c.RawSubjectPublicKeyInfo) == pin
}

// keys are what a handshake has made, of a peer that is not judged yet.
type keys struct {
	suite       Suite
	own, peer   secret.Bytes
	certificate []byte // the peer's
}

// A handshake is one of DTLS, as a net.PacketConn which pion/dtls reads from and
// writes to.
type handshake struct {
	client bool
	random [32]byte       // of the hello that began it, if that was the peer's
	from   netip.AddrPort // whence that came, where it is not known whether the peer is there; zero: where the peer is
	began  time.Time
	conn   *dtls.Conn
	queue  chan []byte
	read   *deadline.Deadline
	write  func([]byte) error
	over   chan struct{}
	close  func()

	// Guarded by the path's lock, as random and from are.
	made  *keys     // once it has succeeded
	done  bool      // it has ended, well or not
	wrong bool      // it was with another than the peer
	heard time.Time // when something of the peer's came last

	sending sync.Mutex
	flight  [][]byte // what was sent since the peer said anything
}

// newHandshake prepares a handshake; write sends a datagram to the peer. judge is
// asked about the peer's certificate.
func newHandshake(client bool, own tls.Certificate, write func([]byte) error, judge func(der []byte) error, now time.Time) (*handshake, error) {
	h := &handshake{
		client: client, began: now, queue: make(chan []byte, queued), read: deadline.New(), write: write, over: make(chan struct{}),
	}
	h.close = sync.OnceFunc(func() { close(h.over) })
	options := []dtls.Option{
		dtls.WithCertificates(own),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(flightTime),
		dtls.WithDisableRetransmitBackoff(true),
		dtls.WithInsecureSkipVerify(true), // certificates sign themselves: judged by their key
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 {
				return errWrongKey
			}
			return judge(raw[0])
		}),
		dtls.WithLoggerFactory(quiet{}),
	}
	var err error
	if client {
		var of []dtls.ClientOption
		for _, o := range options {
			of = append(of, o)
		}
		h.conn, err = dtls.ClientWithOptions(h, h.LocalAddr(), of...)
	} else {
		of := []dtls.ServerOption{
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			// There is one handshake at a time, and only with the peer's host: no
			// state that a cookie would save, and a round trip less.
			dtls.WithInsecureSkipVerifyHello(true),
		}
		for _, o := range options {
			of = append(of, o)
		}
		h.conn, err = dtls.ServerWithOptions(h, h.LocalAddr(), of...)
	}
	if err != nil {
		return nil, fmt.Errorf("srtp: prepare DTLS: %w", err)
	}
	return h, nil
}

// shake shakes hands.
func (h *handshake) shake(ctx context.Context) (*keys, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := h.conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state, ok := h.conn.ConnectionState()
	profile, agreed := h.conn.SelectedSRTPProtectionProfile()
	if !ok || !agreed || len(state.PeerCertificates) == 0 {
		return nil, errors.New("no SRTP, or no certificate")
	}
	suite := Suite(profile)
	salt := suite.saltSize()
	if salt == 0 {
		return nil, errSuite
	}
	all, err := state.ExportKeyingMaterial(exporterLabel, nil, 2*(keySize+salt))
	if err != nil {
		return nil, err
	}
	client := secret.Of(append(bytes.Clone(all[:keySize]), all[2*keySize:2*keySize+salt]...))
	server := secret.Of(append(bytes.Clone(all[keySize:2*keySize]), all[2*keySize+salt:]...))
	k := &keys{suite: suite, own: server, peer: client, certificate: state.PeerCertificates[0]}
	if h.client {
		k.own, k.peer = client, server
	}
	return k, nil
}

// linger answers the peer for as long as its last flight may have been lost. What
// else the peer says is not heard.
func (h *handshake) linger() {
	b := make([]byte, maxPacket)
	for {
		if _, err := h.conn.Read(b); err != nil {
			return
		}
	}
}

// give has the handshake read b, or drops it. The path's lock is held.
func (h *handshake) give(b []byte, now time.Time) {
	h.heard = now
	h.sending.Lock()
	h.flight = nil
	h.sending.Unlock()
	select {
	case h.queue <- bytes.Clone(b):
	default: // it is sent again
	}
}

// ReadFrom implements net.PacketConn.
func (h *handshake) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-h.queue:
		return copy(b, d), h.LocalAddr(), nil
	case <-h.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	case <-h.over:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. What cannot be sent is lost, and sent again.
func (h *handshake) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-h.over:
		return 0, net.ErrClosed
	default:
	}
	h.sending.Lock()
	if len(h.flight) < longestFlight {
		h.flight = append(h.flight, bytes.Clone(b))
	}
	h.sending.Unlock()
	_ = h.write(b)
	return len(b), nil
}

// last returns what was sent since the peer said anything.
func (h *handshake) last() [][]byte {
	h.sending.Lock()
	defer h.sending.Unlock()
	return slices.Clone(h.flight)
}

// Close implements net.PacketConn.
func (h *handshake) Close() error {
	h.close()
	return nil
}

// LocalAddr implements net.PacketConn. Where the peer is, the path knows.
func (h *handshake) LocalAddr() net.Addr { return &net.UDPAddr{} }

// SetDeadline implements net.PacketConn.
func (h *handshake) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (h *handshake) SetReadDeadline(t time.Time) error {
	h.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn: writing does not wait.
func (h *handshake) SetWriteDeadline(time.Time) error { return nil }

// quiet keeps what pion/dtls says of a handshake out of the log, in which its
// environment could make it write more than is good.
type quiet struct{}

func (quiet) NewLogger(string) logging.LeveledLogger { return quiet{} }

func (quiet) Trace(string)          {}
func (quiet) Tracef(string, ...any) {}
func (quiet) Debug(string)          {}
func (quiet) Debugf(string, ...any) {}
func (quiet) Info(string)           {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warn(string)           {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Error(string)          {}
func (quiet) Errorf(string, ...any) {}
