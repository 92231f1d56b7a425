package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
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

// ownCertificate returns the certificate in dir, and makes one if there is none
// that lasts.
func ownCertificate(dir string, now time.Time) (*tls.Certificate, error) {
	path := filepath.Join(dir, CertificateName)
	text, err := os.ReadFile(path)
	if err == nil {
		c, err := tls.X509KeyPair(text, text)
		if err != nil {
			return nil, fmt.Errorf("web: read %s: %w: restore it from a copy, or delete it to have one made", path, err)
		}
		if now.After(c.Leaf.NotBefore) && now.Before(c.Leaf.NotAfter.Add(-certificateSpare)) {
			return &c, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("web: read certificate: %w", err)
	}
	text, err = selfSigned(now)
	if err == nil {
		var d *os.File
		if d, err = os.Open(dir); err == nil {
			defer d.Close()
			err = writeFile(d, CertificateName, text)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("web: make certificate: %w", err)
	}
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("web: make certificate: %w", err)
	}
	return &c, nil
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
