package bench

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A phone's certificate has the key that the server will know it by.
func TestIdentity(t *testing.T) {
	cert, err := certificate(7)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fingerprintOf(7)
	if err != nil {
		t.Fatal(err)
	}
	if got := leafFingerprint(t, cert); got != want {
		t.Errorf("fingerprint %v; want %v", got, want)
	}
	if macOf(7) == macOf(8) || !macOf(1<<31).Valid() {
		t.Error("MACs are not unique or not valid")
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i+1)*time.Millisecond)
	}
	l := (&tally{took: 2 * time.Second, times: times}).load()
	if l.Rate != 500 || l.P50 != 501 || l.P99 != 991 || l.P999 != 1000 {
		t.Errorf("load() = %+v; want 500/s and 501, 991, 1000 ms", l)
	}
	if l := (&tally{}).load(); l.P50 != 0 || l.Rate != 0 {
		t.Errorf("load() of nothing = %+v", l)
	}
}

func leafFingerprint(t *testing.T, cert tls.Certificate) wire.Fingerprint {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}
