package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// stranger is a phone of another make: a key and a certificate in files.
type stranger struct {
	dir string
	mac wire.MAC
}

func newStranger(t *testing.T, mac wire.MAC) stranger {
	t.Helper()
	s := stranger{t.TempDir(), mac}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(mac.URN())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), URIs: []*url.URL{u},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	s.write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return s
}

func (s stranger) path(name string) string { return filepath.Join(s.dir, name) }

func (s stranger) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Clients of others', on the libraries that Debian has, announce, resolve and
// release: none of them knows connection IDs.
func TestLibcoap(t *testing.T) {
	for i, client := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		t.Run(client, func(t *testing.T) {
			if _, err := exec.LookPath(client); err != nil {
				t.Skip("install libcoap3-bin")
			}
			server := startServer(t, t.TempDir(), "127.0.0.1:0")
			mac := wire.MAC{2, 0, 0x5e, 0, 0x53, byte(i + 1)}
			s := newStranger(t, mac)
			// ask makes one request, and returns the body of its answer.
			ask := func(method, path string, more ...string) []byte {
				t.Helper()
				out := s.path("answer")
				os.Remove(out)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				args := append([]string{"-m", method, "-c", s.path("cert.pem"), "-j", s.path("key.pem"), "-o", out, "-B", "20", "-v", "6"}, more...)
				said, err := exec.CommandContext(ctx, client, append(args, "coaps://"+server.addr+path)...).CombinedOutput()
				if err != nil || !strings.Contains(string(said), "t:ACK c:2.0") {
					t.Fatalf("%s %s: %v\n%s", method, path, err, said)
				}
				body, err := os.ReadFile(out)
				if err != nil && method != "delete" {
					t.Fatalf("%s %s: no answer: %v\n%s", method, path, err, said)
				}
				return body
			}
			for sequence := range uint64(3) {
				addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(sequence + 1)})
				body, err := wire.EncodeRegistration(wire.Registration{
					MAC: mac, Addrs: []netip.Addr{addr}, Ports: wire.Ports{SIP: 5060}, Sequence: sequence + 1, Lifetime: time.Hour,
				})
				if err != nil {
					t.Fatal(err)
				}
				s.write(t, "body", body)
				receipt, err := wire.DecodeReceipt(ask("post", "/rd", "-f", s.path("body"), "-t", "60"))
				if err != nil || receipt.Sequence != sequence+1 || receipt.Number != "101" {
					t.Errorf("receipt %+v, %v", receipt, err)
				}
				for _, query := range []wire.Query{{MAC: mac}, {Number: "101"}} {
					row, err := wire.DecodeRow(ask("get", "/"+strings.Join(query.Path(), "/"), "-A", "60"))
					if err != nil || row.MAC != mac || !slices.Equal(row.Addrs, []netip.Addr{addr}) || row.State != wire.Online {
						t.Errorf("row of %v: %+v, %v", query, row, err)
					}
				}
			}
			w := wire.Withdrawal{MAC: mac, Sequence: 9}
			ask("delete", "/rd?"+strings.Join(w.Queries(), "&"))
			if row, ok := server.rows.Resolve(wire.Query{MAC: mac}); !ok || row.State == wire.Online {
				t.Errorf("after its release the row is %+v, %v", row, ok)
			}
		})
	}
}
