package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := Parse(`
board = "host"
keypad = "simulated"
interface = "eth0"
data = "/data"
[audio]
backend = "wav"
capture = "spoken.wav"
[address]
source = "static"
prefix = "192.0.2.9/24"
router = "192.0.2.1"
`)
	want := Config{
		Board: "host", Keypad: "simulated", Interface: "eth0", Data: "/data", Control: "/run/flexphone/control.sock",
		Audio:   Audio{Backend: "wav", Capture: "spoken.wav"},
		Address: Address{Source: "static", Conflict: "fast", Prefix: netip.MustParsePrefix("192.0.2.9/24"), Router: netip.MustParseAddr("192.0.2.1")},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Parse() = %+v, %v\nwant %+v", got, err, want)
	}
}

func TestMistakesNameTheirPlace(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "board = \"host\"\ninterfaec = \"eth0\"\n", `line 2: unknown setting "interfaec"`},
		{"unknown key in a table", "data = \"/d\"\n\n[audio]\nbackend = \"wav\"\nrate = 8000\n", `line 5: unknown setting "audio.rate"`},
		{"key of another table", "[address]\nsource = \"dhcp\"\nbackend = \"wav\"\n", `line 3: unknown setting "address.backend"`},
		{"unknown table", "board = \"host\"\n[sound]\nbackend = \"wav\"\n", `line 2: unknown setting "sound"`},
		{"syntax", "board = \"host\"\ninterface = \n", "line 2"},
		{"wrong type", "board = 7\n", "line 1"},
		{"wrong backend", "[audio]\nbackend = \"oss\"\n", "portaudio"},
		{"wrong source", "[address]\nsource = \"ppp\"\n", `"watch"`},
		{"static without prefix", "[address]\nsource = \"static\"\n", "prefix"},
		{"prefix without static", "[address]\nprefix = \"192.0.2.9/24\"\n", "static"},
		{"with and without IPv4", "[address]\nlink_local = true\nonly_ipv6 = true\n", "only_ipv6"},
		{"link without watch", "[address]\nlink = \"ppp0\"\n", "watch"},
		{"vlan", "[address]\nvlan = \"4095\"\n", "4094"},
		{"conflict", "[address]\nconflict = \"none\"\n", `"full"`},
		{"the same interface twice", "interface = \"eth0\"\nfallback_interface = \"eth0\"\n", "another"},
		{"no prefix", "[address]\nsource = \"static\"\nprefix = \"192.0.2.9\"\n", "192.0.2.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse() error = %v; want one with %q", err, tt.want)
			}
		})
	}
}

// What is said to be known is what there is, table by table.
func TestKnownSettings(t *testing.T) {
	var names []string
	add := func(table reflect.Type, prefix string) {
		for f := range table.Fields() {
			if f.Type != reflect.TypeFor[Audio]() && f.Type != reflect.TypeFor[Address]() {
				names = append(names, prefix+f.Tag.Get("toml"))
				prefix = ""
			}
		}
	}
	add(reflect.TypeFor[Config](), "")
	add(reflect.TypeFor[Audio](), "[audio] ")
	add(reflect.TypeFor[Address](), "[address] ")
	if got := strings.Join(names, ", "); got != known {
		t.Errorf("there are %s\nknown are %s", got, known)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("board = \"host\"\n[address]\nsource = \"static\"\nprefix = \"192.0.2.9/24\"\n")
	f.Add("[[audio]]\na.b = 1")
	f.Add("a=1\n\"x.y\".z = 2 # c")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err == nil && c.check() != nil {
			t.Errorf("Parse() took settings that are wrong: %+v", c)
		}
	})
}
