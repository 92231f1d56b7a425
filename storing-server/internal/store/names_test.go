package store

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flexphone/registry-client/wire"
)

// What a phone is called is kept over a restart and in a backup, by either
// engine, and goes with the row.
func TestNames(t *testing.T) {
	for name, openAt := range map[string]func(*testing.T, string) (*Store, error){
		"journal": func(t *testing.T, dir string) (*Store, error) {
			return Open(t.Context(), Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
		},
		"streams": func(t *testing.T, dir string) (*Store, error) { return openParts(t, dir, 4) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := openAt(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			for n := 1; n <= 3; n++ {
				if _, _, err := s.Register(ctx, key(1), registration(n, 1, "192.0.2.1")); err != nil {
					t.Fatal(err)
				}
			}
			for n, naming := range map[int]Naming{
				1: {Name: "  Zoë's desk ", Labels: []string{"floor 2", "", " Sales ", "floor 2"}}, 2: {Name: "Lobby"}, 3: {Labels: []string{"sales"}},
			} {
				if err := s.SetNaming(ctx, mac(n), naming); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.SetNaming(ctx, mac(9), Naming{Name: "x"}); err == nil {
				t.Error("a phone that there is not has a name")
			}
			if err := s.SetNaming(ctx, mac(2), Naming{}); err != nil {
				t.Fatal(err)
			}
			check := func(s *Store) {
				t.Helper()
				if got := s.Naming(mac(1)); got.Name != "Zoë's desk" || !slices.Equal(got.Labels, []string{"Sales", "floor 2"}) {
					t.Errorf("the phone is called %+v", got)
				}
				if got := s.Naming(mac(2)); got.Name != "" || got.Labels != nil {
					t.Errorf("the name that was taken away is %+v", got)
				}
				for text, want := range map[string][]wire.MAC{
					"ZOË": {mac(1)}, "desk": {mac(1)}, "sales": {mac(1), mac(3)}, "sale": nil, "floor 2": {mac(1)}, "lobby": nil,
				} {
					rows, _, err := s.Page(ctx, Selection{Text: text}, wire.MAC{}, false, 10)
					var got []wire.MAC
					for _, r := range rows {
						got = append(got, r.MAC)
					}
					if err != nil || !slices.Equal(got, want) {
						t.Errorf("%q finds %v, %v; want %v", text, got, err, want)
					}
				}
			}
			check(s)
			var backup bytes.Buffer
			if _, err := s.Backup(ctx, &backup); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if s, err = openAt(t, dir); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			check(s)
			if err := s.Forget(ctx, mac(1)); err != nil {
				t.Fatal(err)
			}
			if got := s.Naming(mac(1)); got.Name != "" || got.Labels != nil {
				t.Errorf("a phone that was forgotten is called %+v", got)
			}
			other := t.TempDir()
			if _, err := Restore(ctx, other, bytes.NewReader(backup.Bytes())); err != nil {
				t.Fatal(err)
			}
			restored, err := Open(ctx, Options{Dir: other, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer restored.Close()
			check(restored)
		})
	}
}

// Names and labels are bounded, and can be printed.
func TestNameBounds(t *testing.T) {
	var nine []string
	for n := range 9 {
		nine = append(nine, strconv.Itoa(n))
	}
	for _, n := range []Naming{
		{Name: strings.Repeat("é", MaxName+1)}, {Name: "a\nb"}, {Name: "\x1b[2J"}, {Name: "a\u202eb"}, {Name: "a\u200bb"}, {Name: "\xff"}, {Name: "a\x00"},
		{Labels: []string{strings.Repeat("x", MaxLabel+1)}}, {Labels: []string{"a,b"}}, {Labels: []string{"a\tb"}}, {Labels: nine},
	} {
		if got, err := n.Clean(); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%+q is taken as %+q, %v", n, got, err)
		}
	}
	for _, n := range []Naming{{}, {Name: strings.Repeat("é", MaxName), Labels: nine[:8]}, {Name: `<b>&"'`}, {Name: "电话 2", Labels: []string{strings.Repeat("x", MaxLabel)}}} {
		if _, err := n.Clean(); err != nil {
			t.Errorf("%+q: %v", n, err)
		}
	}
}
