package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pion/stun/v4"

	"flexphone/audio"
	"flexphone/audio/seek"
	"flexphone/audio/srtp"
	"flexphone/audio/udp"
	"flexphone/firmware/internal/media"
	"flexphone/internal/mac"
	"flexphone/internal/pass"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// placesOf are those of a call of a phone with these addresses, which has no storing server.
func placesOf(t *testing.T, addrs ...netip.Addr) *places {
	t.Helper()
	id, err := registry.OpenFolder(t.TempDir()).Identity(mac.Address{2, 0, 0x5e, 0, 0x53, 1})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := udp.Bind(t.Context(), udp.PortRange{})
	if err != nil {
		t.Fatal(err)
	}
	path := srtp.New(t.Context(), conn, srtp.Config{Certificate: tls.Certificate(id.Certificate), Log: slog.New(slog.DiscardHandler)})
	around := &neighbourhood{addrs: func() []netip.Addr { return addrs }, server: func() (*registry.Client, bool) { return nil, false }, log: slog.New(slog.DiscardHandler)}
	p := newPlaces(context.Background(), around, path)
	t.Cleanup(func() { p.close(); path.Close() })
	return p
}

// Without a NAT the other end is told the phone's own addresses, and nobody is waited for.
func TestPlacesWithoutNAT(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	p := placesOf(t, four, six, netip.MustParseAddr("fe80::1"))
	p.registered(wire.Registration{Addrs: []netip.Addr{four}}, wire.Receipt{Reflexive: netip.MustParseAddrPort("192.0.2.7:9"), Beside: wire.Beside{Relay: 1}})
	got := p.candidates(4000)
	want := []media.Candidate{{Addr: netip.AddrPortFrom(four, 4000)}, {Addr: netip.AddrPortFrom(six, 4000)}}
	if !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	if p.translated() {
		t.Error("there is a NAT")
	}
}

// What the other end has told are places to ask; a pass is shown instead.
func TestPlacesOfTheOtherEnd(t *testing.T) {
	p := placesOf(t)
	at := netip.MustParseAddrPort
	theirs := pass.New()
	got := p.of([]media.Candidate{
		{Addr: at("192.0.2.1:1")}, {Addr: at("[2001:db8::1]:2")}, {Addr: at("192.0.2.2:3"), Kind: media.Reflexive},
		{Addr: at("192.0.2.3:4"), Kind: media.Relayed}, {Addr: at("192.0.2.4:5"), Kind: media.Relayed, Pass: theirs},
	})
	want := []seek.Candidate{{Addr: at("192.0.2.1:1"), Kind: seek.Host}, {Addr: at("[2001:db8::1]:2"), Kind: seek.Host6}, {Addr: at("192.0.2.2:3"), Kind: seek.Reflexive}, {Addr: at("192.0.2.3:4"), Kind: seek.Relayed}}
	if !slices.Equal(got, want) || !p.guest {
		t.Errorf("asked at %v, want %v; guest %v", got, want, p.guest)
	}
}

// Where both have told the other of a pass, both take the same one: the caller's, or, if
// they cannot know whose that is, the lesser.
func TestTwoPasses(t *testing.T) {
	for _, known := range []bool{true, false} {
		relay := netip.MustParseAddrPort("192.0.2.3:4")
		var ends [2]*places // the second is called
		for i := range ends {
			ends[i] = placesOf(t, netip.MustParseAddr("192.0.2.9"))
			ends[i].relay = srtp.Relay{At: relay, Pass: pass.New()}
		}
		if known {
			ends[1].answers()
		}
		offer := ends[0].candidates(1)
		if !known {
			ends[1].candidates(1) // it has been told as well
		}
		ends[1].of(offer)
		answer := ends[1].candidates(1)
		if !known && ends[1].guest {
			answer = append(answer, media.Candidate{Addr: relay, Kind: media.Relayed, Pass: ends[1].relay.Pass})
		}
		ends[0].of(answer)
		if ends[0].guest == ends[1].guest {
			t.Fatalf("known %v: guests %v, %v", known, ends[0].guest, ends[1].guest)
		}
		if known && ends[0].guest {
			t.Error("the pass of who was called counts")
		}
	}
}

