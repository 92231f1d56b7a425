package mirror

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// What is answered is where the question came from, and the answer to a plain question
// has 12 bytes more, by IPv6 24.
func TestAnswer(t *testing.T) {
	for at, longer := range map[string]int{"192.0.2.1:4000": 12, "[2001:db8::7]:4000": 24, "[::ffff:192.0.2.1]:9": 12} {
		q := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
		from := netip.MustParseAddrPort(at)
		var in, out stun.Message
		if !answer(&out, &in, q.Raw, from) {
			t.Fatalf("%s gets no answer", at)
		}
		if n := len(out.Raw) - len(q.Raw); n != longer {
			t.Errorf("%s: %d bytes longer, want %d", at, n, longer)
		}
		a := stun.Message{Raw: out.Raw}
		var mapped stun.XORMappedAddress
		if err := a.Decode(); err != nil || a.TransactionID != q.TransactionID || a.Type != stun.BindingSuccess || mapped.GetFrom(&a) != nil {
			t.Fatalf("%s: %v, %v", at, a, err)
		}
		ip, _ := netip.AddrFromSlice(mapped.IP)
		if got := netip.AddrPortFrom(ip, uint16(mapped.Port)); got != netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) {
			t.Errorf("%s is told %v", at, got)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	wrong := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw
	wrong[len(wrong)-1] ^= 1
	for name, b := range map[string][]byte{
		"nothing":               {},
		"an answer":             stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw,
		"an indication":         stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)).Raw,
		"an allocation":         stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw,
		"a tail":                append(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, 0, 0, 0, 0),
		"a wrong fingerprint":   wrong,
		"an unknown obligation": stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: 0x7777, Value: []byte("abcd")}).Raw,
		"too much":              stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: 0x9777, Value: make([]byte, 600)}).Raw,
	} {
		var in, out stun.Message
		if answer(&out, &in, b, netip.MustParseAddrPort("192.0.2.1:1")) {
			t.Errorf("%s is answered", name)
		}
	}
}

// Both ports answer, and a network that asks too often is answered so often and no more.
func TestServer(t *testing.T) {
	var answered, limited atomic.Int64
	counted := make(chan struct{}, 4*burst)
	s, err := Listen(t.Context(), Options{Listen: "127.0.0.1:0", Count: func(result string) {
		switch result {
		case "answered":
			answered.Add(1)
		case "rate":
			limited.Add(1)
		}
		counted <- struct{}{}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ports := s.Ports()
	if ports[0] == ports[1] {
		t.Fatalf("one port: %v", ports)
	}
	for _, port := range ports {
		q := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
		if _, err := c.WriteTo(q.Raw, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, from, err := c.ReadFromUDPAddrPort(b)
		a := stun.Message{Raw: b[:n]}
		if err != nil || from.Port() != port || a.Decode() != nil || a.TransactionID != q.TransactionID {
			t.Fatalf("from %v: %v, %v", from, a, err)
		}
		<-counted
	}
	begin := time.Now()
	flood := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	const tries = 3 * burst
	for range tries {
		if _, err := c.WriteTo(flood.Raw, s.Addr()); err != nil {
			t.Fatal(err)
		}
		<-counted
	}
	most := burst + int64(time.Since(begin).Seconds()*rate) + 3
	if n := answered.Load(); n > most || limited.Load() == 0 {
		t.Errorf("%d of %d answered, want at most %d", n, tries, most)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Whatever comes, an answer is a Binding success to the same transaction, and no
// longer than the question by more than its address takes.
func FuzzAnswer(f *testing.F) {
	f.Add(stun.MustBuild(stun.NewTransactionIDSetter([12]byte{1}), stun.BindingRequest).Raw)
	f.Add(stun.MustBuild(stun.NewTransactionIDSetter([12]byte{2}), stun.BindingRequest, stun.NewUsername("a:b"), stun.NewShortTermIntegrity("x"), stun.Fingerprint).Raw)
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42})
	from := netip.MustParseAddrPort("[2001:db8::1]:4000")
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, out stun.Message
		if !answer(&out, &in, b, from) {
			return
		}
		a := stun.Message{Raw: out.Raw}
		var mapped stun.XORMappedAddress
		if err := a.Decode(); err != nil || a.Type != stun.BindingSuccess || mapped.GetFrom(&a) != nil || [12]byte(b[8:20]) != a.TransactionID {
			t.Fatalf("%x is answered with %x: %v", b, out.Raw, err)
		}
		if len(out.Raw) > len(b)+24 {
			t.Fatalf("%d bytes make %d", len(b), len(out.Raw))
		}
	})
}
