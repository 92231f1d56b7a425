package srtp

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/pathtest"
)

// identity is a phone's certificate and the SHA-256 of its key.
func identity(t testing.TB) (tls.Certificate, [32]byte) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, public, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}

// A side is a path of a test, and what its peer is told of it.
type side struct {
	*Path
	pin [32]byte
	at  netip.AddrPort
}

func newSide(t testing.TB) *side {
	t.Helper()
	cert, pin := identity(t)
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := New(t.Context(), conn, Config{Certificate: cert, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { p.Close() })
	return &side{p, pin, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Port())}
}

// with is what agrees with s about it by DTLS.
func (s *side) with(active bool) Agreement {
	return Agreement{Remote: s.at, Mux: true, Peer: s.Own(), DTLS: &DTLS{
		Active: active, Fingerprints: []Fingerprint{s.Fingerprint()}, Pin: s.pin,
	}}
}

func TestPathByDTLS(t *testing.T) {
	pathtest.Path(t, func(t *testing.T) (audio.Path, audio.Path) {
		a, b := newSide(t), newSide(t)
		if err := a.Start(b.with(true)); err != nil {
			t.Fatal(err)
		}
		if err := b.Start(a.with(false)); err != nil {
			t.Fatal(err)
		}
		return a, b
	})
}
