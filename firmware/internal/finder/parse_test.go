package finder

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text, want string // servers, "!" behind one that is sure
		wrong      int    // how many words are left out
		foreign    bool
	}{
		{text: "10.77.0.1", want: "10.77.0.1:5684"},
		{text: "10.77.0.1:99", want: "10.77.0.1:99"},
		{text: " 10.77.0.1 ", want: "10.77.0.1:5684"},
		{text: "10.77.0.1:5684\x00\x00", want: "10.77.0.1:5684"},
		{text: "10.77.0.1\r\n", want: "10.77.0.1:5684"},
		{text: `"10.77.0.1"`, want: "10.77.0.1:5684"},
		{text: "10.77.0.1,10.77.0.2", want: "10.77.0.1:5684 10.77.0.2:5684"},
		{text: "a.example, b.example;c.example\td.example", want: "a.example:5684 b.example:5684 c.example:5684 d.example:5684"},
		{text: "a.example a.example", want: "a.example:5684"},
		{text: "coaps://10.77.0.1:5684", want: "10.77.0.1:5684!"},
		{text: "COAPS://10.77.0.1:5684/", want: "10.77.0.1:5684!"},
		{text: "coaps://store.example/rd?x=1", want: "store.example:5684!"},
		{text: "coaps://[2001:db8::2]:99", want: "[2001:db8::2]:99!"},
		{text: "coaps://[2001:db8::2]", want: "[2001:db8::2]:5684!"},
		{text: "2001:db8::2", want: "[2001:db8::2]:5684"},
		{text: "[2001:db8::2]", want: "[2001:db8::2]:5684"},
		{text: "[2001:db8::2]:7", want: "[2001:db8::2]:7"},
		{text: "::ffff:192.0.2.1", want: "192.0.2.1:5684"},
		{text: "Store.Corp.Example.", want: "store.corp.example:5684"},
		{text: "store_1.corp.example", want: "store_1.corp.example:5684"},
		{text: "store", want: "store:5684"},
		{text: "tftp://10.77.0.9/phones", wrong: 1, foreign: true},
		{text: "http://10.77.0.9:80/cfg/", wrong: 1, foreign: true},
		{text: "https://prov.example/$MAC.xml coaps://store.example", want: "store.example:5684!", wrong: 1, foreign: true},
		{text: "coap://store.example", wrong: 1, foreign: true},
		{text: "10.77.0.9/phones", wrong: 1, foreign: true},
		{text: "/tftpboot", wrong: 1, foreign: true},
		{text: "10.77.0.1:99999", wrong: 1},
		{text: "10.77.0.1:", wrong: 1},
		{text: "store.example:http", wrong: 1},
		{text: "store.example:0", wrong: 1},
		{text: "0.0.0.0", wrong: 1},
		{text: "255.255.255.255", wrong: 1},
		{text: "224.0.0.1", wrong: 1},
		{text: "10.77.0", wrong: 1},
		{text: "10.77.0.256", wrong: 1},
		{text: "[10.77.0.1]", wrong: 1},
		{text: "[2001:db8::2", wrong: 1},
		{text: "fe80::1%eth0.20", want: "[fe80::1%eth0.20]:5684"},
		{text: "::%]0", wrong: 1},
		{text: "büro.example", wrong: 1},
		{text: "a..example", wrong: 1},
		{text: "$(reboot)", wrong: 1},
		{text: strings.Repeat("a.", 127) + "example", wrong: 1},
		{text: "", wrong: 1},
		{text: " \x00,", wrong: 1},
	} {
		servers, err := Parse(tt.text)
		var got []string
		for _, s := range servers {
			text := s.Address
			if s.Sure {
				text += "!"
			}
			got = append(got, text)
		}
		wrong := 0
		if err != nil {
			wrong = len(err.(interface{ Unwrap() []error }).Unwrap())
		}
		if strings.Join(got, " ") != tt.want || wrong != tt.wrong || errors.Is(err, ErrForeign) != tt.foreign {
			t.Errorf("Parse(%q) = %q, %v; want %q, %d wrong, foreign %v", tt.text, got, err, tt.want, tt.wrong, tt.foreign)
		}
	}
	many, err := Parse(strings.Repeat("a.example,", 3) + strings.Join(strings.Split("abcdefghijkl", ""), ","))
	if err != nil || len(many) != maxServers {
		t.Errorf("%d servers, %v; want %d", len(many), err, maxServers)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"10.77.0.1", "coaps://[2001:db8::2]:99/x", "a, b\x00", `"h:1";tftp://x/y`, "[::1]%", "1.2.3.4:5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := Parse(text)
		if len(servers) == 0 && err == nil || len(servers) > maxServers {
			t.Errorf("Parse(%q) = %v, %v", text, servers, err)
		}
		for _, s := range servers {
			host, port, err := net.SplitHostPort(s.Address)
			if err != nil || host == "" || port == "" {
				t.Errorf("Parse(%q) gives %q: %v", text, s.Address, err)
			}
			again, err := Parse(s.Address)
			if err != nil || len(again) != 1 || again[0].Address != s.Address {
				t.Errorf("Parse(%q) = %v, %v; want the same", s.Address, again, err)
			}
		}
	})
}
