package sip

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// inNamespace says to this test program that it is in a network of its own.
const inNamespace = "STORING_SERVER_TEST_NETWORK"

// isolated runs the test again in a network namespace of its own, where lo has
// the addresses 192.0.2.1 to 192.0.2.13; it returns true in there.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: id,
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}, Pdeathsig: syscall.SIGKILL,
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("no network namespace may be made here: %v", err)
		}
		if err != nil {
			t.Errorf("in a namespace: %v\n%s", err, out)
		}
		return false
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, host := range []byte{1, 11, 12, 13} {
		addr, err := netlink.ParseAddr(fmt.Sprintf("192.0.2.%d/24", host))
		if err == nil {
			err = netlink.AddrAdd(lo, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// ordinary shows a certificate of pair's.
func ordinary(t *testing.T) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	text := pair(t)
	cert, err := tls.X509KeyPair(text, text)
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, err }
}

// pair makes a certificate as web servers have them, what baresip's TLS knows
// best, and its key.
func pair(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "192.0.2.1"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

// A telephone is a running baresip.
type telephone struct {
	t      *testing.T
	conn   net.Conn
	events chan string
}

// startBaresip runs baresip at host, with an account at the server.
func startBaresip(t *testing.T, host, account string) *telephone {
	t.Helper()
	path, err := exec.LookPath("baresip")
	if err != nil {
		t.Skip("baresip is not installed (Debian's package baresip-core)")
	}
	modules, err := filepath.Glob("/usr/lib/*/baresip/modules")
	if err != nil || len(modules) == 0 {
		modules = []string{"/usr/lib/baresip/modules"}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config": fmt.Sprintf("module_path %s\nsip_listen %s:5060\nsip_verify_server no\nsip_certificate %s\nctrl_tcp_listen %s:4444\naudio_source ausine,440\nausrc_srate 8000\nausrc_channels 1\n"+
			"statmode_default off\nmodule g711.so\nmodule ausine.so\nmodule aufile.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n", modules[0], host, filepath.Join(dir, "pair"), host),
		"pair":     string(pair(t)),
		"accounts": account + ";answermode=auto;audio_codecs=PCMU\n", "contacts": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "-f", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	var said strings.Builder
	for !strings.Contains(said.String(), "baresip is ready") {
		line, err := lines.ReadString('\n')
		if said.WriteString(line); err != nil {
			t.Fatalf("baresip does not get ready:\n%s", said.String())
		}
	}
	p := &telephone{t: t, events: make(chan string, 256)}
	if p.conn, err = net.Dial("tcp", host+":4444"); err != nil {
		t.Fatal(err)
	}
	drained, followed := make(chan struct{}), make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, lines) }()
	go func() { defer close(followed); p.follow() }()
	t.Cleanup(func() {
		p.conn.Close()
		_ = cmd.Process.Kill()
		<-drained
		<-followed
		_ = cmd.Wait() // says that it was killed
	})
	return p
}

// follow reads baresip's events, which are JSON in netstrings.
func (p *telephone) follow() {
	r := bufio.NewReader(p.conn)
	for {
		length, err := r.ReadString(':')
		n, bad := strconv.Atoi(strings.TrimSuffix(length, ":"))
		if err != nil || bad != nil {
			return
		}
		text := make([]byte, n+1)
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var e struct{ Type string }
		if json.Unmarshal(text[:n], &e) == nil && e.Type != "" {
			select {
			case p.events <- e.Type:
			default:
			}
		}
	}
}

func (p *telephone) command(name, params string) {
	p.t.Helper()
	b, err := json.Marshal(map[string]string{"command": name, "params": params})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(p.conn, "%d:%s,", len(b), b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *telephone) await(ctx context.Context, kind string) {
	p.t.Helper()
	for {
		select {
		case e := <-p.events:
			if e == kind {
				return
			}
			p.t.Log("baresip:", e)
		case <-ctx.Done():
			p.t.Fatalf("baresip says no %s", kind)
		}
	}
}

// Two telephones of another make register over each transport, and one calls
// the other by its short number: the server redirects it, and the other rings.
func TestBaresip(t *testing.T) {
	if !isolated(t) {
		return
	}
	for i, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			redirected := make(chan struct{}, 64)
			changed := make(chan struct{}, 64)
			rows, err := store.Open(ctx, store.Options{Dir: t.TempDir(), Numbers: store.Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler),
				Changed: func([]wire.Query) {
					select {
					case changed <- struct{}{}:
					default:
					}
				}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(rows.Close)
			port := 6000 + 10*i
			s, err := Listen(ctx, Options{
				Listen: fmt.Sprintf("192.0.2.1:%d", port), TLS: fmt.Sprintf("192.0.2.1:%d", port+1), Cert: ordinary(t), Rows: rows,
				Policy: trust.Policy{Resolve: trust.ResolveEnrolled}, Log: slog.New(slog.DiscardHandler),
				Count: func(method string, code int) {
					if method == "INVITE" && code == 302 {
						redirected <- struct{}{}
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !s.ours(netip.MustParseAddrPort(fmt.Sprintf("192.0.2.1:%d", port))) || s.ours(netip.MustParseAddrPort(fmt.Sprintf("192.0.2.11:%d", port))) {
				t.Error("the server does not know its own address")
			}
			run(t, s)
			if transport == "tls" {
				port++
			}
			account := func(user string) string {
				// Debian 12's baresip gives up at SHA-256.
				m, _ := Secrets(user, "secret")
				if _, err := rows.AddPhone(ctx, store.Phone{User: user, MD5: m}); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("<sip:%s@192.0.2.1:%d;transport=%s>;auth_user=%s;auth_pass=secret;regint=600", user, port, transport, user)
			}
			one := startBaresip(t, "192.0.2.11", account("201"))
			startBaresip(t, "192.0.2.12", account("202"))
			for _, number := range []string{"201", "202"} {
				for {
					if row, ok := rows.Resolve(wire.Query{Number: number}); ok && row.State == wire.Online {
						break
					}
					select {
					case <-changed:
					case <-ctx.Done():
						t.Fatalf("%s does not register", number)
					}
				}
			}
			one.command("dial", "202")
			select {
			case <-redirected:
			case <-ctx.Done():
				t.Fatal("the call is not redirected")
			}
			one.await(ctx, "CALL_RINGING")
			one.command("hangup", "")
		})
	}
}
