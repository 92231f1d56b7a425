package sip

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	gosip "github.com/emiago/sipgo/sip"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// serveTLS serves at a TLS port until the test ends.
func serveTLS(t *testing.T, o Options) (at string, rows *store.Store) {
	t.Helper()
	o.TLS, o.Cert = "127.0.0.1:0", ordinary(t)
	s, rows := serve(t, o)
	run(t, s)
	return s.Addrs()[0].String(), rows
}

// dial connects from an address of this machine, by TCP or TLS.
func dial(t *testing.T, transport, from, at string) (net.Conn, error) {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	by := d.DialContext
	if transport == "TLS" {
		by = (&tls.Dialer{NetDialer: d, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext
	}
	c, err := by(t.Context(), "tcp", at)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, c.SetDeadline(time.Now().Add(30 * time.Second))
}

// A SIP stack that is not ours registers with each digest, calls, and is sent
// to the other, over TLS.
func TestTLS(t *testing.T) {
	at, rows := serveTLS(t, Options{Policy: trust.Policy{Resolve: trust.ResolveEnrolled}})
	add(t, rows, "sha", "secret")
	m, _ := Secrets("md", "secret")
	if _, err := rows.AddPhone(t.Context(), store.Phone{User: "md", MD5: m}); err != nil {
		t.Fatal(err)
	}
	var server gosip.Uri
	if err := gosip.ParseUri("sip:"+at+";transport=tls", &server); err != nil {
		t.Fatal(err)
	}
	ask := func(user string, method gosip.RequestMethod, to string, headers ...gosip.Header) (*gosip.Response, string) {
		t.Helper()
		ua, err := sipgo.NewUA(sipgo.WithUserAgent(user), sipgo.WithUserAgenTLSConfig(&tls.Config{InsecureSkipVerify: true}))
		if err != nil {
			t.Fatal(err)
		}
		defer ua.Close()
		c, err := sipgo.NewClient(ua, sipgo.WithClientHostname("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		uri := server
		uri.User = to
		req := gosip.NewRequest(method, uri)
		req.SetTransport("TLS")
		req.AppendHeader(&gosip.ToHeader{Address: gosip.Uri{Scheme: "sip", User: to, Host: "example.net"}, Params: gosip.NewParams()})
		for _, h := range headers {
			req.AppendHeader(h)
		}
		res, err := c.Do(t.Context(), req)
		if err != nil || res.StatusCode != 401 {
			t.Fatalf("%s of %s: %v, %v; want 401", method, user, res, err)
		}
		asked := res.GetHeader("WWW-Authenticate").Value()
		if res, err = c.DoDigestAuth(t.Context(), req, res, sipgo.DigestAuth{Username: user, Password: "secret"}); err != nil {
			t.Fatalf("%s of %s: %v", method, user, err)
		}
		return res, asked
	}
	for i, tt := range []struct{ user, algorithm string }{{"sha", "SHA-256"}, {"md", "MD5"}} {
		place := fmt.Sprintf("sip:%s@192.0.2.%d:5061;transport=tls", tt.user, i+1)
		res, asked := ask(tt.user, gosip.REGISTER, tt.user, gosip.NewHeader("Contact", "<"+place+">"), gosip.NewHeader("Expires", "600"))
		if res.StatusCode != 200 || !strings.Contains(res.Contact().Value(), place) || !strings.Contains(asked, "algorithm="+tt.algorithm) {
			t.Errorf("REGISTER of %s, asked for %s: %v", tt.user, asked, res)
		}
		row, ok := rows.Resolve(wire.Query{MAC: store.UserMAC(tt.user)})
		if !ok || row.State != wire.Online || row.Addrs[0].String() != fmt.Sprintf("192.0.2.%d", i+1) {
			t.Errorf("row of %s: %+v, %v", tt.user, row, ok)
		}
	}
	res, _ := ask("md", gosip.INVITE, "sha")
	if res.StatusCode != 302 || !strings.Contains(res.Contact().Value(), "sip:sha@192.0.2.1:5061;transport=tls") {
		t.Errorf("INVITE: %v", res)
	}
}

// OpenSSL shakes hands with TLS 1.2 and 1.3, is answered, and is not with what
// came before these.
func TestOpenSSL(t *testing.T) {
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed (Debian's package openssl)")
	}
	at, _ := serveTLS(t, Options{})
	for version, ok := range map[string]bool{"-tls1_3": true, "-tls1_2": true, "-tls1_1": false} {
		// What it lets a user do by itself is not what is tested.
		cmd := exec.CommandContext(t.Context(), path, "s_client", "-connect", at, "-quiet", version, "-cipher", "DEFAULT@SECLEVEL=0")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(in, newClient(t, nil, "lobby", "").request("OPTIONS", "sip:example.net"))
		line, _ := bufio.NewReader(out).ReadString('\n') // empty when it gives up
		if got := code(line) == 200; got != ok || ok && err != nil {
			t.Errorf("%s: %q, %v; want an answer: %t", version, line, err, ok)
		}
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	}
}

// Connections leave descriptors for the rows.
func TestMostStreams(t *testing.T) {
	var usual syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
			t.Fatal(err)
		}
	}()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: min(1000, usual.Cur), Max: usual.Max}); err != nil {
		t.Fatal(err)
	}
	if got := mostStreams(); got > 500 {
		t.Errorf("%d connections with 1000 descriptors; want half of them at the most", got)
	}
}

// A flood over a connection costs its own network that one, whether of messages,
// of connections, or of handshakes that come to nothing; another is answered.
func TestStreamFloods(t *testing.T) {
	for i, transport := range []string{"TCP", "TLS"} {
		t.Run(transport, func(t *testing.T) {
			s, _ := serve(t, Options{Listen: "127.0.0.1:0", TLS: "127.0.0.1:0", Cert: ordinary(t)})
			run(t, s)
			flood(t, transport, s.Addrs()[i].String())
		})
	}
}

func flood(t *testing.T, transport, at string) {
	ask := newClient(t, nil, "lobby", "").request("OPTIONS", "sip:example.net")
	elsewhere := func(when string) {
		t.Helper()
		c, err := dial(t, transport, "127.0.0.2", at)
		if err != nil {
			t.Fatalf("%s: another network: %v", when, err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, ask); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); code(line) != 200 {
			t.Errorf("%s: another network: %q, %v", when, line, err)
		}
	}
	c, err := dial(t, transport, "127.0.0.1", at)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { _, err := io.WriteString(c, strings.Repeat(ask, 10*perSourceBurst)); sent <- err }()
	answered := 0
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "SIP/2.0 200") {
			answered++
		}
	}
	if err := lines.Err(); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a flood of messages is not cut off")
	}
	c.Close()
	<-sent // an error, or what the kernel had taken
	if answered < 1 || answered > perSourceBurst+30*perSource {
		t.Errorf("of a flood of messages %d were answered", answered)
	}
	elsewhere("after a flood of messages")

	for range maxStreamsEach { // which say nothing
		half, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}, tcpAddr(t, at))
		if err != nil {
			t.Fatal(err)
		}
		defer half.Close()
	}
	more, err := dial(t, transport, "127.0.0.3", at)
	if err == nil { // by TCP it is closed once it is there
		_, err = more.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("more than %d connections of one network: %v", maxStreamsEach, err)
	}
	elsewhere("during a flood of handshakes")
}

func tcpAddr(t *testing.T, at string) *net.TCPAddr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
