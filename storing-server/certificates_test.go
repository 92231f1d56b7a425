package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flexphone/storing-server/internal/trust"
)

// operatorsPair makes a certificate of that name, with its key.
func operatorsPair(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
}

// What is read again is in force, and what cannot be read stays as it was.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "pair.pem")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(at, operatorsPair(t, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	c, err := openCertificate("--http", at, at, "--http", ":8443")
	if err != nil {
		t.Fatal(err)
	}
	a, err := trust.LoadAuthorities(at)
	if err != nil {
		t.Fatal(err)
	}
	present := func() string {
		t.Helper()
		got, err := c.get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	var said bytes.Buffer
	hangUp := func() string {
		said.Reset()
		signals := make(chan os.Signal)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			reloadFiles(ctx, signals, []reloader{c, a}, slog.New(slog.NewTextHandler(&said, nil)))
		}()
		signals <- syscall.SIGHUP
		stop() // which is noticed when all is read
		<-done
		return said.String()
	}
	write("second")
	if present() != "first" {
		t.Error("a file is read before anybody asked for it")
	}
	if out := hangUp(); present() != "second" || !strings.Contains(out, "files=2 failed=0") {
		t.Errorf("reloaded: %s: %s", present(), out)
	}
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if out := hangUp(); present() != "second" || !strings.Contains(out, "read --http-cert") || !strings.Contains(out, "read authorities") || !strings.Contains(out, "files=0 failed=2") {
		t.Errorf("without the files: %s: %s", present(), out)
	}
	var usage *usageError
	if _, err := openCertificate("--http", at, "", "--http", ":8443"); !errors.As(err, &usage) {
		t.Errorf("a certificate without its key: %v", err)
	}
}
