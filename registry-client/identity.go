package registry

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"flexphone/internal/ownkey"
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

// loadKey returns the key at path, and makes it first when there is none.
func loadKey(path string) (ed25519.PrivateKey, error) {
	key, err := ownkey.Load(path)
	if errors.Is(err, ownkey.ErrNone) {
		err = fmt.Errorf("%w; restore it from a copy, or delete it to enrol anew", err)
	}
	return key, err
}

// selfSigned returns the certificate that is a function of key and mac.
func selfSigned(key ed25519.PrivateKey, mac wire.MAC) (tls.Certificate, error) {
	name, err := url.Parse(mac.URN())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return ownkey.Certificate(key, x509.Certificate{
		Subject:               pkix.Name{CommonName: mac.String()},
		URIs:                  []*url.URL{name},
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, mac[:])
}
