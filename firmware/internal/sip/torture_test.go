package sip

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// torture is RFC 4475: each message's name, and how we answer it. 0 takes it;
// dropped means that it is no request that could be answered.
const dropped = -1

var torture = map[string]int{
	"valid/dblreq": 0, "valid/esc01": 0, "valid/escnull": 0, "valid/intmeth": 0, "valid/lwsdisp": 0,
	"valid/longreq": 0, "valid/mpart01": 0, "valid/semiuri": 0, "valid/transports": 0,
	"valid/esc02":    0,                                  // a method of its own, however it is escaped: 501 follows
	"valid/wsinv":    400,                                // RFC 2543 branches and folded tags: refused, not misread
	"valid/noreason": dropped, "valid/unreason": dropped, // responses to nothing

	"invalid/badaspec": 400, "invalid/badbranch": 400, "invalid/baddate": 400, "invalid/badinv01": 400,
	"invalid/badvers": 505, "invalid/bext01": 420, "invalid/escruri": 400, "invalid/insuf": 400,
	"invalid/inv2543": 400, "invalid/invut": 415, "invalid/lwsruri": 400, "invalid/lwsstart": 400, "invalid/mcl01": 400,
	"invalid/mismatch01": 400, "invalid/mismatch02": 400, "invalid/multi01": 400, "invalid/quotbal": 400,
	"invalid/sdp01": 406, "invalid/unkscm": 416, "invalid/unksm2": 400, "invalid/novelsc": 416, "invalid/ltgtruri": 400, "invalid/ncl": 400,
	"invalid/baddn": 400, "invalid/clerr": 400, "invalid/scalar02": 400, "invalid/trws": 400,
	"invalid/bcast": dropped, "invalid/bigcode": dropped, "invalid/scalarlg": dropped, "invalid/test": dropped,
	// What is wrong with these concerns registrars and proxies; a phone
	// refuses the method, or is the end of the way.
	"invalid/cparam01": 0, "invalid/cparam02": 0, "invalid/regaut01": 0, "invalid/regbadct": 0,
	"invalid/regescrt": 0, "invalid/zeromf": 0,
}

// messages finds the RFC's messages, which come with sipgo.
func messages(t *testing.T) map[string][]byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/emiago/sipgo").Output()
	if err != nil {
		t.Skipf("needs the go command, to find sipgo's sources: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "sip/testdata/torture/*/*.dat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no torture messages in sipgo's sources: %v", err)
	}
	found := make(map[string][]byte)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		dir, name := filepath.Split(strings.TrimSuffix(f, ".dat"))
		found[filepath.Base(dir)+"/"+name] = b
	}
	return found
}

func TestTorture(t *testing.T) {
	for name, b := range messages(t) {
		t.Run(name, func(t *testing.T) {
			want, ok := torture[name]
			if !ok {
				t.Fatal("no verdict on this message")
			}
			msg, err := gosip.ParseMessage(b)
			req, _ := msg.(*gosip.Request)
			if err != nil || req == nil {
				// sipgo drops what it cannot parse.
				if want == 0 {
					t.Errorf("dropped: %v", err)
				}
				return
			}
			if got := check(req).code; got != want {
				t.Errorf("answered %d, want %d", got, want)
			}
		})
	}
}

// TestTortureAgent: after all of them the agent still works.
func TestTortureAgent(t *testing.T) {
	a, err := NewAgent(Config{User: "user", SIPPort: 5060, AnyPort: true, Listen: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a.SIPAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range messages(t) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	ping := "OPTIONS sip:user@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKping\r\n" +
		"From: <sip:me@127.0.0.1>;tag=1\r\nTo: <sip:user@127.0.0.1>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
	if _, err := c.Write([]byte(ping)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b[:n]); strings.HasPrefix(s, "SIP/2.0 200 ") && strings.Contains(s, "Call-ID: ping") {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
