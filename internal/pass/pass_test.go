package pass

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"
)

var (
	tx   = [stun.TransactionIDSize]byte{1, 2, 3}
	from = netip.MustParseAddrPort("192.0.2.1:4000")
)

func TestText(t *testing.T) {
	p := New()
	again, ok := Parse(p.Text())
	if !ok || again != p || len(p.Text()) != 43 {
		t.Errorf("%s is read as %v", p.Text(), again)
	}
	if again, ok := Of(p.Bytes()); !ok || again != p {
		t.Error("its bytes are another")
	}
	if p == New() {
		t.Error("two are the same")
	}
	if text := fmt.Sprint(p, []Pass{p}); bytes.Contains([]byte(text), []byte(p.Text()[30:])) {
		t.Errorf("a log shows the key: %s", text)
	}
	for _, bad := range []string{"", p.Text()[1:], p.Text() + "A", "*" + p.Text()[1:], Pass{}.Text()} {
		if _, ok := Parse(bad); ok {
			t.Errorf("%q is a pass", bad)
		}
	}
}

// Both rounds of showing, whose answers are shorter than their requests.
func TestShow(t *testing.T) {
	for _, side := range []Side{Owner, Guest} {
		p := New()
		var ask, answer, m stun.Message
		if err := p.Show(&ask, tx, side, nil); err != nil {
			t.Fatal(err)
		}
		s, ok := Read(&m, ask.Raw)
		if !ok || s.Name != p.Name || s.Side != side || s.Nonce != nil || !p.Signed(&m) || New().Signed(&m) {
			t.Fatalf("%+v, %v", s, ok)
		}
		if err := Challenge(&answer, tx, []byte("0123456789abcdef")); err != nil || len(answer.Raw) >= len(ask.Raw) {
			t.Fatalf("%v; %d bytes answer %d", err, len(answer.Raw), len(ask.Raw))
		}
		nonce, _, err := p.Answer(&m, answer.Raw, tx)
		if err != nil || string(nonce) != "0123456789abcdef" {
			t.Fatalf("%q, %v", nonce, err)
		}
		if err := p.Show(&ask, tx, side, nonce); err != nil {
			t.Fatal(err)
		}
		if s, ok := Read(&m, ask.Raw); !ok || !bytes.Equal(s.Nonce, nonce) || !p.Signed(&m) {
			t.Fatalf("%+v, %v", s, ok)
		}
		if err := p.Accept(&answer, tx, from); err != nil || len(answer.Raw) >= len(ask.Raw) {
			t.Fatalf("%v; %d bytes answer %d", err, len(answer.Raw), len(ask.Raw))
		}
		if _, at, err := p.Answer(&m, answer.Raw, tx); err != nil || at != from {
			t.Errorf("%v, %v", at, err)
		}
		if _, _, err := New().Answer(&m, answer.Raw, tx); err == nil {
			t.Error("another's answer is believed")
		}
		if _, _, err := p.Answer(&m, answer.Raw, [12]byte{}); err == nil {
			t.Error("an answer to another request is believed")
		}
	}
}

// Whatever can be read shows a name, and no key that it was not made with.
func FuzzRead(f *testing.F) {
	p, _ := Of(bytes.Repeat([]byte{7}, Size)) // the same in each process
	var first, second stun.Message
	if p.Show(&first, tx, Owner, nil) != nil || p.Show(&second, tx, Guest, []byte("nonce")) != nil {
		f.Fatal("not shown")
	}
	f.Add(first.Raw)
	f.Add(second.Raw)
	f.Add(stun.MustBuild(stun.NewTransactionIDSetter(tx), stun.BindingRequest, stun.NewUsername("peer:peer"), stun.Fingerprint).Raw)
	other, _ := Of(bytes.Repeat([]byte{8}, Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m stun.Message
		s, ok := Read(&m, b)
		if ok && (s.Side > Guest || other.Signed(&m)) {
			t.Fatalf("%x: %+v", b, s)
		}
		if _, mapped, err := other.Answer(&m, b, tx); err == nil && mapped.IsValid() {
			t.Fatalf("%x says that a pass was taken", b)
		}
	})
}
