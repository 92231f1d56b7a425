package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// A calledPage is what stands in for one whose page is open at /phone.
type calledPage struct {
	t      *testing.T
	site   string
	link   string // the query with its token
	cookie *http.Cookie
	events chan map[string]any // of its page; closed when that is
	close  func()
}

// newCalledPage loads the page of a link, and keeps what it is given.
func newCalledPage(t *testing.T, site, path string) *calledPage {
	t.Helper()
	resp, err := http.Get(site + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, query, _ := strings.Cut(path, "?")
	b := &calledPage{t: t, site: site, link: "?" + query}
	for _, c := range resp.Cookies() {
		if b.cookie = c; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.MaxAge < 3600 {
			t.Errorf("it is given %+v", c)
		}
	}
	if resp.StatusCode != http.StatusOK || b.cookie == nil {
		t.Fatalf("the page: %s, cookie %v", resp.Status, b.cookie)
	}
	return b
}

func (b *calledPage) do(ctx context.Context, method, path, body string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, b.site+path+b.link, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.AddCookie(b.cookie)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

// open has the browser called, and returns its number.
func (b *calledPage) open() (number string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	resp := b.do(ctx, http.MethodGet, "/phone/calls", "")
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("not called: %s", resp.Status)
	}
	events := make(chan map[string]any, 16)
	b.events = events
	b.close = func() {
		cancel()
		for range events {
		}
	}
	b.t.Cleanup(b.close)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			text, ok := strings.CutPrefix(lines.Text(), "data: ")
			if e := map[string]any(nil); ok && json.Unmarshal([]byte(text), &e) == nil {
				events <- e
			}
		}
	}()
	number, _ = b.hear("number")["number"].(string)
	return number
}

// hear waits for an event that has a field.
func (b *calledPage) hear(field string) map[string]any {
	b.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case e, ok := <-b.events:
			if !ok {
				b.t.Fatalf("the page hears no %s any more", field)
			}
			if e[field] != nil {
				return e
			}
		case <-late:
			b.t.Fatalf("the page hears no %s", field)
		}
	}
}

// answers sends an offer, or a refusal, and returns what comes back.
func (b *calledPage) answers(path, body string) (status int, text string) {
	b.t.Helper()
	resp := b.do(b.t.Context(), http.MethodPost, "/phone/calls/"+path, body)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(out))
}

var pageOffer = `{"offer":"v=0 of the page","nonce":"` + strings.Repeat("AAAA", 10) + `AAA="}`

