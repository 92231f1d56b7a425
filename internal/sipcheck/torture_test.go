package sipcheck_test

import (
	"net/netip"
	"strings"
	"testing"

	gosip "github.com/emiago/sipgo/sip"

	"flexphone/internal/sipcheck"
	"flexphone/internal/sipcheck/torture"
)

// dropped: it is a response, or no SIP, and has no answer.
const dropped = -1

// verdicts are on RFC 4475: each message's name, and with what it is refused here. 0:
// it is taken, whatever its method and its body are worth to a phone or a
// registrar.
var verdicts = map[string]int{
	"valid/dblreq": 0, "valid/esc01": 0, "valid/esc02": 0, "valid/escnull": 0, "valid/intmeth": 0,
	"valid/longreq": 0, "valid/lwsdisp": 0, "valid/mpart01": 0, "valid/noreason": 0, "valid/semiuri": 0,
	"valid/transports": 0, "valid/unreason": 0, "valid/wsinv": 0,

	// 3.1.2, syntax
	"invalid/badinv01": 400, "invalid/clerr": 400, "invalid/ncl": 400, "invalid/scalar02": 400,
	"invalid/scalarlg": dropped, "invalid/quotbal": 400, "invalid/ltgtruri": 400, "invalid/lwsruri": 400,
	"invalid/lwsstart": 400, "invalid/trws": 400, "invalid/escruri": 400, "invalid/baddate": 400,
	"invalid/regbadct": 400, "invalid/badaspec": 400, "invalid/baddn": 400, "invalid/badvers": 505,
	"invalid/mismatch01": 400, "invalid/mismatch02": 400, "invalid/bigcode": dropped,
	// 3.2 and 3.3, transactions and what stands above syntax
	"invalid/badbranch": 400, "invalid/insuf": 400, "invalid/unkscm": 416, "invalid/novelsc": 416,
	"invalid/unksm2": 400, "invalid/multi01": 400, "invalid/mcl01": 400, "invalid/bcast": dropped,
	// What is wrong with these concerns bodies, extensions, registrars and proxies.
	"invalid/bext01": 0, "invalid/invut": 0, "invalid/sdp01": 0, "invalid/regaut01": 0, "invalid/zeromf": 0,
	"invalid/cparam01": 0, "invalid/cparam02": 0, "invalid/regescrt": 0,
	"invalid/inv2543": 0, // 3.4.1: legal once, and to be taken

	"invalid/test": dropped, // not of the RFC: a start line without a version
}

var source = netip.MustParseAddrPort("192.0.2.200:5070")

// verdict is what becomes of a message: dropped, the status with which it is
// refused, or 0. What is taken and what is answered has to be read by a parser as
// what it is.
func verdict(t testing.TB, b []byte) (code int, what string) {
	t.Helper()
	m, err := sipcheck.Read(b)
	if err != nil {
		return dropped, err.Error()
	}
	f := m.Check()
	switch {
	case f.Code == 0:
		parsed, err := gosip.ParseMessage(m.Tidy())
		if err != nil {
			t.Fatalf("taken, and no parser reads it: %v\n%s", err, m.Tidy())
		}
		if _, request := parsed.(*gosip.Request); request != m.IsRequest() {
			t.Fatalf("taken for something else\n%s", m.Tidy())
		}
		return 0, ""
	case !m.IsRequest():
		return dropped, f.What
	}
	a := m.Answer(source, f.Code, "No")
	if a == nil {
		return dropped, f.What
	}
	parsed, err := gosip.ParseMessage(a)
	res, ok := parsed.(*gosip.Response)
	switch {
	case !strings.HasPrefix(string(a), "SIP/2.0 ") || !strings.Contains(string(a), "\r\nVia: "):
		t.Fatalf("no response:\n%s", a)
	case err != nil && brokenItself(a): // and stands in the response as it came
	case err != nil || !ok || res.StatusCode != f.Code || res.Via() == nil && !brokenItself(a):
		t.Fatalf("answered by what nobody reads: %v\n%s", err, a)
	}
	return f.Code, f.What
}

// brokenItself reports whether a response has a flaw of its own, which can only be
// what it has to repeat.
func brokenItself(response []byte) bool {
	m, err := sipcheck.Read(response)
	return err != nil || m.Check().Code != 0
}

func TestTorture(t *testing.T) {
	found := torture.Messages(t)
	if len(found) != len(verdicts) {
		t.Errorf("%d messages, %d verdicts", len(found), len(verdicts))
	}
	for name, b := range found {
		t.Run(name, func(t *testing.T) {
			want, ok := verdicts[name]
			if !ok {
				t.Fatal("no verdict on this message")
			}
			if got, what := verdict(t, b); got != want {
				t.Errorf("%d (%s), want %d", got, what, want)
			}
		})
	}
}
