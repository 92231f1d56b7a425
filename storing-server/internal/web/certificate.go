package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"flexphone/internal/durable"
)

// CertificateName is the file in the data folder with the certificate that the
// server has signed itself, and its key.
const CertificateName = "http.pem"

// The certificate lasts as long as browsers take one at the most, and is made
// anew a month before its end. Then they ask once more whether to trust it.
const (
	certificateLife  = 825 * 24 * time.Hour
	certificateSpare = 30 * 24 * time.Hour
)

// An ownCertificate is the one that the server has signed itself. It is made anew
// when it is asked for and does not last any more.
type ownCertificate struct {
	dir string
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex
	present *tls.Certificate
}

// openOwn reads the certificate in dir, and makes one if there is none that
// lasts.
func openOwn(dir string, now func() time.Time, log *slog.Logger) (*ownCertificate, error) {
	o := &ownCertificate{dir: dir, now: now, log: log}
	path := filepath.Join(dir, CertificateName)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("web: read certificate: %w", err)
	default:
		c, err := tls.X509KeyPair(text, text)
		if err != nil {
			return nil, fmt.Errorf("web: read %s: %w: restore it from a copy, or delete it to have one made", path, err)
		}
		o.present = &c
	}
	if !o.lasts() {
		if err := o.renew(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *ownCertificate) lasts() bool {
	now := o.now()
	return o.present != nil && now.After(o.present.Leaf.NotBefore) && now.Before(o.present.Leaf.NotAfter.Add(-certificateSpare))
}

func (o *ownCertificate) renew() error {
	text, err := selfSigned(o.now())
	if err == nil {
		err = durable.WriteFile(filepath.Join(o.dir, CertificateName), text, 0o600)
	}
	var c tls.Certificate
	if err == nil {
		c, err = tls.X509KeyPair(text, text)
	}
	if err != nil {
		return fmt.Errorf("web: make certificate: %w", err)
	}
	o.present = &c
	return nil
}

// get is for tls.Config.
func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.lasts() {
		if err := o.renew(); err != nil {
			o.log.Error("the old certificate is shown", "err", err)
		} else {
			o.log.Info("certificate made anew", "http-certificate", o.fingerprint())
		}
	}
	return o.present, nil
}

// fingerprint is the certificate's SHA-256 hash, as browsers show it.
func (o *ownCertificate) fingerprint() string {
	sum := sha256.Sum256(o.present.Certificate[0])
	return hex.EncodeToString(sum[:])
}

func selfSigned(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	serial := make([]byte, 16)
	rand.Read(serial) // never fails
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: "storing-server on " + host},
		DNSNames:     []string{host, "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-24 * time.Hour), // a browser's clock may be slow
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = errors.Join(pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return out.Bytes(), err
}
