package web

import (
	"encoding/csv"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"flexphone/storing-server/internal/store"
)

// A phone is given a name and labels on its page, which are shown, found and
// exported, and are no markup and no formula wherever they stand.
func TestNames(t *testing.T) {
	s, rows := serve(t, 3)
	u := login(t, s)
	const at = "/phones/02005e000001"
	const hostile = `<script>alert("1")</script>`
	csrf := u.csrf(at)
	if w := u.do("POST", at+"/name", url.Values{"csrf": {csrf}, "name": {hostile}, "labels": {`"><img src=x>, =cmd`}}); w.Code != http.StatusSeeOther {
		t.Fatalf("the form: %d %s", w.Code, w.Body)
	}
	if got := rows.Naming(mac(1)); got.Name != hostile || len(got.Labels) != 2 {
		t.Fatalf("kept: %+v", got)
	}
	for _, page := range []string{at, "/phones", "/phones?q=" + url.QueryEscape("=CMD"), "/phones?q=" + url.QueryEscape("alert(")} {
		text := u.do("GET", page, nil).Body.String()
		if strings.Contains(text, hostile) || strings.Contains(text, "<img") || !strings.Contains(text, "&lt;script&gt;") || !strings.Contains(text, "=cmd") {
			t.Errorf("%s: the name is not shown, or is markup: %s", page, text)
		}
	}
	for _, q := range []string{"nobody", "name:101", "name:02005e000001"} {
		if text := u.do("GET", "/phones?q="+q, nil).Body.String(); !strings.Contains(text, "Nobody is found") {
			t.Errorf("%q is found: %s", q, text)
		}
	}
	if _, err := rows.AddPhone(t.Context(), store.Phone{User: "porter"}); err != nil {
		t.Fatal(err)
	}
	if _, err := rows.Bind(t.Context(), store.UserMAC("porter"), store.Binding{Addr: netip.MustParseAddr("192.0.2.50"), Port: 5060}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if text := u.do("GET", "/phones?q=porter", nil).Body.String(); !strings.Contains(text, store.UserMAC("porter").String()) || strings.Contains(text, mac(1).String()) {
		t.Errorf("a SIP phone is not found by its user name: %s", text)
	}
	if err := rows.SetNaming(t.Context(), mac(2), store.Naming{Name: "=1+1", Labels: []string{"-2", "beef"}}); err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(u.do("GET", "/phones/export.csv?q=name:beef", nil).Body).ReadAll()
	if err != nil || len(all) != 2 {
		t.Fatalf("exported: %q, %v", all, err)
	}
	if n := len(all[0]); all[0][n-2] != "name" || all[1][n-2] != "'=1+1" || all[1][n-1] != "'-2, beef" {
		t.Errorf("exported: %q", all)
	}
	before := rows.Naming(mac(1))
	for _, form := range []url.Values{
		{"name": {strings.Repeat("x", store.MaxName+1)}}, {"name": {"a\x1b[2Jb"}}, {"labels": {strings.Repeat("a,b", store.MaxLabels) + strings.Repeat("y", store.MaxLabel)}},
	} {
		form.Set("csrf", csrf)
		u.do("POST", at+"/name", form)
		if text := u.do("GET", at, nil).Body.String(); !strings.Contains(text, "Not done") || strings.Contains(text, "\x1b") {
			t.Errorf("%q: the page says %s", form, text)
		}
	}
	if got := rows.Naming(mac(1)); got.Name != before.Name {
		t.Errorf("a name that was refused is kept: %+v", got)
	}
	if w := u.do("POST", at+"/name", url.Values{"name": {"x"}}); w.Code != http.StatusForbidden {
		t.Errorf("a form without its token: %d", w.Code)
	}
}
