package srtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"flexphone/audio"
	"flexphone/internal/secret"
)

var suites = []Suite{AES128GCM, AES128CMSHA1}

func keyOf(s Suite, b byte) secret.Bytes {
	return secret.Of(bytes.Repeat([]byte{b}, s.KeyingSize()))
}

// ends are both ends of one direction.
func ends(t interface{ Fatal(...any) }, s Suite) (*outbound, *inbound) {
	var ring, theirs keyring
	o, err := ring.context(s, keyOf(s, 1))
	if err != nil {
		t.Fatal(err)
	}
	i, err := theirs.context(s, keyOf(s, 1))
	if err != nil {
		t.Fatal(err)
	}
	return &outbound{ctx: o}, newInbound(s, i)
}

func packet(what audio.Protocol, ssrc uint32, sequence uint16, text string) []byte {
	if what == audio.RTCP {
		b := append(make([]byte, 8), text...)
		b[0], b[1], b[3] = 0x80, 201, byte(len(b)/4-1)
		binary.BigEndian.PutUint32(b[4:], ssrc)
		return b
	}
	b := append(make([]byte, 12), text...)
	b[0], b[1] = 0x80, 111
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return b
}

func seal(t interface{ Fatal(...any) }, o *outbound, what audio.Protocol, b []byte) []byte {
	var out []byte
	if err := o.seal(what, b, func(s []byte) error { out = bytes.Clone(s); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// Keys live through wraps of the sequence numbers, with losses of any length up to
// 2^14 and packets out of order, and open nothing twice, nothing changed.
func TestKeysLiveAsLongAsTheCall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(suites).Draw(t, "suite")
		o, i := ends(t, s)
		number := uint32(rapid.Uint16Max(1<<15).Draw(t, "first"))
		for range 40 {
			sealed := seal(t, o, audio.RTP, packet(audio.RTP, 7, uint16(number), "voice"))
			if bytes.Contains(sealed, []byte("voice")) {
				t.Fatal("sound is sent in the clear")
			}
			forged := bytes.Clone(sealed)
			forged[rapid.IntRange(0, len(forged)-1).Draw(t, "where")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if o, err := i.open(audio.RTP, forged); err == nil {
				t.Fatalf("a changed packet opens: %+v", o)
			}
			got, err := i.open(audio.RTP, bytes.Clone(sealed))
			if err != nil || !got.newest || string(got.bytes[12:]) != "voice" {
				t.Fatalf("packet %d: %q, newest %v, %v", number, got.bytes, got.newest, err)
			}
			if _, err := i.open(audio.RTP, bytes.Clone(sealed)); err == nil {
				t.Fatal("a packet opens twice")
			}
			report := seal(t, o, audio.RTCP, packet(audio.RTCP, 7, 0, "report!!"))
			if bytes.Contains(report, []byte("report")) {
				t.Fatal("reports are sent in the clear")
			}
			if got, err := i.open(audio.RTCP, bytes.Clone(report)); err != nil || !got.newest || string(got.bytes[8:]) != "report!!" {
				t.Fatalf("report: %q, %v", got.bytes, err)
			}
			if _, err := i.open(audio.RTCP, report); err == nil {
				t.Fatal("a report opens twice")
			}
			step := uint32(rapid.IntRange(1, hole).Draw(t, "step"))
			if late := rapid.IntRange(0, 1).Draw(t, "late"); late == 1 && step > 1 { // the one between comes after
				mid := seal(t, o, audio.RTP, packet(audio.RTP, 7, uint16(number+step-1), "between"))
				next := seal(t, o, audio.RTP, packet(audio.RTP, 7, uint16(number+step), "voice"))
				if got, err := i.open(audio.RTP, next); err != nil || got.jumped {
					t.Fatalf("after a hole of %d: jumped %v, %v", step, got.jumped, err)
				}
				if got, err := i.open(audio.RTP, mid); err != nil || got.newest {
					t.Fatalf("out of order: newest %v, %v", got.newest, err)
				}
				step++
			}
			number += step
		}
		if number < 1<<16 {
			t.Skip("no wrap")
		}
	})
}

// A hole of more than 2^14 is told of while the keys still open packets.
func TestHoleIsToldOf(t *testing.T) {
	for _, s := range suites {
		for _, step := range []uint16{hole, hole + 1, 1<<15 - 1} {
			o, i := ends(t, s)
			if _, err := i.open(audio.RTP, seal(t, o, audio.RTP, packet(audio.RTP, 7, 100, "x"))); err != nil {
				t.Fatal(err)
			}
			got, err := i.open(audio.RTP, seal(t, o, audio.RTP, packet(audio.RTP, 7, 100+step, "x")))
			if err != nil || got.jumped != (step > hole) {
				t.Errorf("%v: hole of %d: jumped %v, %v", s, step, got.jumped, err)
			}
		}
	}
}

// No key is ever used for a second context.
func TestKeysAreUsedOnce(t *testing.T) {
	var r keyring
	for _, s := range suites {
		if _, err := r.context(s, keyOf(s, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.context(s, keyOf(s, 2)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.context(s, keyOf(s, 1)); !errors.Is(err, errUsed) {
			t.Errorf("%v: the same key again: %v", s, err)
		}
		if _, err := r.context(s, secret.Of([]byte("short"))); !errors.Is(err, errSuite) {
			t.Errorf("%v: a short key: %v", s, err)
		}
	}
	if _, err := r.context(2, keyOf(AES128GCM, 3)); err == nil {
		t.Error("a suite of 32 bits is taken")
	}
}

// A peer makes us remember no more than so many sources.
func TestSourcesAreBounded(t *testing.T) {
	o, i := ends(t, AES128GCM)
	opens := 0
	for ssrc := range uint32(3 * mostSources) {
		if _, err := i.open(audio.RTP, seal(t, o, audio.RTP, packet(audio.RTP, ssrc, 1, "x"))); err == nil {
			opens++
		}
	}
	if opens != mostSources || len(i.highest) != mostSources {
		t.Errorf("%d of %d sources are heard", opens, 3*mostSources)
	}
}
