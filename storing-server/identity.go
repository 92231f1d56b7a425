package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"flexphone/internal/ownkey"
	"flexphone/registry-client/wire"
)

// keyName is the server's key in the data folder. Phones pin it: if it is
// lost, every phone must be told.
const keyName = "server.key"

// serverCertificate returns the server's certificate, with the key kept in
// dir, made there when there is none.
func serverCertificate(dir string) (tls.Certificate, error) {
	path := filepath.Join(dir, keyName)
	key, err := ownkey.Load(path)
	switch {
	case errors.Is(err, ownkey.ErrNone):
		return tls.Certificate{}, fmt.Errorf("read server key: %w; restore it from a copy", err)
	case err != nil:
		return tls.Certificate{}, fmt.Errorf("read server key: %w", err)
	}
	return ownkey.Certificate(key, x509.Certificate{
		Subject:     pkix.Name{CommonName: "storing-server"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, nil)
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
