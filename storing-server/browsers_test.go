package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/links"
)

// An offer of a page comes to the phone, and its answer back, byte for byte; the page of
// a phone that does not answer hears so in time.
func TestCallFromBrowser(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	_, two := twoPhones(t, s.addr)
	offer := wire.BrowserOffer{Name: "Ada", Description: strings.Repeat("an offer\r\n", 600), Nonce: wire.Nonce{1}}
	answer := wire.BrowserAnswer{Description: strings.Repeat("an answer\r\n", 600), Key: []byte("key"), Signature: bytes.Repeat([]byte{7}, 64)}
	took := make(chan wire.BrowserOffer, 1)
	go func() {
		defer close(took)
		conn, err := two.AcceptBrowser(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		got, err := wire.ReadBrowserOffer(conn)
		if err == nil {
			err = wire.WriteBrowserAnswer(conn, answer)
		}
		if err != nil {
			t.Error(err)
		}
		took <- got
	}()
	got, err := s.pages.Call(t.Context(), wire.MAC(phoneMAC(2)), offer)
	if err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("the page gets %d bytes, %v", len(got.Description), err)
	}
	if o := <-took; o != offer {
		t.Errorf("the phone gets the offer of %q, of %d bytes", o.Name, len(o.Description))
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.pages.Call(ctx, wire.MAC(phoneMAC(2)), offer); err == nil {
		t.Error("a phone that takes no calls from browsers has answered")
	}
	two.Close()
	if _, err := s.pages.Call(t.Context(), wire.MAC(phoneMAC(9)), offer); err == nil {
		t.Error("nobody has answered")
	}
}

// Pages have sound forwarded to where their phone is seen, and where its row says that it is;
// without a session, there alone.
func TestWherePhonesAre(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	_, two := twoPhones(t, s.addr)
	row, seen := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("127.0.0.1")
	if got := s.pages.where(wire.MAC(phoneMAC(2))); !slices.Equal(got, []netip.Addr{seen, row}) {
		t.Errorf("the phone is at %v; want %v, %v", got, seen, row)
	}
	two.Close()
	until(t, "its session to end", func() bool {
		return slices.Equal(s.pages.where(wire.MAC(phoneMAC(2))), []netip.Addr{row})
	})
	if got := s.pages.where(wire.MAC(phoneMAC(9))); len(got) > 0 {
		t.Errorf("a phone that there is not is at %v", got)
	}
}

// A phone cannot be a browser, and its key stands for none.
func TestBrowserKeys(t *testing.T) {
	m := wire.BrowserMAC([3]byte{1, 2, 3})
	if got, ok := links.BrowserOf(links.BrowserKey(m)); !ok || got != m {
		t.Errorf("the key of %v stands for %v, %v", m, got, ok)
	}
	if _, ok := links.BrowserOf(links.BrowserKey(wire.MAC{2, 0, 0x5e, 0, 0x53, 1})); ok {
		t.Error("a phone is a browser")
	}
	if _, ok := links.BrowserOf(wire.Fingerprint{1}); ok {
		t.Error("a hash is a browser")
	}
	r := wire.Registration(announcement(phoneMAC(1), 1, "192.0.2.1"))
	r.MAC = m
	if err := r.Validate(); err == nil {
		t.Error("a browser can be announced")
	}
}

// What the operator makes is listed and taken back.
func TestLinkCommand(t *testing.T) {
	dir := t.TempDir()
	serveFor(t, dir)
	out := command(t, "link", "new", "Ada", "--number", "101,102", "--times", "3", "--site", "https://phones.example/", "--data", dir)
	for i, line := range strings.Fields(out) {
		if want := "https://phones.example/call/" + []string{"101", "102"}[i] + "?link="; !strings.HasPrefix(line, want) {
			t.Errorf("it prints %q; want %s…", line, want)
		}
	}
	listed := command(t, "link", "list", "--json", "--data", dir)
	if !strings.Contains(listed, `"name":"Ada","numbers":["101","102"],"times":3,"used":0`) {
		t.Errorf("listed: %s", listed)
	}
	id := strings.Split(listed, `"`)[3]
	command(t, "link", "revoke", id, "--data", dir)
	if listed := command(t, "link", "list", "--data", dir); listed != "" {
		t.Errorf("after its revocation: %s", listed)
	}
	for _, args := range []string{"link new x --valid=-1h", "link new x --site=nowhere"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(args), "--data", dir), &out, &errs); code != exitUsage {
			t.Errorf("%s: exit %d: %s", args, code, errs.String())
		}
	}
}

// A page at one server of a cluster calls a phone whose session is with another, which tells as
// what the phone is seen: TURN forwards there.
func TestCallFromBrowserInACluster(t *testing.T) {
	c := startCluster(t)
	dir := t.TempDir()
	near := serveFor(t, dir, "--nats", c.url, "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0")
	far := serveFor(t, t.TempDir(), "--nats", c.url)
	phone, _ := newPhone(t, t.TempDir(), far.listen, phoneMAC(1))
	receipt, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := phone.AcceptBrowser(t.Context())
		if err != nil {
			return // the test says why
		}
		defer conn.Close()
		o, err := wire.ReadBrowserOffer(conn)
		if err == nil {
			err = wire.WriteBrowserAnswer(conn, wire.BrowserAnswer{Description: o.Name + " " + o.Description, Key: []byte{1}, Signature: []byte{2}})
		}
		if err != nil {
			t.Error(err)
		}
	}()
	path := strings.TrimSpace(command(t, "link", "new", "Ada", "--number", receipt.Number, "--data", dir))
	var text []byte
	until(t, "the row", func() bool {
		resp, err := http.Post(near.http+path, "application/json", strings.NewReader(`{"offer":"v=0","nonce":"`+strings.Repeat("AAAA", 10)+`AAA="}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	if !strings.Contains(string(text), `"answer":"Ada v=0"`) {
		t.Errorf("the page gets %s", text)
	}

	resp, err := http.Get(near.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(string(text), `data-relay-name="`)
	name, _, _ = strings.Cut(name, `"`)
	where, err := base64.RawURLEncoding.DecodeString(name[strings.LastIndex(name, ":")+1:])
	if seen := netip.MustParseAddr("127.0.0.1").AsSlice(); err != nil || !bytes.HasSuffix(where, seen) {
		t.Errorf("the page has the name %q, of %x: %v", name, where, err)
	}
}
