package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/trust"
)

// Who waits is shown on the page Enrolment, and let in there by a button.
func TestWaitingPage(t *testing.T) {
	s, rows := serve(t, 1)
	u := login(t, s)
	if text := u.do("GET", "/enrolment", nil).Body.String(); strings.Contains(text, "that wait") {
		t.Errorf("where nobody is waited for: %s", text)
	}
	s.o.Waiting = trust.NewWaiting(nil)
	key := wire.Fingerprint{7}
	s.o.Waiting.Ask(mac(7), key, netip.MustParseAddr("192.0.2.7"), time.Now())
	s.o.Waiting.Ask(mac(1), key, netip.MustParseAddr("192.0.2.1"), time.Now()) // has an owner
	text := u.do("GET", "/enrolment", nil).Body.String()
	for _, want := range []string{mac(7).String(), key.String(), "192.0.2.7", `action="/waiting/02005e000007/approve"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on %s", want, text)
		}
	}
	csrf := u.csrf("/enrolment")
	press := func(path, key, says string) {
		t.Helper()
		if w := u.do("POST", path, url.Values{"csrf": {csrf}, "fingerprint": {key}}); w.Code != http.StatusSeeOther {
			t.Errorf("%s: %d", path, w.Code)
		}
		if text := u.do("GET", "/enrolment", nil).Body.String(); !strings.Contains(text, says) {
			t.Errorf("%s %q: no %q in %s", path, key, says, text)
		}
	}
	press("/waiting/x/approve", key.String(), "Not done")
	press("/waiting/02005e000007/approve", "x", "Not done")
	press("/waiting/02005e000001/approve", key.String(), "Not done: let in 02:00:5e:00:00:01")
	press("/waiting/02005e000007/approve", key.String(), "may enrol when it asks again")
	if all := s.o.Waiting.List(time.Now()); len(all) != 1 || all[0].MAC != mac(1) {
		t.Errorf("waiting: %+v", all)
	}
	if err := rows.Approve(t.Context(), mac(7), key); err != nil {
		t.Error(err)
	}
}
