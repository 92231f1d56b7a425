//go:build !nobrowser

package browser

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pion/stun/v4"

	"flexphone/registry-client/wire"
)

// answersSTUN is a server that answers what answer makes of a question; nil: nothing.
func answersSTUN(t *testing.T, answer func(question *stun.Message) []byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			question := &stun.Message{Raw: slices.Clone(b[:n])}
			if question.Decode() != nil || question.Type != stun.BindingRequest {
				continue
			}
			if b := answer(question); b != nil {
				_, _ = conn.WriteToUDPAddrPort(b, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// sees is one that sees everybody there.
func sees(t *testing.T, at string) netip.AddrPort {
	is := netip.MustParseAddrPort(at)
	return answersSTUN(t, func(question *stun.Message) []byte {
		m, err := stun.Build(stun.NewTransactionIDSetter(question.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: is.Addr().AsSlice(), Port: int(is.Port())})
		if err != nil {
			return nil
		}
		return m.Raw
	})
}

// A phone behind a NAT names in its answer as what it is seen, and is called as ever; of what
// is no translation, or no answer, nothing is named.
func TestNamesAsWhatItIsSeen(t *testing.T) {
	const outside, another = "198.51.100.7:40001", "198.51.100.7:40002"
	silent := func() netip.AddrPort { return answersSTUN(t, func(*stun.Message) []byte { return nil }) }
	for _, tt := range []struct {
		name    string
		servers []netip.AddrPort
		want    []string
	}{
		{"nobody is asked", nil, nil},
		{"both say the same", []netip.AddrPort{sees(t, outside), sees(t, outside)}, []string{outside}},
		{"a symmetric NAT", []netip.AddrPort{sees(t, outside), sees(t, another)}, []string{outside, another}},
		{"one is silent", []netip.AddrPort{silent(), sees(t, outside)}, []string{outside}},
		{"all are silent", []netip.AddrPort{silent(), silent()}, nil},
		{"no NAT", []netip.AddrPort{sees(t, "127.0.0.1:40001")}, nil},
		{"a family that the phone does not have", []netip.AddrPort{sees(t, "[2001:db8::7]:40001")}, nil},
		{"no port", []netip.AddrPort{sees(t, "198.51.100.7:0")}, nil},
		{"no address", []netip.AddrPort{answersSTUN(t, func(q *stun.Message) []byte {
			return stun.MustBuild(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingSuccess).Raw
		})}, nil},
		{"a refusal", []netip.AddrPort{answersSTUN(t, func(q *stun.Message) []byte {
			return stun.MustBuild(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingError, stun.CodeTryAlternate).Raw
		})}, nil},
		{"another question's answer", []netip.AddrPort{answersSTUN(t, func(*stun.Message) []byte {
			return stun.MustBuild(stun.TransactionID, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: 40001}).Raw
		})}, nil},
		{"no STUN", []netip.AddrPort{answersSTUN(t, func(q *stun.Message) []byte { return q.Raw[:21] })}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t)
			l.cfg.STUN = func() []netip.AddrPort { return tt.servers }
			p, offer := newPage(t, opus, digits)
			o := wire.BrowserOffer{Name: "Ada", Description: offer, Nonce: wire.Nonce{7}}
			a := ask(t, l, o)
			if a.Refusal != "" || !believed(sha256.Sum256(own(t, 1).Leaf.RawSubjectPublicKeyInfo), o, a) {
				t.Fatalf("the answer (%q) is not believed", a.Refusal)
			}
			named, host := candidatesOf(t, a.Description)
			slices.Sort(named)
			if !slices.Equal(named, tt.want) || !host {
				t.Errorf("it names %q (its own: %v); want %q", named, host, tt.want)
			}
			p.takes(t, a.Description)
			c, err := l.Incoming(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			<-p.open
			c.end("hangup")
			<-c.session.path.gone
		})
	}
}

// candidatesOf are the server-reflexive candidates of an answer, whose base has to be among those
// of hosts, and all of which have to stand before their end.
func candidatesOf(t *testing.T, answer string) (reflexive []string, host bool) {
	t.Helper()
	hosts := map[string]bool{}
	candidates, _, ok := strings.Cut(answer, "a=end-of-candidates\r\n")
	if !ok {
		t.Fatalf("candidates do not end in %q", answer)
	}
	for line := range strings.Lines(candidates) {
		if !strings.HasPrefix(line, "a=candidate:") {
			continue
		}
		f := strings.Fields(line) // RFC 8839, section 5.1
		at := f[4] + ":" + f[5]
		switch kind := f[7]; {
		case kind == "host":
			hosts[at] = true
		case kind != "srflx" || len(f) != 12 || f[1] != "1" || f[2] != "udp":
			t.Errorf("it names %q", line)
		case !hosts[f[9]+":"+f[11]]:
			t.Errorf("%q has a base that is none: %s", line, fmt.Sprint(hosts))
		default:
			reflexive = append(reflexive, at)
		}
	}
	return reflexive, len(hosts) > 0
}
