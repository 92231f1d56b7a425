package mac

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	m := Address{2, 0, 0x5e, 0, 0x53, 1}
	for _, tt := range []struct{ name, got, want string }{
		{"String", m.String(), "02:00:5e:00:53:01"},
		{"Hex", m.Hex(), "02005e005301"},
		{"Digits", m.Digits(), "002200600335105"},
		{"URN", m.URN(), "urn:dev:mac:02005effff005301"},
		{"largest", Address{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}.Digits(), "280375465082879"},
		{"smallest", Address{0, 0, 0, 0, 0, 1}.Digits(), "000000000000001"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %q; want %q", tt.name, tt.got, tt.want)
		}
	}
	for _, s := range []string{"02:00:5e:00:53:01", "02-00-5E-00-53-01", "02005E005301"} {
		if got, err := Parse(s); err != nil || got != m {
			t.Errorf("Parse(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "02:00-5e:00:53:01", "zz:00:5e:00:53:01",
		"03:00:5e:00:53:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:00:5e:00:5301x", strings.Repeat("0", 100)} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v; want an error", s, got)
		}
	}
	for _, s := range []string{"", "101", "281474976710656", "999999999999999", "00220060033510x", "0022006003351050", "281474976710655", "000000000000000"} {
		if got, err := ParseDigits(s); err == nil {
			t.Errorf("ParseDigits(%q) = %v; want an error", s, got)
		}
	}
	if got, err := ParseURN("urn:dev:mac:02005efffe005301"); err != nil || got != m {
		t.Errorf("ParseURN with fffe = %v, %v", got, err)
	}
	text, err := json.Marshal(map[string]Address{"mac": m})
	if err != nil || string(text) != `{"mac":"02:00:5e:00:53:01"}` {
		t.Errorf("JSON = %s, %v", text, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"02:00:5e:00:53:01", "02-00-5E-00-53-01", "02005e005301", "002200600335105", "urn:dev:mac:02005effff005301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Address, error){Parse, ParseDigits, ParseURN} {
			m, err := parse(s)
			if err != nil {
				continue
			}
			if a, err := Parse(m.String()); err != nil || a != m {
				t.Errorf("%v: %v, %v", m, a, err)
			}
			if a, err := ParseDigits(m.Digits()); err != nil || a != m {
				t.Errorf("%v: %v, %v", m, a, err)
			}
			if a, err := ParseURN(m.URN()); err != nil || a != m {
				t.Errorf("%v: %v, %v", m, a, err)
			}
		}
	})
}
