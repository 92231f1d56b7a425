package srtp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/audio"
	"flexphone/internal/secret"
)

// Each datagram is of one kind, which its first bytes decide alone.
func FuzzDemux(f *testing.F) {
	f.Add([]byte{}, byte(0))
	f.Add([]byte{0x80, 200}, byte(1))
	f.Add(append([]byte{0x80, 200}, make([]byte, 20)...), byte(2))
	f.Add(append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1}, make([]byte, 20)...), byte(3))
	f.Fuzz(func(t *testing.T, b []byte, tail byte) {
		k := kindOf(b)
		if len(b) >= shortest && kindOf(append(bytes.Clone(b), tail)) != k {
			t.Error("the end of a datagram changes what it is")
		}
		if (k == isRTP || k == isRTCP) && (len(b) < shortest || b[0]>>6 != 2) {
			t.Errorf("%x is RTP", b)
		}
		if isClientHello(b) && kindOf(b) != isDTLS {
			t.Errorf("%x is a hello, and no DTLS", b)
		}
	})
}

var (
	fuzzOwn  = Credentials{"ownownow", secret.Of([]byte("password of this end, secret"))}
	fuzzPeer = Credentials{"peerpeer", secret.Of([]byte("password of that end, secret"))}
)

// Whoever does not know the passwords proves nothing and is not answered, whatever
// is sent.
func FuzzSTUN(f *testing.F) {
	good := prover{own: fuzzPeer, peer: fuzzOwn, asked: [12]byte{1, 2, 3}} // the same in each process
	question, err := good.question()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(question)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.NewTransactionIDSetter([12]byte{}), stun.BindingSuccess, stun.NewShortTermIntegrity("guess"), stun.Fingerprint).Raw)
	from := netip.MustParseAddrPort("192.0.2.1:4000")
	f.Fuzz(func(t *testing.T, b []byte) {
		p := prover{own: fuzzOwn, peer: fuzzPeer}
		answer, proof := p.take(b, from)
		if proof != nothing && proof != ofQuestion {
			t.Fatalf("%x proves a path", b)
		}
		if answer == nil {
			return
		}
		if !bytes.Equal(b, question) { // of which the fuzzer cannot make another
			t.Fatalf("%x is answered", b)
		}
		good := prover{own: fuzzPeer, peer: fuzzOwn, asked: good.asked}
		if again, proof := good.take(answer, from); proof != ofTrial || again != nil {
			t.Fatalf("the answer %x proves nothing", answer)
		}
	})
}

// Whatever datagrams come to a path that talks: nothing is taken from whoever does
// not have the keys, the stream goes where it went, and what is genuine still opens.
func FuzzDatagrams(f *testing.F) {
	f.Add(byte(0), packet(audio.RTP, 7, 2, "voice and its tag, sixteen"))
	f.Add(byte(1), packet(audio.RTCP, 7, 2, "reports with a tag and more."))
	f.Add(byte(2), append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48, 254, 253}, make([]byte, 60)...))
	f.Add(byte(0), append([]byte{23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 60}, make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, from byte, b []byte) {
		if len(b) > maxPacket {
			return
		}
		a, peer := newSide(t), newSide(t)
		defer a.Close()
		defer peer.Close()
		byDTLS := from&1 == 1
		suite := suites[from>>1&1]
		agreement := Agreement{Remote: home, Mux: true, Peer: fuzzPeer, SDES: &SDES{suite, keyOf(suite, 1), keyOf(suite, 2)}}
		if byDTLS {
			agreement = peer.with(false)
			agreement.Remote = home
		}
		if err := a.Start(agreement); err != nil {
			t.Fatal(err)
		}
		source := home
		if from&4 != 0 {
			source = netip.MustParseAddrPort("198.51.100.7:9")
		}
		now := time.Now()
		for range 3 {
			a.arrive(bytes.Clone(b), source, now, func(audio.Datagram) { t.Fatal("it is taken") })
		}
		if a.Remote() != home {
			t.Fatalf("it leads to %v", a.Remote())
		}
		if byDTLS {
			if err := a.Send(audio.RTP, packet(audio.RTP, 7, 1, "x")); err != audio.ErrNoPeer {
				t.Fatalf("there are keys: %v", err)
			}
			return
		}
		var ring keyring
		ctx, err := ring.context(suite, keyOf(suite, 2))
		if err != nil {
			t.Fatal(err)
		}
		heard := 0
		genuine := seal(t, &outbound{ctx: ctx}, audio.RTP, packet(audio.RTP, 9, 1, "genuine"))
		a.arrive(genuine, home, now, func(audio.Datagram) { heard++ })
		if heard != 1 {
			t.Fatal("what is genuine does not open any more")
		}
	})
}