// calls has a phone call a number, which is a browser's, and returns the link.
func calls(t *testing.T, phone *registry.Client, number, name string) net.Conn {
	t.Helper()
	row, err := phone.Resolve(t.Context(), wire.Query{Number: number})
	if err != nil || !wire.IsBrowser(row.MAC) || row.State != wire.Online || row.Name != name {
		t.Fatalf("%s is %+v, %v", number, row, err)
	}
	conn, err := phone.DialRelayed(t.Context(), row.MAC)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// serveCalled runs a server with pages and a phone, 101, and makes a link.
func serveCalled(t *testing.T) (p *process, dir, path string, phone *registry.Client) {
	t.Helper()
	dir = t.TempDir()
	p = serveFor(t, dir, "--http", "127.0.0.1:0")
	phone, _ = newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	return p, dir, strings.TrimSpace(command(t, "link", "new", "Ada", "--called", "--data", dir)), phone
}

// A phone calls the number of a browser, gets its offer, and the page gets the answer; the
// browser has the same number when it comes again, and is not called once it is closed.
func TestPhoneCallsBrowser(t *testing.T) {
	p, dir, path, phone := serveCalled(t)
	b := newCalledPage(t, p.http, path)
	number := b.open()
	if number != "102" {
		t.Errorf("its number is %q; want 102", number)
	}
	answer := wire.BrowserAnswer{Description: "v=0 of the phone", Key: []byte{1}, Signature: []byte{2}}
	conn := calls(t, phone, number, "Ada")
	e := b.hear("from")
	if key, _ := e["key"].(string); e["from"] != "101" || len(key) != 64 {
		t.Errorf("the page hears %v", e)
	}
	go func() {
		o, err := wire.ReadBrowserOffer(conn)
		if err == nil && (o.Name != "Ada" || o.Description != "v=0 of the page") {
			t.Errorf("the phone gets %+v", o)
		}
		if err == nil {
			err = wire.WriteBrowserAnswer(conn, answer)
		}
		if err != nil {
			t.Error(err)
		}
		conn.Close()
	}()
	call := e["call"].(string)
	if status, text := b.answers(call, pageOffer); status != http.StatusOK || text != `{"answer":"v=0 of the phone","key":"AQ==","signature":"Ag=="}` {
		t.Errorf("the page gets %d, %s", status, text)
	}
	if status, text := b.answers(call, pageOffer); status != http.StatusGone {
		t.Errorf("a second offer: %d, %s", status, text)
	}
	if rows := command(t, "rows", "--data", dir); !strings.Contains(rows, "browser: Ada") {
		t.Errorf("the rows are\n%s", rows)
	}

	// Each tab hears of it; one alone has it.
	other := &calledPage{t: t, site: b.site, link: b.link, cookie: b.cookie}
	if got := other.open(); got != number {
		t.Errorf("in another tab its number is %s", got)
	}
	conn = calls(t, phone, number, "Ada")
	call = b.hear("from")["call"].(string)
	if e := other.hear("from"); e["call"] != call {
		t.Errorf("the other tab hears %v", e)
	}
	if status, text := other.answers(call+"/refusal", `{"reason":"declined"}`); status != http.StatusOK {
		t.Errorf("declined: %d, %s", status, text)
	}
	if o, err := wire.ReadBrowserOffer(conn); err != nil || !reflect.DeepEqual(o, wire.BrowserOffer{Refusal: "declined"}) {
		t.Errorf("the phone gets %+v, %v", o, err)
	}
	conn.Close()
	if e := b.hear("over"); e["call"] != call {
		t.Errorf("the first tab hears %v", e)
	}
	other.close()

	// Who hangs up is heard of.
	conn = calls(t, phone, number, "Ada")
	call = b.hear("from")["call"].(string)
	conn.Close()
	if e := b.hear("over"); e["call"] != call {
		t.Errorf("the page hears %v", e)
	}

	// The page is closed while it rings.
	conn = calls(t, phone, number, "Ada")
	b.hear("from")
	b.close()
	if o, err := wire.ReadBrowserOffer(conn); err != nil || o.Refusal != "unreachable" {
		t.Errorf("the page is closed: %+v, %v", o, err)
	}
	conn.Close()
	until(t, "the row of a closed page", func() bool {
		row, err := phone.Resolve(t.Context(), wire.Query{Number: number})
		return err == nil && row.State == wire.Offline
	})
	row, err := phone.Resolve(t.Context(), wire.Query{Number: number})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := phone.DialRelayed(t.Context(), row.MAC); err == nil {
		conn.Close()
		t.Error("a closed page takes a link")
	}
	if got := b.open(); got != number {
		t.Errorf("when it comes again its number is %s; want %s", got, number)
	}
	if another := newCalledPage(t, p.http, path).open(); another == number {
		t.Errorf("another browser has %s as well", another)
	}
}

// A browser whose server is killed has its number again.
func TestBrowserAfterRestart(t *testing.T) {
	p, dir, path, _ := serveCalled(t)
	b := newCalledPage(t, p.http, path)
	number := b.open()
	p.kill()
	b.close()
	p = serveFor(t, dir, "--http", "127.0.0.1:0")
	phone, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(3))
	if _, err := phone.Register(t.Context(), announcement(phoneMAC(3), 1, "192.0.2.3")); err != nil {
		t.Fatal(err)
	}
	// Its row is online as it was, and there is nobody: that is told at once.
	row, err := phone.Resolve(t.Context(), wire.Query{Number: number})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := phone.DialRelayed(t.Context(), row.MAC); err == nil {
		conn.Close()
		t.Error("a page that is not there takes a link")
	}
	b.site = p.http
	if got := b.open(); got != number {
		t.Errorf("after a restart its number is %s; want %s", got, number)
	}
	calls(t, phone, number, "Ada")
	b.hear("from")
}

// A page at one server of a cluster is called by a phone whose session is with another.
func TestPhoneCallsBrowserInACluster(t *testing.T) {
	c := startCluster(t)
	dir := t.TempDir()
	near := serveFor(t, dir, "--nats", c.url, "--http", "127.0.0.1:0")
	far := serveFor(t, t.TempDir(), "--nats", c.url)
	phone, _ := newPhone(t, t.TempDir(), far.listen, phoneMAC(1))
	if _, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	b := newCalledPage(t, near.http, strings.TrimSpace(command(t, "link", "new", "Ada", "--called", "--data", dir)))
	number := b.open()
	until(t, "the rows", func() bool {
		row, err := phone.Resolve(t.Context(), wire.Query{Number: number})
		return err == nil && row.State == wire.Online && strings.Contains(command(t, "rows", "--data", dir), "192.0.2.1")
	})
	conn := calls(t, phone, number, "Ada")
	call := b.hear("from")["call"].(string)
	go func() {
		if _, err := wire.ReadBrowserOffer(conn); err != nil {
			t.Error(err)
		}
		if err := wire.WriteBrowserAnswer(conn, wire.BrowserAnswer{Description: "v=0", Key: []byte{1}, Signature: []byte{2}}); err != nil {
			t.Error(err)
		}
	}()
	if status, text := b.answers(call, pageOffer); status != http.StatusOK {
		t.Errorf("the page gets %d, %s", status, text)
	}
}

// A link for being called is no link for calling, and what makes no sense is refused.
func TestLinkForBeingCalled(t *testing.T) {
	dir := t.TempDir()
	serveFor(t, dir)
	out := command(t, "link", "new", "Ada", "--called", "--site", "https://phones.example", "--data", dir)
	if !strings.HasPrefix(out, "https://phones.example/phone?link=") {
		t.Errorf("it prints %q", out)
	}
	if listed := command(t, "link", "list", "--data", dir); !strings.Contains(listed, `"receives":true`) {
		t.Errorf("listed: %s", listed)
	}
	for _, args := range []string{"link new x --called --times=1", "link new x --called --number=101"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(args), "--data", dir), &out, &errs); code != exitUsage {
			t.Errorf("%s: exit %d: %s", args, code, errs.String())
		}
	}
}
