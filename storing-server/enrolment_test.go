package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// serveFor runs a server for as long as the test.
func serveFor(t *testing.T, dir string, more ...string) *process {
	t.Helper()
	p := startProcess(t, dir, "127.0.0.1:0", more...)
	t.Cleanup(p.kill)
	return p
}

// command runs one of the operator's commands, and wants it to work.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("%s: exit %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// audited returns the events of the audit log.
func audited(t *testing.T, dir string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, trust.AuditName))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("audit log: %q: %v", l, err)
		}
		out = append(out, e.Event)
	}
	return out
}

// A phone enrols with the token that a command has made, from end to end; its
// key is rotated and forgotten; and the audit log knows it all.
func TestTokensEndToEnd(t *testing.T) {
	dir := t.TempDir()
	p := serveFor(t, dir, "--enrol", "token")
	ctx := t.Context()
	phone := t.TempDir()
	c, _ := newPhone(t, phone, p.listen, phoneMAC(1))
	r := announcement(phoneMAC(1), 1, "192.0.2.1")
	if _, err := c.Register(ctx, r); !errors.Is(err, registry.ErrRefused) {
		t.Fatalf("Register() without a token = %v; want ErrRefused", err)
	}
	if _, err := c.Resolve(ctx, wire.Query{Number: "101"}); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("Resolve() of who is not enrolled = %v; want ErrRefused", err)
	}
	r.Token = strings.TrimSpace(command(t, "token", "new", "--data", dir, "--mac", wire.MAC(phoneMAC(1)).String()))
	if !strings.Contains(command(t, "token", "list", "--data", dir), wire.MAC(phoneMAC(1)).String()) {
		t.Error("token list does not name the phone")
	}
	receipt, err := c.Register(ctx, r)
	if err != nil || receipt.Number != "101" {
		t.Fatalf("Register() with a token = %+v, %v", receipt, err)
	}
	if row, err := c.Resolve(ctx, wire.Query{Number: "101"}); err != nil || row.MAC != r.MAC {
		t.Errorf("Resolve() = %+v, %v", row, err)
	}

	other := t.TempDir() // the phone's next key
	next, err := registry.LoadIdentity(other, phoneMAC(1))
	if err != nil {
		t.Fatal(err)
	}
	r.Sequence, r.Token, r.Next = 2, "", next.Fingerprint
	if _, err := c.Register(ctx, r); err != nil {
		t.Fatalf("rotation: %v", err)
	}
	if _, err := c.Register(ctx, announcement(phoneMAC(1), 3, "192.0.2.1")); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("the old key = %v; want ErrForeign", err)
	}
	after, _ := newPhone(t, other, p.listen, phoneMAC(1))
	if _, err := after.Register(ctx, announcement(phoneMAC(1), 3, "192.0.2.1")); err != nil {
		t.Errorf("the new key: %v", err)
	}

	command(t, "key", "forget", "--data", dir, wire.MAC(phoneMAC(1)).String())
	if _, err := after.Register(ctx, announcement(phoneMAC(1), 4, "192.0.2.1")); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("a forgotten key = %v; want ErrRefused", err)
	}
	command(t, "forget", "--data", dir, wire.MAC(phoneMAC(1)).String())
	command(t, "number", "free", "--data", dir, "101")
	want := []string{"token-made", "enrolled", "rotated", "key-forgotten", "forgotten", "number-freed"}
	if got := audited(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("audit log = %v; want %v", got, want)
	}
}

