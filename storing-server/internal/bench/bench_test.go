package bench

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"flexphone/registry-client/wire"
)

// The record layer of the bench speaks with pion's, in both directions, after
// the phone has moved to another socket.
func TestRecords(t *testing.T) {
	cert, err := certificate(1)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
		dtls.WithCertificates(cert), dtls.WithClientAuth(dtls.RequireAnyClientCert),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(8)))
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan error, 1)
	go func() { echoed <- echo(t.Context(), listener) }()
	to := listener.Addr().(*net.UDPAddr)
	l, err := newLine(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer l.conn.Close()
	f := &fleet{server: to, lines: []*line{l}}
	for i := range 2 {
		p, err := f.handshake(t.Context(), i, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one", "", "three"} {
			if err := l.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := l.conn.Write(p.secret.wrap(nil, typeApplication, []byte("x"+text))); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2048)
			n, err := l.conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			place, ok := cidOf(buf[:n])
			if !ok || place != p.place {
				t.Fatalf("record for %d, %v; want for %d", place, ok, p.place)
			}
			spoiled := append([]byte(nil), buf[:n]...)
			spoiled[n-1] ^= 1
			if _, _, _, err := p.secret.unwrap(spoiled); !errors.Is(err, errRecord) {
				t.Errorf("unwrap of a spoiled record: %v; want errRecord", err)
			}
			content, kind, rest, err := p.secret.unwrap(buf[:n])
			if err != nil || kind != typeApplication || string(content) != "x"+text || len(rest) != 0 {
				t.Errorf("unwrap() = %q, %d, %d more, %v; want %q", content, kind, len(rest), err, "x"+text)
			}
		}
	}
	listener.Close()
	if err := <-echoed; err != nil {
		t.Error(err)
	}
}

// echo answers two sessions, each three times.
func echo(ctx context.Context, l net.Listener) error {
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if err := c.(*dtls.Conn).HandshakeContext(ctx); err != nil {
			return err
		}
		buf := make([]byte, 2048)
		for range 3 {
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// What comes from the network in a record's place does no harm.
func FuzzUnwrap(f *testing.F) {
	key := make([]byte, 16)
	aead, err := gcm(key)
	if err != nil {
		f.Fatal(err)
	}
	ours := secret{seal: aead, open: aead, theirs: make([]byte, cidLength), number: 1 << 48}
	f.Add(ours.wrap(nil, typeApplication, []byte("a message")))
	f.Add(ours.wrap(nil, typeAlert, []byte{1, 0}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := ours
		if _, ok := cidOf(b); !ok {
			return
		}
		content, kind, rest, err := s.unwrap(append([]byte(nil), b...))
		if err != nil {
			return
		}
		if len(content)+len(rest) > len(b) || kind == 0 {
			t.Errorf("unwrap() = %d bytes of type %d and %d more, of %d", len(content), kind, len(rest), len(b))
		}
	})
}

// A phone's certificate has the key that the server will know it by.
func TestIdentity(t *testing.T) {
	cert, err := certificate(7)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fingerprintOf(7)
	if err != nil {
		t.Fatal(err)
	}
	if got := leafFingerprint(t, cert); got != want {
		t.Errorf("fingerprint %v; want %v", got, want)
	}
	if macOf(7) == macOf(8) || !macOf(1<<31).Valid() {
		t.Error("MACs are not unique or not valid")
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i+1)*time.Millisecond)
	}
	l := (&tally{took: 2 * time.Second, times: times}).load()
	if l.Rate != 500 || l.P50 != 501 || l.P99 != 991 || l.P999 != 1000 {
		t.Errorf("load() = %+v; want 500/s and 501, 991, 1000 ms", l)
	}
	if l := (&tally{}).load(); l.P50 != 0 || l.Rate != 0 {
		t.Errorf("load() of nothing = %+v", l)
	}
}

func leafFingerprint(t *testing.T, cert tls.Certificate) wire.Fingerprint {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}
