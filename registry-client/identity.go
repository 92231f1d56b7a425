package registry

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"flexphone/internal/durable"
	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// keyFile is the device key's name in the data folder.
const keyFile = "device.key"

// CertificateFile is the name in the data folder of a certificate for the
// device key that the operator's authority has issued, with its chain, in PEM.
// Most phones have none.
const CertificateFile = "device.crt"

// An Identity is what a phone proves itself with, to the storing server and to
// other phones.
type Identity struct {
	MAC         wire.MAC
	Certificate tls.Certificate
	Fingerprint wire.Fingerprint // of the key, as others pin it
}

// LoadIdentity returns the identity kept in dir, and makes its Ed25519 key
// there when there is none yet. With a CertificateFile that is the certificate;
// it must be for this key and name mac. Otherwise the certificate is a function
// of the key and mac alone: it is signed by the key itself, valid without end
// (a phone may not know the time), and names urn:dev:mac:… as its subject.
//
// A key that cannot be read is an error and is never replaced, since the
// storing server gives the row to the key that it knows. A Folder is for phones,
// which must go on.
func LoadIdentity(dir string, mac netlink.MAC) (Identity, error) {
	key, err := loadKey(filepath.Join(dir, keyFile))
	if err != nil {
		return Identity{}, fmt.Errorf("registry: load identity: %w", err)
	}
	id, err := identityOf(dir, key, mac)
	if err != nil {
		return Identity{}, fmt.Errorf("registry: load identity: %w", err)
	}
	return id, nil
}

// identityOf returns the identity of a key, with the certificate in dir if there
// is one.
func identityOf(dir string, key ed25519.PrivateKey, mac netlink.MAC) (Identity, error) {
	cert, err := issued(filepath.Join(dir, CertificateFile), key, mac)
	if errors.Is(err, fs.ErrNotExist) {
		cert, err = selfSigned(key, mac)
	}
	if err != nil {
		return Identity{}, err
	}
	return identity(cert, mac), nil
}

func identity(cert tls.Certificate, mac netlink.MAC) Identity {
	return Identity{MAC: mac, Certificate: cert, Fingerprint: FingerprintOf(cert.Leaf)}
}

// issued reads the certificate that an authority has issued for key and mac.
func issued(path string, key ed25519.PrivateKey, mac wire.MAC) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read certificate: %w", err)
	}
	cert := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
	}
	if len(cert.Certificate) == 0 {
		return tls.Certificate{}, fmt.Errorf("read certificate %s: no PEM block CERTIFICATE", path)
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return tls.Certificate{}, fmt.Errorf("read certificate %s: %w", path, err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(cert.Leaf.PublicKey) {
		return tls.Certificate{}, fmt.Errorf("read certificate %s: it is for another key than this phone's", path)
	}
	for _, u := range cert.Leaf.URIs {
		if m, err := wire.ParseURN(u.String()); err == nil && m == mac {
			return cert, nil
		}
	}
	return tls.Certificate{}, fmt.Errorf("read certificate %s: it does not name %s", path, mac.URN())
}

// FingerprintOf returns the fingerprint of the key that cert certifies.
func FingerprintOf(cert *x509.Certificate) wire.Fingerprint {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// errNotAKey: the file of a key can be read, but holds none.
var errNotAKey = errors.New("no Ed25519 key in it")

// loadKey returns the key at path, and makes it first when there is none.
func loadKey(path string) (ed25519.PrivateKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, storeKey(path, key)
}

func readKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read key %s: %w: no PEM block PRIVATE KEY; restore it from a copy, or delete it to enrol anew", path, errNotAKey)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w: %w", path, errNotAKey, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: %w: a %T", path, errNotAKey, k)
	}
	return key, nil
}

func storeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	return nil
}

// selfSigned is deterministic: Ed25519 signatures are, and the serial number
// is taken from the key.
func selfSigned(key ed25519.PrivateKey, mac wire.MAC) (tls.Certificate, error) {
	public := key.Public().(ed25519.PublicKey)
	name, err := url.Parse(mac.URN())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	digest := sha256.Sum256(append(public[:len(public):len(public)], mac[:]...))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(digest[:16]),
		Subject:      pkix.Name{CommonName: mac.String()},
		URIs:         []*url.URL{name},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		// RFC 5280, section 4.1.2.5: no well-defined expiry.
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
