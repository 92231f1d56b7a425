package web

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// A follower reads server-sent events.
type follower struct {
	t     testing.TB
	body  io.Reader
	lines *bufio.Scanner
}

// follow opens the stream at path, with headers in pairs, until the test ends.
func follow(t testing.TB, s *Server, path string, head ...string) *follower {
	t.Helper()
	site := httptest.NewServer(s.handler)
	t.Cleanup(site.Close)
	req, err := http.NewRequestWithContext(t.Context(), "GET", site.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); kind != eventStream {
		t.Fatalf("%s: %s, %s", path, resp.Status, kind)
	}
	return &follower{t, resp.Body, bufio.NewScanner(resp.Body)}
}

// next reads events until one has the text, or has it no more.
func (f *follower) next(text string, there bool) {
	f.t.Helper()
	for {
		var event strings.Builder
		for f.lines.Scan() && f.lines.Text() != "" {
			event.WriteString(f.lines.Text())
		}
		if event.Len() == 0 {
			f.t.Fatalf("the stream has ended before %q: %v", text, f.lines.Err())
		}
		if strings.Contains(event.String(), text) == there {
			return
		}
	}
}

// moves has the phone register twice, and forgets it, while it is followed.
func (f *follower) moves(rows *store.Store, n int, gone string) {
	f.t.Helper()
	register(f.t, rows, n, 10, "192.0.2.77")
	f.next("192.0.2.77", true)
	register(f.t, rows, n, 11, "192.0.2.78")
	f.next("192.0.2.78", true)
	if err := rows.Forget(f.t.Context(), mac(n)); err != nil {
		f.t.Fatal(err)
	}
	if gone != "" {
		f.next(gone, true)
		return
	}
	f.next("192.0.2.78", false)
}

// An open page is told of its rows.
func TestLive(t *testing.T) {
	s, rows := serve(t, 2)
	u := login(t, s)
	page := follow(t, s, "/phones/live", "Cookie", u.cookie.String())
	page.next("192.0.2.1", true)
	page.moves(rows, 3, "")
	close(s.ending)
	if rest, err := io.ReadAll(page.body); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// Programs follow a page of rows, or one, in the form that they ask in.
func TestLiveAPI(t *testing.T) {
	s, rows := serve(t, 3)
	token, id := newToken(t, s, "follower")
	head := []string{"Accept", eventStream, "Authorization", "Bearer " + token}
	all := follow(t, s, "/api/v1/phones?limit=100", head...)
	all.next(`"addrs":["192.0.2.1"]`, true)
	few := follow(t, s, "/api/v1/phones?limit=1&after="+mac(1).String(), head...)
	few.next(`"mac":"`+mac(2).String(), true)
	one := follow(t, s, "/api/v1/phones/"+mac(2).String(), head...)
	one.next(`"history":[{"addrs":["192.0.2.2"]`, true)

	register(t, rows, 2, 9, "192.0.2.99")
	for _, f := range []*follower{all, few, one} {
		f.next("192.0.2.99", true)
	}
	one.moves(rows, 2, `"status":404`)
	few.next(mac(3).String(), true) // which stands there now
	all.moves(rows, 4, "")

	refused := func(status int, path string) {
		t.Helper()
		if w := (&user{t: t, s: s}).do("GET", path, nil, head...); w.Code != status {
			t.Errorf("%s: %d %s; want %d", path, w.Code, w.Body, status)
		}
	}
	refused(http.StatusNotFound, "/api/v1/phones/"+mac(9).String())
	refused(http.StatusBadRequest, "/api/v1/phones?limit=0")
	refused(http.StatusBadRequest, "/api/v1/phones?q=name:lobby")
	refused(http.StatusBadRequest, "/api/v1/phones?q="+(wire.Fingerprint{1}).String())
	if err := rows.RevokeAPIToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	refused(http.StatusUnauthorized, "/api/v1/phones")
}
