package sipcheck_test

import (
	"strings"
	"testing"

	"flexphone/internal/sipcheck"
)

// TestPlace: a URI in its parts, and what is none.
func TestPlace(t *testing.T) {
	for uri, want := range map[string]sipcheck.Place{
		"sip:101@192.0.2.1":                  {Scheme: "sip", User: "101", Host: "192.0.2.1"},
		"SIPS:%3101:pw@[2001:db8::1]:5071?x": {Scheme: "sips", User: "%3101", Password: "pw", Host: "2001:db8::1", Port: 5071, Headers: true},
		"sip:host.example.net;transport=tcp": {Scheme: "sip", Host: "host.example.net"},
	} {
		got, ok := sipcheck.ReadPlace(uri)
		if !ok || got.Scheme != want.Scheme || got.User != want.User || got.Password != want.Password || got.Host != want.Host || got.Port != want.Port || got.Headers != want.Headers {
			t.Errorf("%s: %+v, %t", uri, got, ok)
		}
		if transport, has := got.Param("transport"); has != strings.Contains(uri, "tcp") || has && transport != "tcp" {
			t.Errorf("%s: transport %q, %t", uri, transport, has)
		}
	}
	if p, _ := sipcheck.ReadPlace("sip:%31%301@192.0.2.1"); p.PlainUser() != "101" {
		t.Errorf("user %q", p.PlainUser())
	}
	for _, uri := range []string{"tel:101", "sip:", "sip:@192.0.2.1", "sip:a@192.0.2.1:0", "sip:a%zz@192.0.2.1", "sip:a b@192.0.2.1", "<sip:a@192.0.2.1>", "*"} {
		if p, ok := sipcheck.ReadPlace(uri); ok {
			t.Errorf("%s is %+v", uri, p)
		}
	}
}

// TestContact: what a registrar reads of a Contact, in either of its forms.
func TestContact(t *testing.T) {
	for _, value := range []string{
		`"x, y" <SIP:a@192.0.2.1;Transport=tcp>;Expires=60;q=0.5`, `<sip:a@192.0.2.1;transport=tcp> ; expires = 60`,
	} {
		c, ok := sipcheck.ReadContact(value)
		expires, _ := c.Param("expires")
		if !ok || c.URI != "sip:a@192.0.2.1;transport=tcp" || expires != "60" {
			t.Errorf("%s: %+v, %t", value, c, ok)
		}
	}
	if c, ok := sipcheck.ReadContact("sip:a@192.0.2.1;expires=60"); !ok || c.URI != "sip:a@192.0.2.1" {
		t.Errorf("without brackets: %+v, %t", c, ok)
	}
	if c, ok := sipcheck.ReadContact("*"); ok {
		t.Errorf("* is %+v", c)
	}
}

// TestCircles: a request that comes by the same place again, or by too many.
func TestCircles(t *testing.T) {
	via := func(host, branch string) string { return "Via: SIP/2.0/UDP " + host + ";branch=" + branch + "\r\n" }
	for vias, want := range map[string]bool{
		via("192.0.2.1", "z9hG4bKa"):                                                        false,
		via("192.0.2.1", "z9hG4bKa") + via("192.0.2.1", "z9hG4bKb"):                         false,
		via("192.0.2.1", "z9hG4bKa") + via("192.0.2.2", "z9hG4bKa"):                         false,
		via("A.example", "z9hG4bKa") + via("192.0.2.2", "x") + via("a.Example", "z9hG4bKa"): true,
		strings.Repeat("Via: SIP/2.0/UDP 192.0.2.1\r\n", 70):                                false,
		strings.Repeat("Via: SIP/2.0/UDP 192.0.2.1\r\n", 71):                                true,
	} {
		m, err := sipcheck.Read([]byte(invite(strings.TrimSuffix(vias, "\r\n"))))
		if err != nil || m.Circles() != want {
			t.Errorf("%.120q: circles %t, %v", vias, m.Circles(), err)
		}
	}
}
