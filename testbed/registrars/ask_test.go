package main

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What is lost is asked again, and what is refused is counted as that.
func TestAskPeer(t *testing.T) {
	const names, refused = 20, 3
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		buf := make([]byte, 4096)
		for i := 0; ; i++ {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if i == 0 {
				continue // lost
			}
			answer := "SIP/2.0 100 Trying\r\n"
			_, _ = c.WriteTo(append([]byte(answer), buf[:n]...), from)
			answer = "SIP/2.0 200 OK\r\n"
			if i <= refused {
				answer = "SIP/2.0 404 Not Found\r\n"
			}
			_, _ = c.WriteTo(append([]byte(answer), buf[:n]...), from)
		}
	}()
	got, err := askPeer(t.Context(), c.LocalAddr().String(), sip(sipRegister), 4, 0, names, time.Minute, true)
	if err != nil || len(got.times) != names-refused || got.refused != refused || got.repeated == 0 {
		t.Errorf("askPeer() = %d answers, %d refusals, %d repetitions, %v; want %d, %d, and some",
			len(got.times), got.refused, got.repeated, err, names-refused, refused)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-served
}

func TestLoad(t *testing.T) {
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

// Each load is compared with what of ours is asked for the same.
func TestPrint(t *testing.T) {
	r := report{
		loads: []load{
			{Server: ours, Request: register, Rate: 200}, {Server: ours, Request: lookup, Rate: 900},
			{Server: "BIND", Request: dnsUpdate, Rate: 100}, {Server: "BIND", Request: dnsQuery, Rate: 300, lookup: true},
		},
		absent: []string{"Kamailio: not installed"},
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"storing-server register / BIND dynamic update    2.0", "storing-server lookup / BIND query    3.0", "not measured: Kamailio: not installed",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"-time", "0s", "a"}, {"-what", "a"}, {"-dir", "/nonexistent", "a"}, {"/nonexistent"}} {
		var out, said strings.Builder
		if err := run(t.Context(), args, &out, &said); err == nil {
			t.Errorf("run accepts %q", args)
		}
	}
}

// An answer belongs to the request that has its number, whatever else is in it.
func FuzzAnswer(f *testing.F) {
	f.Add(uint16(0x1f), 7, []byte("SIP/2.0 200 OK\r\nVia: x;branch=z9hG4bK-00\r\n"))
	f.Add(uint16(0xffff), 0, []byte{0, 1, 0x80, 5})
	f.Fuzz(func(t *testing.T, id uint16, name int, other []byte) {
		b, err := sip(sipRegister).request(id, name)
		if err != nil {
			t.Fatal(err)
		}
		if got, final, good := sip(sipRegister).answer(append([]byte("SIP/2.0 200 OK\r\n"), b...)); got != id || !final || !good {
			t.Errorf("SIP: answer to %d is to %d, final %v, good %v", id, got, final, good)
		}
		if got, final, _ := sip(sipInvite).answer(other); final && !bytes.Contains(bytes.ToLower(other), fmt.Appendf(nil, "branch=z9hg4bk-%04x", got)) {
			t.Errorf("SIP: %q answers %d", other, got)
		}
		if b, err = dnsReplace(id, name&0xffff); err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if b, err = new(dns.Msg).SetReply(&m).Pack(); err != nil {
			t.Fatal(err)
		}
		if got, final, good := dnsAnswer(b); got != id || !final || !good {
			t.Errorf("DNS: answer to %d is to %d, final %v, good %v", id, got, final, good)
		}
		if _, final, _ := dnsAnswer(other); final && len(other) < dnsHeader {
			t.Errorf("DNS: %q is an answer", other)
		}
	})
}