// A phone takes another key by itself, also when it was cut short once the
// server had taken it.
func TestRotate(t *testing.T) {
	p := serveFor(t, t.TempDir())
	dir := t.TempDir()
	sequence, err := registry.OpenSequence(filepath.Join(dir, "sequence"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newPhone(t, dir, p.listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 5000, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := registry.Config{Server: p.listen, Pins: registry.NewFilePins(filepath.Join(dir, "servers.json")), Log: slog.New(slog.DiscardHandler), Listen: (&wiretap{}).listen}
	rotate := func() wire.Fingerprint {
		t.Helper()
		key, err := registry.Rotate(t.Context(), cfg, dir, phoneMAC(1), sequence, announcement(phoneMAC(1), 1, "192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	owned := func(by wire.Fingerprint) {
		t.Helper()
		if id, err := registry.LoadIdentity(dir, phoneMAC(1)); err != nil || id.Fingerprint != by {
			t.Errorf("the phone's key is %v, %v; want %v", id.Fingerprint, err, by)
		}
		now, _ := newPhone(t, dir, p.listen, phoneMAC(1))
		row, err := now.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(1))})
		if err != nil || row.Fingerprint != by {
			t.Errorf("the row's key is %v, %v; want %v", row.Fingerprint, err, by)
		}
	}
	second := rotate()
	owned(second)
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 9000, "192.0.2.2")); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("the old key = %v; want ErrForeign", err)
	}
	// As if the power had gone before the new key replaced the old one.
	if err := os.Rename(filepath.Join(dir, "device.key"), filepath.Join(dir, "device.next.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "device.key"), first, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := rotate(); again != second {
		t.Errorf("after the cut the key is %v; want %v", again, second)
	}
	owned(second)
	if third := rotate(); third == second {
		t.Error("the key stays as it was")
	}
}

// Tokens are listed and revoked, while a server runs and when none does.
func TestTokenCommands(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0", "--enrol", "token")
	defer func() { p.kill() }()
	for _, running := range []bool{true, false} {
		var made struct{ ID, Token string }
		if err := json.Unmarshal([]byte(command(t, "token", "new", "--json", "--data", dir)), &made); err != nil || made.Token == "" {
			t.Fatalf("running %t: token new: %+v, %v", running, made, err)
		}
		if list := command(t, "token", "list", "--data", dir); !strings.Contains(list, made.ID) || strings.Contains(list, made.Token) {
			t.Errorf("running %t: token list: %s; want the ID alone", running, list)
		}
		command(t, "token", "revoke", made.ID, "--data", dir)
		if list := command(t, "token", "list", "--data", dir); list != "" {
			t.Errorf("running %t: after the last was revoked: %s", running, list)
		}
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"token", "revoke", made.ID, "--data", dir}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "no such token") {
			t.Errorf("running %t: revoked again: exit %d: %s", running, code, errs.String())
		}
		if code := run(t.Context(), []string{"token", "new", "--valid", "0s", "--data", dir}, &out, &errs); code != exitUsage {
			t.Errorf("a token for no time: exit %d; want %d", code, exitUsage)
		}
		p.kill()
	}
}

// Standard phones are added, listed and removed by commands.
func TestPhoneCommands(t *testing.T) {
	dir := t.TempDir()
	p := serveFor(t, dir)
	var out bytes.Buffer
	add := PhoneAddCmd{Data: Data{dir}, User: "02:00:5e:00:53:09", PasswordStdin: true}
	if err := add.Run(&edges{ctx: t.Context(), stdin: strings.NewReader("secret\n"), stdout: &out}); err != nil || strings.Contains(out.String(), "secret") {
		t.Errorf("phone add: %q, %v", out.String(), err)
	}
	empty := PhoneAddCmd{Data: Data{dir}, User: "lobby", PasswordStdin: true}
	var usage *usageError
	if err := empty.Run(&edges{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out}); !errors.As(err, &usage) {
		t.Errorf("phone add without a password = %v; want a usage error", err)
	}
	var made struct{ User, Number, Password string }
	if err := json.Unmarshal([]byte(command(t, "phone", "add", "--json", "--data", dir, "300")), &made); err != nil || made.Number != "300" || len(made.Password) < 20 {
		t.Errorf("phone add 300 = %+v, %v", made, err)
	}
	if got := command(t, "phone", "list", "--data", dir); !strings.Contains(got, "02005e005309") || !strings.Contains(got, "300") {
		t.Errorf("phone list = %q", got)
	}
	p.kill() // a number from the range is given out by the server alone
	if err := json.Unmarshal([]byte(command(t, "phone", "add", "--json", "--data", dir, "hall")), &made); err != nil || made.User != "hall" {
		t.Errorf("phone add hall = %+v, %v", made, err)
	}
	if got := command(t, "phone", "list", "--data", dir); !strings.Contains(got, `"user":"hall","mac":"`+store.UserMAC("hall").String()+`"}`) {
		t.Errorf("without a server, hall is %s; want it without a number", got)
	}
	serveFor(t, dir)
	command(t, "phone", "remove", "--data", dir, "300")
	if got := command(t, "phone", "list", "--data", dir, "--json"); strings.Contains(got, "300") {
		t.Errorf("after the removal: %q", got)
	}
	data, err := exec.Command("grep", "-r", "-l", "secret", dir).Output()
	if len(data) > 0 {
		t.Errorf("the password stands in %s, %v", data, err)
	}
}

