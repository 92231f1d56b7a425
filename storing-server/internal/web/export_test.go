package web

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"flexphone/registry-client/wire"
)

// Rows are filtered by their state, alone and with what else is searched for,
// and exported as they are filtered.
func TestStatesAndExport(t *testing.T) {
	const n = exportRows + 20
	s, rows := serve(t, 5)
	for i := 5; i < n; i++ {
		register(t, rows, i+1, 1, "198.51.100.1")
	}
	for _, i := range []int{2, 4} {
		if err := rows.Release(t.Context(), wire.Fingerprint{byte(i)}, wire.Withdrawal{MAC: mac(i), Sequence: 9}); err != nil {
			t.Fatal(err)
		}
	}
	u := login(t, s)
	export := func(q string) (macs []string) {
		t.Helper()
		w := u.do("GET", "/phones/export.csv?"+url.Values{"q": {q}}.Encode(), nil)
		all, err := csv.NewReader(w.Body).ReadAll()
		if err != nil || w.Code != http.StatusOK || len(all) == 0 || all[0][0] != "mac" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/csv") {
			t.Fatalf("export of %q: %d, %v, %v", q, w.Code, err, w.Header())
		}
		for _, one := range all[1:] {
			macs = append(macs, one[0])
		}
		return macs
	}
	two, four := mac(2).String(), mac(4).String()
	for q, want := range map[string][]string{
		"offline": {two, four}, "offline 101": {}, "offline 102": {two}, "online 102": {}, "online 101": {mac(1).String()},
		"offline " + mac(4).Hex(): {four}, "online 192.0.2.3": {mac(3).String()}, "offline 192.0.2.3": {}, "online 192.0.2.99": {},
	} {
		if got := export(q); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%q: exported %q; want %q", q, got, want)
		}
		page := u.do("GET", "/phones?"+url.Values{"q": {q}}.Encode(), nil).Body.String()
		for _, m := range []string{mac(1).String(), two, mac(3).String(), four} {
			if got := strings.Contains(page, m); got != slices.Contains(want, m) {
				t.Errorf("%q: %s is on the page: %v", q, m, got)
			}
		}
	}
	if got := export(""); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("exported %d rows; want %d, in their order", len(got), n)
	}
	if got := export("online"); len(got) != n-2 {
		t.Errorf("exported %d rows that are online; want %d", len(got), n-2)
	}
	for _, q := range []string{"online offline", "online online 101", "offline ???"} {
		if w := u.do("GET", "/phones/export.csv?"+url.Values{"q": {q}}.Encode(), nil); w.Code != http.StatusBadRequest {
			t.Errorf("export of %q: %d; want 400", q, w.Code)
		}
	}
	if w := (&user{t: t, s: s}).do("GET", "/phones/export.csv", nil); w.Code != http.StatusSeeOther {
		t.Errorf("export without a login: %d", w.Code)
	}
}
