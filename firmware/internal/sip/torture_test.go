package sip_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
	"flexphone/internal/sipcheck/torture"
)

// verdicts are on RFC 4475: each message's name, and with what a phone whose user is
// called "user" answers it. 0: not at all, since it is a response, or no SIP. What
// the syntax decides has its test in sipcheck; these are the answers that come back.
var verdicts = map[string]int{
	"valid/dblreq": 405, "valid/esc01": 404, "valid/esc02": 501, "valid/escnull": 405, "valid/intmeth": 501,
	"valid/longreq": 488, // no codec that we know
	"valid/lwsdisp": 200, "valid/mpart01": 405, "valid/noreason": 0, "valid/semiuri": 404, "valid/transports": 200,
	"valid/unreason": 0, "valid/wsinv": 481,

	"invalid/badaspec": 400, "invalid/badbranch": 400, "invalid/baddate": 400, "invalid/baddn": 400,
	"invalid/badinv01": 400, "invalid/badvers": 505, "invalid/bcast": 0, "invalid/bext01": 420, "invalid/bigcode": 0,
	"invalid/clerr": 400, "invalid/cparam01": 405, "invalid/cparam02": 405, "invalid/escruri": 400,
	"invalid/insuf": 400, "invalid/inv2543": 400, // as SIP now wants a Contact
	"invalid/invut": 415, "invalid/ltgtruri": 400, "invalid/lwsruri": 400, "invalid/lwsstart": 400,
	"invalid/mcl01": 400, "invalid/mismatch01": 400, "invalid/mismatch02": 400, "invalid/multi01": 400,
	"invalid/ncl": 400, "invalid/novelsc": 416, "invalid/quotbal": 400, "invalid/regaut01": 405, "invalid/regbadct": 400,
	"invalid/regescrt": 405, "invalid/scalar02": 400, "invalid/scalarlg": 0, "invalid/sdp01": 406, "invalid/test": 0,
	"invalid/trws": 400, "invalid/unkscm": 416, "invalid/unksm2": 400, "invalid/zeromf": 200,
}

// TestTorture: each of the RFC's messages is answered as it deserves, a second
// time as well, and after all of them the agent still works and nothing has rung.
func TestTorture(t *testing.T) {
	a, err := sip.NewAgent(sip.Config{
		User: "user", Answerable: media.Answerable([]media.Codec{{Name: "PCMA", PayloadType: 8, ClockRate: 8000}}, false),
		SIPPort: 5060, AnyPort: true, Listen: netip.MustParseAddr("127.0.0.1"),
		Owns: func(user string) bool { return user == "user" },
	})
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
	for name, b := range torture.Messages(t) {
		want, ok := verdicts[name]
		if !ok {
			t.Errorf("no verdict on %s", name)
		}
		for range 2 {
			if got := answerTo(t, c, b, want); got != want {
				t.Errorf("%s: answered %d, want %d", name, got, want)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := sip.Waiting(a); n > 0 {
		t.Errorf("it rings for %d calls", n)
	}
}

// answerTo sends b to the phone that c leads to, with a Via that leads back here,
// and waits for the answer. Where none is wanted, another request that is answered
// ends the wait.
func answerTo(t *testing.T, c *net.UDPConn, b []byte, want int) (code int) {
	t.Helper()
	text := string(b)
	if start, rest, ok := strings.Cut(text, "\r\n"); ok && !strings.HasPrefix(text, "SIP/") {
		branch := fmt.Sprintf("z9hG4bKback%x", crc32.ChecksumIEEE(b))
		if strings.Contains(text, "branch=z9hG4bK\r\n") || strings.Contains(text, ";;,;,,") { // what is wrong with it
			branch = "z9hG4bK"
		}
		text = fmt.Sprintf("%s\r\nVia: SIP/2.0/UDP %v;rport;branch=%s\r\n%s", start, c.LocalAddr(), branch, rest)
	}
	const ping = "OPTIONS sip:user@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKping\r\n" +
		"From: <sip:me@127.0.0.1>;tag=1\r\nTo: <sip:user@127.0.0.1>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
	send := []string{text}
	if want == 0 {
		send = append(send, ping)
	}
	for _, text := range send {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 65536)
	n, err := c.Read(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(in[:n]), "SIP/2.0 %d ", &code); err != nil {
		t.Fatalf("no response: %s", in[:n])
	}
	if strings.Contains(string(in[:n]), "Call-ID: ping") {
		return 0
	}
	return code
}
