package store

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flexphone/registry-client/wire"
)

func span(t testing.TB, s string) Span {
	t.Helper()
	sp, err := ParseSpan(s)
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

func TestParseSpan(t *testing.T) {
	for in, want := range map[string]string{
		"49": "49", "0": "0", "12345678": "12345678", "123456789": "", "": "", "4x": "", "-": "", "1-2": "",
		"02:00:5e:00:53:01":                   "02:00:5e:00:53:01",
		"02:00:5e:00:53:01-02:00:5e:00:53:01": "02:00:5e:00:53:01",
		"02:00:5e:00:53:01-02:00:5e:00:53:0a": "02:00:5e:00:53:01-02:00:5e:00:53:0a",
		"02:00:5e:00:53:0a-02:00:5e:00:53:01": "",
	} {
		got, err := ParseSpan(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("ParseSpan(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

// Of several spans the narrowest counts; a region outlives the server's restart, and so
// does its end.
func TestRegions(t *testing.T) {
	dir := t.TempDir()
	to := func(n int) wire.Referral {
		return wire.Referral{Server: fmt.Sprintf("r%d.example:5684", n), Key: wire.Fingerprint{byte(n + 1)}}
	}
	s := open(t, dir, func([]wire.Query) {})
	for i, sp := range []string{"02:00:00:00:00:00-02:ff:ff:ff:ff:ff", "02:00:00:00:00:00-02:00:00:00:00:ff", "02:00:00:00:00:07", "4", "49", "5"} {
		if err := s.SetRegion(t.Context(), span(t, sp), to(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetRegion(t.Context(), span(t, "5"), wire.Referral{}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRegion(t.Context(), span(t, "6"), wire.Referral{}); err == nil {
		t.Error("a region that was never set is removed")
	}
	if err := s.SetRegion(t.Context(), span(t, "6"), wire.Referral{Server: "x"}); err == nil {
		t.Error("a server without port and key is set")
	}
	check := func(s *Store) {
		t.Helper()
		for _, tt := range []struct {
			q    wire.Query
			want int // -1: nobody
		}{
			{wire.Query{MAC: wire.MAC{2, 0xff}}, 0}, {wire.Query{MAC: wire.MAC{2, 0, 0, 0, 0, 6}}, 1}, {wire.Query{MAC: wire.MAC{2, 0, 0, 0, 0, 7}}, 2},
			{wire.Query{MAC: wire.MAC{6}}, -1}, {wire.Query{Number: "481"}, 3}, {wire.Query{Number: "491"}, 4}, {wire.Query{Number: "591"}, -1}, {wire.Query{Number: "149"}, -1},
		} {
			got, ok := s.RegionOf(tt.q)
			if ok != (tt.want >= 0) || ok && got != to(tt.want) {
				t.Errorf("RegionOf(%v) = %v, %v; want %d", tt.q, got, ok, tt.want)
			}
		}
	}
	check(s)
	s.Close()
	s = open(t, dir, func([]wire.Query) {})
	defer s.Close()
	check(s)
}

// Stores that tell each other in any order, some things twice, agree in the end.
func TestRegionsAgree(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	all := make([]*Store, 3)
	for i := range all {
		all[i] = open(t, t.TempDir(), func([]wire.Query) {})
		defer all[i].Close()
	}
	spans := []string{"1", "2", "02:00:5e:00:53:01", "02:00:5e:00:53:01-02:00:5e:00:53:0a"}
	for range 40 {
		s := all[rng.IntN(len(all))]
		if rng.IntN(2) == 0 {
			to := wire.Referral{Server: fmt.Sprintf("r%d.example:1", rng.IntN(9)), Key: wire.Fingerprint{1}}
			if rng.IntN(4) == 0 {
				to = wire.Referral{} // may not be set, which is refused
			}
			_ = s.SetRegion(t.Context(), span(t, spans[rng.IntN(len(spans))]), to)
			continue
		}
		tell(t, all[rng.IntN(len(all))], s)
	}
	for range all { // who has news tells them on
		for _, from := range all {
			for _, to := range all {
				tell(t, from, to)
			}
		}
	}
	want := all[0].table.regionsNow().all
	if len(want) == 0 {
		t.Fatal("no region was set")
	}
	for _, s := range all[1:] {
		if got := s.table.regionsNow().all; !reflect.DeepEqual(got, want) {
			t.Errorf("one has %v, and another %v", got, want)
		}
	}
	if news, err := all[0].LearnRegions(t.Context(), want); news || err != nil {
		t.Errorf("LearnRegions() = %v, %v; want no news", news, err)
	}
}

// tell tells to what from has, as it goes over the wire.
func tell(t *testing.T, from, to *Store) {
	t.Helper()
	b, err := encodeRegions(from.table.regionsNow().all)
	if err != nil {
		t.Fatal(err)
	}
	told, err := decodeRegions(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.LearnRegions(t.Context(), told); err != nil {
		t.Fatal(err)
	}
}

func FuzzRegions(f *testing.F) {
	seed, err := encodeRegions([]Region{
		{Span: span(f, "49"), Referral: wire.Referral{Server: "a.example:1", Key: wire.Fingerprint{1}}, Changed: time.UnixMilli(5)},
		{Span: span(f, "02:00:5e:00:53:01-02:00:5e:00:53:0a"), Changed: time.UnixMilli(6)},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeRegions(b)
		if err != nil {
			return
		}
		out, err := encodeRegions(all)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeRegions(out); err != nil || len(again) != len(all) {
			t.Errorf("%v became %v, %v", all, again, err)
		}
	})
}

// What a lookup of another region costs, where there are as many as there may be.
func BenchmarkRegionOf(b *testing.B) {
	t := newTable()
	for n := range MaxRegions {
		r := Region{Span: Span{From: mac(2 * n), To: mac(2*n + 1)}, Referral: wire.Referral{Server: "r.example:5684", Key: key(1)}}
		data, err := cbor.Marshal(regionBody{Server: r.Server, Key: r.Key[:]})
		if err != nil {
			b.Fatal(err)
		}
		t.putNote(regionKey(r.Span), data, uint64(n+1))
	}
	s := &Store{table: t}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.RegionOf(wire.Query{MAC: wire.MAC{6}}); ok {
			b.Fatal("it belongs to nobody")
		}
	}
}
