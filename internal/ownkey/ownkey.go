// Package ownkey is the key that a program proves itself with, and the
// certificate that this key signs itself.
//
// It knows Ed25519, the file that such a key is kept in, and a certificate
// without end. It refuses to know whose key it is, who pins it, and what is to
// be done about one that is lost.
package ownkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"flexphone/internal/durable"
)

// blockType is what PEM calls a key in PKCS #8 (RFC 7468, section 10).
const blockType = "PRIVATE KEY"

// ErrNone is wrapped where a file can be read, but holds no key.
var ErrNone = errors.New("no Ed25519 key in it")

// Load returns the key in the file at path, and makes one there when there is no
// file. A file without a key in it is an error, and stays as it is.
func Load(path string) (ed25519.PrivateKey, error) {
	key, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("ownkey: make: %w", err)
	}
	return key, Store(path, key)
}

// Read returns the key in the file at path. The error is ErrNone, or what the
// system says.
func Read(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ownkey: %w", err)
	}
	key, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("ownkey: read %s: %w", path, err)
	}
	return key, nil
}

func parse(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != blockType {
		return nil, fmt.Errorf("%w: no PEM block %s", ErrNone, blockType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: a %T", ErrNone, parsed)
	}
	return key, nil
}

// Store writes key to the file at path, durably, and makes its folder when it is
// missing. Only the owner may read either.
func Store(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("ownkey: store: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("ownkey: store: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("ownkey: store: %w", err)
	}
	return nil
}

// Certificate returns a certificate for key that is signed with key. It names
// what names does, is for what names is for, and is valid without end, since
// whoever reads it may not know the time.
//
// It is a function of its arguments: Ed25519 signatures are, and the serial
// number is taken from the key and from owner, which tells apart what one key
// certifies.
func Certificate(key ed25519.PrivateKey, names x509.Certificate, owner []byte) (tls.Certificate, error) {
	public := key.Public().(ed25519.PublicKey)
	digest := sha256.Sum256(append(public[:len(public):len(public)], owner...))
	template := names
	template.SerialNumber = new(big.Int).SetBytes(digest[:16])
	template.NotBefore = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	template.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // RFC 5280, section 4.1.2.5: no well-defined expiry
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("ownkey: make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("ownkey: make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
