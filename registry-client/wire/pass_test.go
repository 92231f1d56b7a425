package wire

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"flexphone/internal/pass"
)

func TestBeside(t *testing.T) {
	for _, want := range []Beside{{}, {STUN: [2]uint16{3478, 3479}}, {Relay: 3480}, {STUN: [2]uint16{1, 2}, Relay: 65535}, {Relay: 3480, Also: netip.MustParseAddr("2001:db8::1")}, {Relay: 3480, Also: netip.MustParseAddr("192.0.2.1")}} {
		r := Receipt{Reflexive: netip.MustParseAddrPort("192.0.2.7:4711"), Sequence: 1, Expiry: time.UnixMilli(1), Beside: want}
		b, err := EncodeReceipt(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeReceipt(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	}
}

// What can be read is as it was written.
func FuzzPass(f *testing.F) {
	good, _ := EncodePass(pass.New())
	f.Add(good)
	f.Add([]byte{0xa0})
	f.Add([]byte{0xa1, 0x18, 0x1f, 0x41, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePass(b)
		if err != nil {
			return
		}
		out, err := EncodePass(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodePass(out); err != nil || again != p {
			t.Errorf("%v became %v, %v", p, again, err)
		}
	})
}