// A phone that was called where this one has no address of the family is apart from it, and
// another relay's address of that family is of no use.
func TestPlacesOfTheOtherFamily(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")
	for _, c := range []struct {
		own   []netip.Addr
		at    netip.Addr
		apart bool
	}{
		{[]netip.Addr{four}, six, true}, {[]netip.Addr{six}, four, true}, {[]netip.Addr{four}, netip.MustParseAddr("192.0.2.1"), false},
		{[]netip.Addr{six, four}, four, false}, {[]netip.Addr{four, netip.MustParseAddr("fe80::1")}, six, true},
		{[]netip.Addr{four}, netip.MustParseAddr("::ffff:192.0.2.1"), false}, {[]netip.Addr{four}, netip.Addr{}, false},
	} {
		p := placesOf(t, c.own...)
		if p.calls(c.at); p.apart != c.apart {
			t.Errorf("with %v, at %v: apart %v, want %v", c.own, c.at, p.apart, c.apart)
		}
		if p.renew(); p.apart {
			t.Error("apart from another phone, of which nothing is known")
		}
		told := netip.AddrPortFrom(c.own[0], 3480)
		if got := p.relayAt(media.Candidate{Addr: told}); got != told {
			t.Errorf("with %v a relay at %v is sought at %v", c.own, told, got)
		}
		if c.apart {
			other := media.Candidate{Addr: netip.AddrPortFrom(c.at, 3480), Also: c.own[0]}
			if got := p.relayAt(other); got != told {
				t.Errorf("with %v a relay at %v is sought at %v", c.own, other, got)
			}
		}
	}
}

// Where a NAT shows this phone elsewhere than the other end was told, which nothing but asking
// says, the other end is to be told, once. Who does not answer leaves what is known.
func TestPlacesSeenElsewhere(t *testing.T) {
	own := netip.MustParseAddr("192.168.77.2")
	p := placesOf(t, own)
	done := make(chan struct{})
	go func() { defer close(done); _ = p.path.Receive(func(audio.Datagram) {}) }()
	t.Cleanup(func() { p.path.Close(); <-done })
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var at atomic.Pointer[netip.AddrPort] // nil: it does not answer
	var asked atomic.Int32
	served := make(chan struct{})
	t.Cleanup(func() { server.Close(); <-served })
	go func() {
		defer close(served)
		b := make([]byte, 600)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			asked.Add(1)
			q := stun.Message{Raw: b[:n]}
			if seen := at.Load(); seen != nil && q.Decode() == nil {
				answer := stun.MustBuild(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: seen.Addr().AsSlice(), Port: int(seen.Port())})
				_, _ = server.WriteToUDPAddrPort(answer.Raw, from)
			}
		}
	}()
	servers := []netip.AddrPort{server.LocalAddr().(*net.UDPAddr).AddrPort()}
	asks := func(when string, other, answered bool) {
		t.Helper()
		if gotOther, gotAnswered := p.askAgain(servers); gotOther != other || gotAnswered != answered {
			t.Errorf("%s: another %v, answered %v; want %v, %v", when, gotOther, gotAnswered, other, answered)
		}
	}
	tells := func(when string, want netip.AddrPort) {
		t.Helper()
		if got := p.candidates(4000); !slices.Equal(got, []media.Candidate{{Addr: netip.AddrPortFrom(own, 4000)}, {Addr: want, Kind: media.Reflexive}}) {
			t.Errorf("%s: told %v, want %v", when, got, want)
		}
	}
	asks("without a NAT", false, true)
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times, without a NAT", n)
	}
	p.registered(wire.Registration{Addrs: []netip.Addr{own}}, wire.Receipt{Reflexive: netip.MustParseAddrPort("192.0.2.7:9")})
	p.candidates(4000) // asks at nobody
	first, second := netip.MustParseAddrPort("192.0.2.7:5000"), netip.MustParseAddrPort("192.0.2.7:6000")
	at.Store(&first)
	asks("first", true, true)
	asks("not told yet", true, true)
	tells("first", first)
	asks("as told", false, true)
	at.Store(nil)
	asks("without an answer", false, false)
	tells("without an answer", first)
	at.Store(&second)
	asks("restarted", true, true)
	tells("restarted", second)
	asks("as told then", false, true)
}
