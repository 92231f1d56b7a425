package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
`, nil)
	want := Config{
		Board: "host", Keypad: "simulated", Interface: "eth0", Data: "/data", Control: "/run/flexphone/control.sock", Relayed: "anybody",
		Audio:   Audio{Backend: "wav", Capture: "spoken.wav", Volume: 6},
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
		{"wrong type in a table", "[audio]\n\nbackend = 7\n", "line 3: audio.backend"},
		{"no table", "data = \"/d\"\naudio = 5\n", "line 2: audio: want a table"},
		{"a list of tables", "[[audio]]\nbackend = \"wav\"\n", "line 1: audio: want a table"},
		{"a table for a value", "[board]\nname = \"host\"\n", "line 1: board"},
		{"a value that a check refuses", "data = \"/d\"\nboard = \"hosst\"\n", `line 2: board = "hosst": no such board`},
		{"a blank in a name", "interface = \"eth 1\"\n", "line 1: interface"},
		{"a long name", "fallback_interface = \"a234567890123456\"\n", "ip link"},
		{"wrong backend", "[audio]\nbackend = \"oss\"\n", "line 2: [audio] backend"},
		{"wrong mode", "[audio]\nmode = \"loud\"\n", `"hands-free"`},
		{"wrong volume", "[audio]\nvolume = 11\n", "0 to 10"},
		{"wrong source", "[address]\nsource = \"ppp\"\n", `"watch"`},
		{"static without prefix", "[address]\nsource = \"static\"\n", "prefix"},
		{"prefix without static", "[address]\nprefix = \"192.0.2.9/24\"\n", "static"},
		{"with and without IPv4", "[address]\nlink_local = true\nonly_ipv6 = true\n", "only_ipv6"},
		{"link without watch", "[address]\nlink = \"ppp0\"\n", "watch"},
		{"vlan", "[address]\nvlan = \"4095\"\n", "4094"},
		{"whose relayed calls", "relayed = \"nobody\"\n", `"known"`},
		{"conflict", "[address]\nconflict = \"none\"\n", `"full"`},
		{"the same interface twice", "interface = \"eth0\"\nfallback_interface = \"eth0\"\n", "another"},
		{"no prefix", "[address]\nsource = \"static\"\nprefix = \"192.0.2.9\"\n", "192.0.2.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text, checks)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse() error = %v; want one with %q", err, tt.want)
			}
		})
	}
}

var checks = Checks{"board": func(name string) error {
	if name != "host" {
		return errors.New("no such board")
	}
	return nil
}}

// What cannot be used comes from the fallback, value by value; a file that is no
// TOML as a whole.
func TestOver(t *testing.T) {
	base := Default()
	base.Board, base.Interface, base.Data = "host", "eth0", "/data"
	type values struct{ board, ifname, data, source, vlan string }
	all := values{"host", "eth0", "/data", "dhcp", ""}
	for _, tt := range []struct {
		name, text string
		want       values
		says       []string
	}{
		{"right settings", "interface = \"eth1\"\n", values{"host", "eth1", "/data", "dhcp", ""}, nil},
		{"a blank behind a name", "interface = \"eth1 \"\n", values{"host", "eth1", "/data", "dhcp", ""}, nil},
		{"a board that does not exist", "board = \"hosst\"\ndata = \"/d\"\n", values{"host", "eth0", "/d", "dhcp", ""}, []string{"line 1: board"}},
		{"no TOML", "data = \"/d\"\nboa\x00rd = ", all, []string{"line 2"}},
		{"an unknown key", "bord = 7\ndata = \"/d\"\n", values{"host", "eth0", "/d", "dhcp", ""}, []string{"line 1: unknown"}},
		{"a wrong type", "data = 7\n[address]\nvlan = 8\nsource = \"watch\"\n", values{"host", "eth0", "/data", "watch", ""}, []string{"line 1: data", "line 3: address.vlan"}},
		{"no interface", "interface = \"eth/1\"\n", all, []string{"line 1: interface"}},
		{"static without prefix", "[address]\nsource = \"static\"\nrouter = \"192.0.2.1\"\nvlan = \"7\"\n", values{"host", "eth0", "/data", "dhcp", "7"}, []string{"line 2", "prefix"}},
		{"three at once", "board = \"x\"\ncontrol = \"\"\n[address]\nvlan = \"4096\"\n", all, []string{"line 1", "line 2", "line 4"}},
	} {
		path := filepath.Join(t.TempDir(), "phone.toml")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Over(base, path, checks)
		if got := (values{c.Board, c.Interface, c.Data, c.Address.Source, c.Address.VLAN}); got != tt.want {
			t.Errorf("%s: %+v; want %+v", tt.name, got, tt.want)
		}
		if (err != nil) != (tt.says != nil) {
			t.Errorf("%s: Over() = %v", tt.name, err)
		}
		for _, s := range tt.says {
			if !strings.Contains(fmt.Sprint(err), s) || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("%s: %v; want it to say %q", tt.name, err, s)
			}
		}
		if r, wrong := c.wrong(checks); wrong {
			t.Errorf("%s: still wrong: %v", tt.name, r.err)
		}
	}
	if c, err := Over(base, "/nonexistent.toml", checks); err == nil || !reflect.DeepEqual(c, base) {
		t.Errorf("no file: %+v, %v", c, err)
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
		c, err := Parse(text, nil)
		if r, wrong := c.wrong(nil); err == nil && wrong {
			t.Errorf("Parse() took settings that are wrong: %+v: %v", c, r.err)
		}
		c, problems, err := read(text, Default(), nil)
		if r, wrong := c.wrong(nil); wrong {
			t.Errorf("%d problems and %v left one: %+v: %v", len(problems), err, c, r.err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%v: there is no such line", p)
			}
		}
	})
}
