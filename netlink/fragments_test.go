package netlink

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// cut cuts a packet into fragments of at most n bytes of payload.
func cut(packet []byte, n int) (out [][]byte) {
	body := packet[ipHeader:]
	for at := 0; at < len(body); at += n {
		end := min(at+n, len(body))
		f := append(slices.Clone(packet[:ipHeader]), body[at:end]...)
		flags := uint16(at / 8)
		if end < len(body) {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[6:], flags)
		out = append(out, f)
	}
	return out
}

func TestReassembly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	payload := make([]byte, 1400)
	for i := range payload {
		payload[i] = byte(i)
	}
	packet := wrap(payload, simServer)
	packet[ipHeader+3] = portClient
	give := func(r *reassembly, list ...[]byte) (out []byte) {
		for _, f := range list {
			if whole := r.add(now, f); whole != nil {
				out = whole
			}
		}
		return out
	}
	want := func(t *testing.T, got []byte) {
		t.Helper()
		if p, err := unwrap(got); err != nil || !slices.Equal(p, payload) {
			t.Errorf("%d bytes, %v", len(p), err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		f := cut(packet, 8*(12+r.IntN(100)))
		r.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		var all reassembly
		want(t, give(&all, f...))
		if len(all.wholes) != 0 {
			t.Errorf("%d remain", len(all.wholes))
		}
	}
	f := cut(packet, 552)
	want(t, give(&reassembly{}, packet))
	for name, list := range map[string][][]byte{
		"the first missing":  f[1:],
		"the last missing":   f[:2],
		"the middle missing": {f[0], f[2]},
		"an overlap":         {f[0], cut(packet, 544)[1], f[1], f[2]},
		"past the last":      {f[2], f[2], f[0]},
		"one cut short":      {f[0], f[1][:100], f[2]},
	} {
		if got := give(&reassembly{}, list...); got != nil {
			t.Errorf("%s: made %d bytes", name, len(got))
		}
	}
	var many reassembly
	for i := range 100 {
		g := slices.Clone(f[0])
		g[4] = byte(i)
		many.add(now, g)
	}
	if len(many.wholes) > maxWholes {
		t.Errorf("%d wholes are kept", len(many.wholes))
	}
	want(t, give(&many, f...))
	now = now.Add(time.Minute)
	if many.add(now, f[0]); len(many.wholes) != 1 {
		t.Errorf("%d wholes are kept for ever", len(many.wholes))
	}
}

func FuzzReassembly(f *testing.F) {
	for _, b := range cut(wrap(make([]byte, 100), simServer), 40) {
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r reassembly
		now := time.Unix(0, 0)
		for _, p := range [][]byte{a, b, a} {
			if out := r.add(now, p); out != nil {
				unwrap(out)
				if len(r.wholes) > maxWholes {
					t.Errorf("%d wholes", len(r.wholes))
				}
			}
		}
	})
}