// A certificate of the operator's authority enrols a phone; another does not.
func TestAuthorityEndToEnd(t *testing.T) {
	until := time.Now().Add(time.Hour)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Operator"}, NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, public, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := serveFor(t, dir, "--enrol", "ca", "--ca", ca)
	plain, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := plain.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("Register() with a certificate of one's own = %v; want ErrRefused", err)
	}
	phone := t.TempDir()
	id, err := registry.LoadIdentity(phone, phoneMAC(2))
	if err != nil {
		t.Fatal(err)
	}
	name, err := url.Parse(wire.MAC(phoneMAC(2)).URN())
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "phone"}, URIs: []*url.URL{name}, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, id.Certificate.Leaf.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(phone, registry.CertificateFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newPhone(t, phone, p.listen, phoneMAC(2))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(2), 1, "192.0.2.1")); err != nil {
		t.Errorf("Register() with the operator's certificate: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, trust.AuditName)); err != nil || !strings.Contains(string(text), `"by":"ca CN=Operator"`) {
		t.Errorf("audit log = %s, %v; want the authority's name", text, err)
	}
}

// Nothing listens that was not asked for: by default the phones' UDP port alone.
func TestSockets(t *testing.T) {
	p := serveFor(t, t.TempDir())
	if got := sockets(t, p.cmd.Process.Pid); fmt.Sprint(got) != "[udp]" {
		t.Errorf("by default it listens on %v; want UDP once", got)
	}
	for _, tt := range []struct{ flags, want string }{
		{"--sip 127.0.0.1:0", "[tcp udp udp]"}, {"--sip-tls 127.0.0.1:0", "[tcp udp]"}, {"--http 127.0.0.1:0", "[tcp udp]"},
		{"--dns 127.0.0.1:0 --zone phones.example.net", "[tcp udp udp]"},
	} {
		p := serveFor(t, t.TempDir(), strings.Fields(tt.flags)...)
		if got := sockets(t, p.cmd.Process.Pid); fmt.Sprint(got) != tt.want {
			t.Errorf("with %s it listens on %v; want %s", tt.flags, got, tt.want)
		}
	}
}

// sockets returns the kinds of a process's sockets that somebody can reach by a
// network: listening ones, and all that take datagrams.
func sockets(t *testing.T, pid int) (out []string) {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("its descriptors: %v, %v", fds, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.Trim(to, "socket:[]")] = true
		}
	}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, kind))
		if err != nil {
			continue // no IPv6 here
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) > 9 && own[f[9]] && (!strings.HasPrefix(kind, "tcp") || f[3] == "0A") {
				out = append(out, strings.TrimSuffix(kind, "6"))
			}
		}
	}
	return out
}

// Wrong flags are the user's mistake, and nothing is started.
func TestTrustFlags(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{
		"--enrol ca", "--enrol some", "--ca x", "--resolve me", "--lookups -1", "--dns 127.0.0.1:0", "--zone a.example",
		"--sip-cert x", "--sip-cert x --sip-key y",
	} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		if code := run(ctx, append([]string{"run", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "d")}, strings.Fields(args)...), &out, &errs); code != exitUsage {
			t.Errorf("run %s: exit %d: %s; want %d", args, code, errs.String(), exitUsage)
		}
		cancel()
	}
}
