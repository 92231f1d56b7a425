package main

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
	"os"
	"path/filepath"
	"time"

	"flexphone/internal/durable"
	"flexphone/registry-client/wire"
)

// keyName is the server's key in the data folder. Phones pin it: if it is
// lost, every phone must be told.
const keyName = "server.key"

// serverCertificate returns the server's certificate, with the key kept in
// dir, made there when there is none.
func serverCertificate(dir string) (tls.Certificate, error) {
	path := filepath.Join(dir, keyName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeServerKey(path)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read server key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return tls.Certificate{}, fmt.Errorf("read server key %s: no PEM block; restore it from a copy", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read server key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return tls.Certificate{}, fmt.Errorf("read server key %s: a %T, want Ed25519", path, parsed)
	}
	digest := sha256.Sum256(key.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(digest[:16]),
		Subject:      pkix.Name{CommonName: "storing-server"},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// keyLost reports an error where the server's key is missing beside rows: a new
// one would keep every phone away that has pinned the old one.
func keyLost(dir string, rows int) error {
	path := filepath.Join(dir, keyName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("read server key: %s is missing beside %d rows, whose phones know this server by it: put it back from a copy, or from a backup (storing-server restore FILE --data ELSEWHERE, and copy %s from there); or start once with --new-server-key, and have every phone forget the old one", path, rows, keyName)
}

func fingerprint(cert tls.Certificate) wire.Fingerprint {
	return sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
}

// makeServerKey writes a new key.
func makeServerKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return text, durable.WriteFile(path, text, 0o600)
}
