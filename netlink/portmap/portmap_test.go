package portmap

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// The bytes are those of RFC 6887, figures 2 and 9, and RFC 6886, 3.3.
func TestRequests(t *testing.T) {
	m := Mapping{
		Nonce: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, Internal: 5061,
		External: netip.MustParseAddrPort("0.0.0.0:5061"), Lifetime: 10 * time.Minute,
	}
	own := netip.MustParseAddr("192.168.77.2")
	for want, got := range map[string][]byte{
		"02010000" + "00000258" + "00000000000000000000ffffc0a84d02" + "0102030405060708090a0b0c" + "06000000" + "13c513c5" + "00000000000000000000ffff00000000": AppendPCP(nil, m, own),
		"0000":                     AppendPMPAddress(nil),
		"0002000013c513c500000258": AppendPMP(nil, m),
	} {
		if text := hex.EncodeToString(got); text != want {
			t.Errorf("%s;\nwant %s", text, want)
		}
	}
}

// pcpAnswer is a router's answer to a request.
func pcpAnswer(request []byte, code byte, external netip.AddrPort) []byte {
	b := append([]byte(nil), request...)
	b[1], b[3] = 0x81, code
	copy(b[8:24], make([]byte, 16))
	binary.BigEndian.PutUint16(b[42:], external.Port())
	a := external.Addr().As16()
	copy(b[44:], a[:])
	return b
}

// A router answers as it is told to. It counts the questions.
func router(t *testing.T, answer func(n int, question []byte) []byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for n := 0; ; n++ {
			size, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if text := answer(n, b[:size]); text != nil {
				_, _ = c.WriteToUDPAddrPort(text, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestAsk(t *testing.T) {
	outside := netip.MustParseAddrPort("198.51.100.50:5061")
	pmp := func(q []byte) []byte {
		if q[1] == 0 {
			return []byte{0, 128, 0, 0, 0, 0, 0, 1, 198, 51, 100, 50}
		}
		return append([]byte{0, 130, 0, 0, 0, 0, 0, 1, q[4], q[5], 0x13, 0xc6}, q[8:12]...)
	}
	for name, tt := range map[string]struct {
		answer func(n int, q []byte) []byte
		want   netip.AddrPort
		fails  error
	}{
		"PCP": {func(_ int, q []byte) []byte { return pcpAnswer(q, 0, outside) }, outside, nil},
		"PCP, whose first answer is lost": {func(n int, q []byte) []byte {
			if n == 0 {
				return nil
			}
			return pcpAnswer(q, 0, outside)
		}, outside, nil},
		"an answer to somebody else": {func(n int, q []byte) []byte {
			a := pcpAnswer(q, 0, netip.MustParseAddrPort("203.0.113.66:66"))
			if a[24]++; n > 0 {
				a = pcpAnswer(q, 0, outside)
			}
			return a
		}, outside, nil},
		"NAT-PMP": {func(_ int, q []byte) []byte {
			if q[0] == 2 {
				return []byte{0, 0x81, 0, 1, 0, 0, 0, 1}
			}
			return pmp(q)
		}, netip.MustParseAddrPort("198.51.100.50:5062"), nil},
		"it refuses":         {func(_ int, q []byte) []byte { return pcpAnswer(q, 2, outside) }, netip.AddrPort{}, &RefusedError{2}},
		"it refuses by both": {func(_ int, q []byte) []byte { return []byte{0, q[1] | 128, 0, 2, 0, 0, 0, 1} }, netip.AddrPort{}, &RefusedError{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Ask(t.Context(), router(t, tt.answer), loopback, 5061, 10*time.Minute, NewNonce())
			var refused, wanted *RefusedError
			switch {
			case errors.As(tt.fails, &wanted):
				if !errors.As(err, &refused) || *refused != *wanted {
					t.Errorf("%v; want %v", err, tt.fails)
				}
			case err != nil || got != Granted{tt.want, 10 * time.Minute}:
				t.Errorf("%+v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// Who does not wait does not.
func TestAskUntil(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at := router(t, func(int, []byte) []byte { cancel(); return nil })
	if _, err := Ask(ctx, at, loopback, 5061, time.Minute, NewNonce()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want context.Canceled", err)
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	nobody := c.LocalAddr().(*net.UDPAddr).AddrPort()
	c.Close()
	if _, err := Ask(t.Context(), nobody, loopback, 5061, time.Minute, NewNonce()); err == nil {
		t.Error("a router that is none has granted a port")
	}
}

// What is read is written again as it was; what is none is refused.
func FuzzAnswers(f *testing.F) {
	request := AppendPCP(nil, Mapping{Internal: 5061, External: netip.MustParseAddrPort("0.0.0.0:5061"), Lifetime: time.Minute}, loopback)
	f.Add(pcpAnswer(request, 0, netip.MustParseAddrPort("198.51.100.50:5061")))
	f.Add(pcpAnswer(request, 0, netip.MustParseAddrPort("[2001:db8::5]:5061")))
	f.Add(pcpAnswer(request, 8, netip.MustParseAddrPort("0.0.0.0:0")))
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 1, 198, 51, 100, 50})
	f.Add([]byte{0, 130, 0, 0, 0, 0, 0, 1, 0x13, 0xc5, 0x13, 0xc5, 0, 0, 2, 0x58})
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParsePCP(b); err == nil {
			if got := AppendPCP(nil, m, loopback); len(b) < mapSize || string(got[24:42]) != string(b[24:36])+"\x06\x00\x00\x00"+string(b[40:42]) ||
				string(got[4:8]) != string(b[4:8]) || m.External.Port() != binary.BigEndian.Uint16(b[42:]) {
				t.Errorf("%x is %+v", b, m)
			}
		}
		if m, err := ParsePMP(b); err == nil {
			if got := AppendPMP(nil, m); string(got[4:12]) != string(b[8:16]) {
				t.Errorf("%x is %+v", b, m)
			}
		}
		if a, err := ParsePMPAddress(b); err == nil && !a.Is4() {
			t.Errorf("%x is %v", b, a)
		}
	})
}
