package ownkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A key is made once, and is the same from then on.
func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "own.key")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read() of no file = %v", err)
	}
	key, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]func(string) (ed25519.PrivateKey, error){"Load": Load, "Read": Read} {
		if again, err := of(path); err != nil || !again.Equal(key) {
			t.Errorf("%s() of it = another key, %v", name, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v; want mode 0600", info, err)
	}
	if info, err = os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v; want mode 0700", info, err)
	}
}

// A file that holds no key is told from one that cannot be read, and is never
// written over.
func TestNoKey(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty":         {},
		"no PEM":        []byte("key"),
		"a certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"no PKCS #8":    pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der[1:]}),
		"of a curve":    pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}),
	} {
		path := filepath.Join(t.TempDir(), "own.key")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); !errors.Is(err, ErrNone) {
			t.Errorf("%s: Load() = %v; want ErrNone", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, text) {
			t.Errorf("%s: the file is %q afterwards, %v", name, after, err)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Load() of a folder = %v; want what the system says", err)
	}
}

// A certificate is a function of the key, the names and the owner.
func TestCertificate(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	names := x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	one, err := Certificate(key, names, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	same, err := Certificate(key, names, []byte("one"))
	if err != nil || !bytes.Equal(one.Certificate[0], same.Certificate[0]) {
		t.Errorf("made again it differs, %v", err)
	}
	two, err := Certificate(key, names, []byte("two"))
	if err != nil || one.Leaf.SerialNumber.Cmp(two.Leaf.SerialNumber) == 0 {
		t.Errorf("another owner's has the same serial number, %v", err)
	}
	if err := one.Leaf.CheckSignature(one.Leaf.SignatureAlgorithm, one.Leaf.RawTBSCertificate, one.Leaf.Signature); err != nil {
		t.Errorf("its signature: %v", err)
	}
	if one.Leaf.Subject.CommonName != "somebody" || one.Leaf.NotAfter.Year() != 9999 || !one.Leaf.NotBefore.Before(time.Unix(1<<30, 0)) {
		t.Errorf("it is of %v, from %v to %v", one.Leaf.Subject, one.Leaf.NotBefore, one.Leaf.NotAfter)
	}
}

func FuzzParse(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parse(text)
		if err != nil {
			if !errors.Is(err, ErrNone) {
				t.Errorf("parse() = %v; want ErrNone", err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "key")
		if err := Store(path, key); err != nil {
			t.Fatal(err)
		}
		if again, err := Read(path); err != nil || !again.Equal(key) {
			t.Errorf("stored and read it is another key, %v", err)
		}
	})
}
