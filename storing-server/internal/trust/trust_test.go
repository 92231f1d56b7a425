package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

var start = time.Unix(1_000_000, 0)

// Who tries all numbers gets a few answers, and the others all of theirs.
func TestHarvest(t *testing.T) {
	l := NewLookups(1, nil)
	thief, home := wire.Fingerprint{1}, NetworkOf(netip.MustParseAddr("192.0.2.1"))
	answers := 0
	for i := range 100_000 { // 100 a second
		if l.Allow(thief, home, start.Add(time.Duration(i)*10*time.Millisecond)) {
			answers++
		}
	}
	if answers < 1000 || answers > 1060 {
		t.Errorf("%d answers in 1000 s; want one a second and 60 at once", answers)
	}
	if !l.Allow(wire.Fingerprint{2}, home, start.Add(1000*time.Second)) {
		t.Error("another phone of the same house gets no answer")
	}
	// A thousand keys of one network are worth twenty.
	answers = 0
	other := NetworkOf(netip.MustParseAddr("198.51.100.1"))
	for k := range 1000 {
		for range 60 {
			if l.Allow(wire.Fingerprint{3, byte(k), byte(k >> 8)}, other, start) {
				answers++
			}
		}
	}
	if answers != 20*60 {
		t.Errorf("a thousand keys of one network got %d answers; want 1200", answers)
	}
	if got := (*Lookups)(nil); !got.Allow(thief, home, start) {
		t.Error("no limit refuses")
	}
}

func TestNetworks(t *testing.T) {
	of := func(s string) Network { return NetworkOf(netip.MustParseAddr(s)) }
	if of("2001:db8::1") != of("2001:db8::ffff:1") || of("2001:db8::1") == of("2001:db8:0:1::1") {
		t.Error("want one network for each /64")
	}
	if of("192.0.2.1") == of("192.0.2.2") || of("::ffff:192.0.2.1") != of("192.0.2.1") {
		t.Error("want one network for each IPv4 address")
	}
}

// A flood of sources takes bounded memory, and does not free those who are
// limited already.
func TestLimiterForgets(t *testing.T) {
	l := NewLimiter[int](1, 1)
	l.most = 100
	if !l.Allow(-1, start) {
		t.Fatal("first refused")
	}
	for i := range 10_000 {
		l.Allow(i, start)
		if i%50 == 0 && l.Allow(-1, start) {
			t.Fatalf("after %d sources the limit was forgotten", i)
		}
	}
	if n := len(l.now) + len(l.old); n > 200 {
		t.Errorf("%d sources remembered; want at most 200", n)
	}
	if !l.Allow(-1, start.Add(time.Second)) || l.Allow(-1, start) {
		t.Error("want one a second, and nothing for a clock that was put back")
	}
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	a := NewAudit(dir)
	m := wire.MAC{2, 0, 0x5e, 0, 0x53, 1}
	if err := a.Append([]store.Event{{Event: store.EventEnrolled, MAC: m, Key: wire.Fingerprint{1}, Number: "101", By: "open"}, {Event: store.EventTokenMade, Token: "ab", By: "command"}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, AuditName)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"20`); err != nil { // the power fails
		t.Fatal(err)
	}
	f.Close()
	if err := NewAudit(dir).Append([]store.Event{{Event: store.EventForgotten, MAC: m}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) != 4 {
		t.Fatalf("%d lines; want 4: %s", len(lines), text)
	}
	var first, last map[string]string
	if err := json.Unmarshal(lines[0], &first); err != nil || first["event"] != "enrolled" || first["mac"] != m.String() || first["number"] != "101" || first["by"] != "open" || len(first["key"]) != 64 {
		t.Errorf("first line = %v, %v", first, err)
	}
	if err := json.Unmarshal(lines[3], &last); err != nil || last["event"] != "forgotten" {
		t.Errorf("last line = %v, %v", last, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
}

// An Audit of a folder that is not there refuses.
func TestAuditRefuses(t *testing.T) {
	a := NewAudit(filepath.Join(t.TempDir(), "none"))
	if err := a.Append([]store.Event{{Event: "x"}}); err == nil {
		t.Error("Append() = nil; want an error")
	}
	if err := a.Check(); err == nil {
		t.Error("Check() = nil; want an error")
	}
}

// issue makes a certificate for name; a nil parent makes an authority.
func issue(t *testing.T, name string, ca bool, parent *x509.Certificate, parentKey ed25519.PrivateKey, until time.Time) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: until,
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestIssuer(t *testing.T) {
	later := start.Add(time.Hour)
	root, rootKey := issue(t, "Operator", true, nil, nil, later)
	middle, middleKey := issue(t, "Factory", true, root, rootKey, later)
	phone, _ := issue(t, "phone", false, middle, middleKey, later)
	old, _ := issue(t, "old phone", false, root, rootKey, start.Add(-time.Minute))
	alone, _ := issue(t, "self-signed", false, nil, nil, later)
	other, otherKey := issue(t, "Other", true, nil, nil, later)
	stranger, _ := issue(t, "stranger", false, other, otherKey, later)
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := LoadAuthorities(path)
	if err != nil {
		t.Fatal(err)
	}
	p := Policy{Enrol: EnrolCA, Authorities: pool}
	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
		want  bool
	}{
		{"with its chain", []*x509.Certificate{phone, middle}, true},
		{"without", []*x509.Certificate{phone}, false},
		{"expired", []*x509.Certificate{old}, false},
		{"self-signed", []*x509.Certificate{alone}, false},
		{"self-signed before the root", []*x509.Certificate{alone, root}, false},
		{"another authority's", []*x509.Certificate{stranger, other}, false},
		{"the authority itself", []*x509.Certificate{root}, false},
		{"nothing", nil, false},
	} {
		var raw [][]byte
		for _, c := range tt.chain {
			raw = append(raw, c.Raw)
		}
		name, ok := p.Issuer(raw, start)
		if ok != tt.want || ok && name != "CN=Operator" {
			t.Errorf("%s: %q, %v; want %v", tt.name, name, ok, tt.want)
		}
	}
	if _, err := LoadAuthorities(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("LoadAuthorities() of nothing = nil; want an error")
	}

	// A file that is no good changes nothing; another authority takes the
	// place of the first.
	issued := func(c *x509.Certificate) bool { _, ok := p.Issuer([][]byte{c.Raw, middle.Raw}, start); return ok }
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pool.Reload(); err == nil || !issued(phone) {
		t.Errorf("after a file that is no good: %v, the phone's certificate is taken: %t", err, issued(phone))
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pool.Reload(); err != nil || issued(phone) || !issued(stranger) {
		t.Errorf("after another authority: %v, the first's phone is taken: %t, the other's: %t", err, issued(phone), issued(stranger))
	}
}

func TestMay(t *testing.T) {
	for r, want := range map[Resolution][2]bool{
		ResolveEnrolled: {false, true}, ResolveAnyone: {true, true}, ResolveNobody: {false, false}, "": {true, true},
	} {
		p := Policy{Resolve: r}
		if got := [2]bool{p.May(false), p.May(true)}; got != want {
			t.Errorf("%q: %v; want %v", r, got, want)
		}
	}
}
