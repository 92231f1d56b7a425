package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

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
	if _, _, behind := p.translated(); behind {
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
