package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// invite calls a number by SIP over UDP, as anybody may, and returns the answer.
func invite(t *testing.T, at, number string) string {
	t.Helper()
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "INVITE sip:%s@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa;rport\r\nMax-Forwards: 9\r\n"+
		"From: <sip:x@example.net>;tag=a\r\nTo: <sip:%[1]s@example.net>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n", number)
	buf := make([]byte, 2048)
	n := 0
	if err = errors.Join(err, conn.SetReadDeadline(time.Now().Add(20*time.Second))); err == nil {
		n, err = conn.Read(buf)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Who may resolve is the same whichever way one asks, and is counted.
func TestPolicies(t *testing.T) {
	for policy, want := range map[string]struct {
		owner, stranger error
		sip             int
		dns             string
	}{
		"enrolled": {nil, registry.ErrRefused, 401, "REFUSED"},
		"anyone":   {nil, nil, 302, "NOERROR"},
		"nobody":   {registry.ErrRefused, registry.ErrRefused, 403, "REFUSED"},
	} {
		p := serveFor(t, t.TempDir(), "--resolve", policy, "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--zone", "phones.example.net")
		owner, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
		stranger, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(2))
		if _, err := owner.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
		for who, c := range map[string]struct {
			*registry.Client
			want error
		}{"a phone": {owner, want.owner}, "a stranger": {stranger, want.stranger}} {
			row, err := c.Resolve(t.Context(), wire.Query{Number: "101"})
			if !errors.Is(err, c.want) || err == nil && row.MAC != wire.MAC(phoneMAC(1)) {
				t.Errorf("%s: %s asks: %+v, %v; want %v", policy, who, row, err, c.want)
			}
		}
		if got := invite(t, p.sip, "101"); !strings.HasPrefix(got, fmt.Sprintf("SIP/2.0 %d ", want.sip)) {
			t.Errorf("%s: by SIP: %q; want %d", policy, got, want.sip)
		}
		m := new(dns.Msg)
		m.SetQuestion("101.phones.example.net.", dns.TypeA)
		r, err := dns.ExchangeContext(t.Context(), m, p.dns)
		if err != nil || dns.RcodeToString[r.Rcode] != want.dns || len(r.Answer) != map[string]int{"NOERROR": 1}[want.dns] {
			t.Errorf("%s: by DNS: %v, %v; want %s", policy, r, err, want.dns)
		}
		text := metricsOf(t, p)
		for _, line := range []string{
			`storing_server_requests_total{code="2.01",request="register"} 1`,
			fmt.Sprintf(`storing_server_sip_requests_total{code="%d",method="INVITE"} 1`, want.sip),
			fmt.Sprintf(`storing_server_dns_queries_total{rcode="%s",type="A"} 1`, want.dns),
			`storing_server_handshakes_total{result="ok"} 2`, "storing_server_rows 1",
		} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("%s: metrics without %s:\n%s", policy, line, text)
			}
		}
	}
	// Numbers cannot be tried one after the other.
	p := serveFor(t, t.TempDir(), "--resolve", "anyone", "--lookups", "0.001")
	thief, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	refused := 0
	for n := range 30 {
		switch _, err := thief.Resolve(t.Context(), wire.Query{Number: fmt.Sprint(101 + n)}); {
		case errors.As(err, new(*registry.BusyError)):
			refused++
		case !errors.Is(err, registry.ErrUnknown):
			t.Errorf("lookup %d: %v", n, err)
		}
	}
	if refused != 10 {
		t.Errorf("of 30 lookups %d are refused; want 10", refused)
	}
}

// metricsOf returns what the server counts, without what Go does.
func metricsOf(t *testing.T, p *process) string {
	t.Helper()
	resp, err := http.Get(p.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var ours strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "storing_server_") {
			ours.WriteString(line)
		}
	}
	return ours.String()
}
