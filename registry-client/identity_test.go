package registry

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

func TestLoadIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	mac := testMAC
	id, err := LoadIdentity(dir, mac)
	if err != nil {
		t.Fatal(err)
	}
	leaf := id.Certificate.Leaf
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != testMAC.URN() || FingerprintOf(leaf) != id.Fingerprint {
		t.Errorf("certificate names %v", leaf.URIs)
	}
	if _, ok := leaf.PublicKey.(ed25519.PublicKey); !ok || leaf.NotBefore.After(time.Unix(1e9, 0)) {
		t.Errorf("certificate has a %T, valid from %v", leaf.PublicKey, leaf.NotBefore)
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		t.Error(err)
	}
	again, err := LoadIdentity(dir, mac)
	if err != nil || !bytes.Equal(again.Certificate.Certificate[0], id.Certificate.Certificate[0]) {
		t.Errorf("second load: another certificate, %v", err)
	}
	path := filepath.Join(dir, keyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", info.Mode(), err)
	}
	other, err := LoadIdentity(t.TempDir(), mac)
	if err != nil || other.Fingerprint == id.Fingerprint {
		t.Errorf("another phone has the same key, %v", err)
	}
	for _, bad := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(dir, mac); err == nil {
			t.Errorf("key %q was taken", bad)
		}
		if b, _ := os.ReadFile(path); string(b) != bad {
			t.Errorf("a key that cannot be read was replaced")
		}
	}
}

func TestPins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "servers.json")
	a, b := wire.Fingerprint{1}, wire.Fingerprint{2}
	for _, tt := range []struct {
		server string
		key    wire.Fingerprint
		ok     bool
	}{{"one:5684", a, true}, {"one:5684", a, true}, {"one:5684", b, false}, {"two:5684", b, true}, {"one:5684", a, true}} {
		err := NewFilePins(path).Check(tt.server, tt.key)
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrServerKey) {
			t.Errorf("Check(%s, %v) = %v; want ok = %v", tt.server, tt.key, err, tt.ok)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not say which file to change", err)
		}
	}
}

// A certificate in the data folder must be for this key and this MAC.
func TestIssuedCertificate(t *testing.T) {
	mac := netlink.MAC{2, 0, 0x5e, 0, 0x53, 1}
	dir, other := t.TempDir(), t.TempDir()
	id, err := LoadIdentity(dir, mac)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := LoadIdentity(other, mac)
	if err != nil {
		t.Fatal(err)
	}
	put := func(der []byte) {
		t.Helper()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, CertificateFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(id.Certificate.Certificate[0])
	if again, err := LoadIdentity(dir, mac); err != nil || again.Fingerprint != id.Fingerprint {
		t.Errorf("with its own certificate: %v", err)
	}
	if _, err := LoadIdentity(dir, netlink.MAC{2, 0, 0x5e, 0, 0x53, 2}); err == nil {
		t.Error("a certificate for another MAC is taken")
	}
	put(foreign.Certificate.Certificate[0])
	if _, err := LoadIdentity(dir, mac); err == nil {
		t.Error("a certificate for another key is taken")
	}
	put([]byte("nonsense"))
	if _, err := LoadIdentity(dir, mac); err == nil {
		t.Error("nonsense is taken")
	}
}
