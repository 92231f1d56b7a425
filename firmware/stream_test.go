package main

import (
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
)

// Two phones that agree on private sound make keys for it; where the key is another than
// that of the peer's row, whoever has agreed with it hears of that, and gets none.
func TestWhoseKeyIsWrongIsTold(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:5061")
	here := func(netip.Addr) netip.Addr { return at.Addr() }
	engine := audio.NewEngine(audio.Config{Formats: formats(), Log: slog.New(slog.DiscardHandler)})
	for _, wrong := range []bool{false, true} {
		var ends [2]phone.Stream
		var peers [2]sip.Peer // what the other end knows of each
		for i := range ends {
			s := soundFor(t, engine, here)
			opened, err := s.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			own, _ := s.own()
			leaf, err := x509.ParseCertificate(own.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			ends[i], peers[i] = opened, sip.Peer{User: "02005e005301", Addr: at, Secure: true, Fingerprint: sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
		}
		if wrong {
			peers[1].Fingerprint[0] ^= 1
		}
		caller, _ := ends[0].Local(peers[1], phone.Wanted{})
		callee, _ := ends[1].Local(peers[0], phone.Wanted{})
		offer, err := caller.Offer()
		if err != nil {
			t.Fatal(err)
		}
		answer, there, err := callee.Answer(offer, at.Addr())
		if err != nil {
			t.Fatal(err)
		}
		back, err := caller.Take(answer, at.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if !ends[0].Keyed() {
			t.Error("keys are missed before anything is agreed")
		}
		for i, m := range []sip.Media{back, there} {
			if err := ends[i].Start(m); err != nil {
				t.Fatal(err)
			}
		}
		late, look := time.After(10*time.Second), time.NewTicker(time.Millisecond)
		defer look.Stop()
		for told, done := false, false; !done; {
			select {
			case <-ends[0].Wrong():
				told = true
			case <-look.C:
			case <-late:
				t.Fatalf("wrong: %v; keys at the ends: %v, %v; told: %v", wrong, ends[0].Keyed(), ends[1].Keyed(), told)
			}
			done = told || ends[0].Keyed() && ends[1].Keyed()
			if done && told != wrong || told && ends[0].Keyed() {
				t.Errorf("wrong: %v; keys at the ends: %v, %v; told: %v", wrong, ends[0].Keyed(), ends[1].Keyed(), told)
			}
		}
	}
}
