package bench

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

// A phone of the bench speaks with pion, after it has moved to another socket.
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
			sealed, err := p.secret.Seal(nil, record.TypeApplication, []byte("x"+text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.conn.Write(sealed); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2048)
			n, err := l.conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			one, rest, ok := record.Split(buf[:n], cidLength)
			if !ok || len(rest) != 0 || l.phone(one) != p {
				t.Fatalf("Split() = %x, %x, %v; want one record for %d", one, rest, ok, p.place)
			}
			content, kind, _, err := p.secret.Open(one)
			if err != nil || kind != record.TypeApplication || string(content) != "x"+text {
				t.Errorf("Open() = %q, %d, %v; want %q", content, kind, err, "x"+text)
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
