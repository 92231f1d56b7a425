package srtp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/audio"
	"flexphone/audio/seek"
	"flexphone/internal/pass"
)

// receive has s take what comes.
func receive(t testing.TB, s *side) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Receive(func(audio.Datagram) {}); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
}

// A path learns from STUN servers where it is seen, and believes only whom it has asked.
func TestReflexive(t *testing.T) {
	s := newSide(t)
	receive(t, s)
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	liar, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		b := make([]byte, 600)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			q := stun.Message{Raw: b[:n]}
			if q.Decode() != nil {
				continue
			}
			lie := stun.MustBuild(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(9, 9, 9, 9), Port: 9})
			_, _ = liar.WriteToUDPAddrPort(lie.Raw, from)
			wrong := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(9, 9, 9, 9), Port: 9})
			_, _ = server.WriteToUDPAddrPort(wrong.Raw, from)
			right := stun.MustBuild(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 7), Port: 77})
			_, _ = server.WriteToUDPAddrPort(right.Raw, from)
		}
	}()
	got := s.Reflexive(context.Background(), []netip.AddrPort{server.LocalAddr().(*net.UDPAddr).AddrPort(), {}})
	if got[0] != netip.MustParseAddrPort("192.0.2.7:77") || got[1].IsValid() {
		t.Errorf("seen at %v", got)
	}
}

// Whatever comes from the relay's place or a STUN server's, nobody is believed who does not
// have the key, and nothing is sent to anybody.
func FuzzRelayAnswers(f *testing.F) {
	p, _ := pass.Of([]byte("0123456789abcdef0123456789abcdef"))
	var m stun.Message
	if pass.Challenge(&m, [12]byte{1}, []byte("nonce")) != nil {
		f.Fatal("no challenge")
	}
	f.Add(m.Raw)
	f.Add(stun.MustBuild(stun.NewTransactionIDSetter([12]byte{1}), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(9, 9, 9, 9), Port: 9}, stun.Fingerprint).Raw)
	relay := netip.MustParseAddrPort("198.51.100.1:3480")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxPacket {
			return
		}
		a := newSide(t)
		defer a.Close()
		now := time.Now()
		a.entry = &entry{Relay: Relay{relay, p}, tx: [12]byte{1}, next: now.Add(time.Hour)}
		a.inquiries = map[[stun.TransactionIDSize]byte]*inquiry{{2}: {relay, make(chan netip.AddrPort, 1)}}
		for range 20 {
			a.arrive(b, relay, now, func(audio.Datagram) { t.Fatal("it is taken") })
		}
		if a.entry.in || a.finder.Known(relay) || a.Remote().IsValid() {
			t.Fatalf("%x lets us in", b)
		}
	})
}

// A peer that names places is found at the one that answers, and its way is known.
func TestFound(t *testing.T) {
	a, b := newSide(t), newSide(t)
	receive(t, a)
	receive(t, b)
	dead := netip.MustParseAddrPort("127.0.0.1:9")
	for _, of := range []struct{ here, there *side }{{a, b}, {b, a}} {
		agreement := of.there.with(of.here == a)
		agreement.Remote = dead
		agreement.Candidates = []seek.Candidate{{Addr: dead, Kind: seek.Host}, {Addr: of.there.at, Kind: seek.Reflexive}}
		if err := of.here.Start(agreement); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); a.Way() != Punched || b.Way() != Punched || !a.Keyed() || !b.Keyed(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s to %v, %s to %v", a.Way(), a.Remote(), b.Way(), b.Remote())
		}
	}
	if a.Remote() != b.at || b.Remote() != a.at {
		t.Errorf("%v, %v", a.Remote(), b.Remote())
	}
}
