package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/quality"
	"flexphone/storing-server/internal/trust"
)

// The API is what its description says: it has these routes and no others, and
// gives answers that are as described.
func TestDescription(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("OpenAPI %s: %v", doc.OpenAPI, err)
	}
	var described, real []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	for _, r := range apiRoutes {
		real = append(real, r.pattern)
	}
	slices.Sort(described)
	slices.Sort(real)
	if !slices.Equal(described, real) {
		t.Errorf("described are %q;\nthere are %q", described, real)
	}
	paths, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, 3)
	token, _ := newToken(t, s, "test")
	seen := map[string]bool{}
	ask := func(method, path, body string, status int, texts ...string) string {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		found, params, err := paths.FindRoute(r)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		in := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: params, Route: found,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
		}
		// What is right is right by the description, and what is refused as
		// malformed is wrong by it.
		wrong := openapi3filter.ValidateRequest(t.Context(), in)
		if (wrong == nil) != (status != http.StatusBadRequest) {
			t.Errorf("%s %s %s: the description says %v, want %d", method, path, body, wrong, status)
		}
		r.Body = io.NopCloser(strings.NewReader(body))
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%s %s %s: %d %s; want %d", method, path, body, w.Code, w.Body, status)
		}
		for _, text := range texts {
			if !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s %s: no %q in %s", method, path, text, w.Body)
			}
		}
		answer := (&openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: w.Code, Header: w.Header(), Options: in.Options}).SetBodyBytes(w.Body.Bytes())
		if err := openapi3filter.ValidateResponse(t.Context(), answer); err != nil {
			t.Errorf("%s %s: the answer is not as described: %v", method, path, err)
		}
		if status < 300 {
			seen[routeOf(found)] = true
		}
		return w.Body.String()
	}
	register(t, s.o.Rows, 1, 2, "2001:db8::1")
	ask("GET", "/api/v1/server", "", 200, `"rows":3`)
	ask("GET", "/api/v1/phones?limit=2", "", 200, `"next":"02:00:5e:00:00:02"`)
	ask("GET", "/api/v1/phones?after=02:00:5e:00:00:02&limit=2", "", 200, `02:00:5e:00:00:03`)
	ask("GET", "/api/v1/phones?q=102", "", 200, `"number":"102"`)
	ask("GET", "/api/v1/phones?q=999", "", 200, `"phones":[]`)
	ask("GET", "/api/v1/phones?limit=1001", "", 400)
	ask("GET", "/api/v1/phones?after=me", "", 400)
	ask("GET", "/api/v1/phones/02-00-5e-00-00-01", "", 200, `"history":[{"addrs":["2001:db8::1"]`, `{"addrs":["192.0.2.1"]`, `"until"`)
	s.o.Calls = func(m wire.MAC) ([]quality.Call, quality.Ways) {
		if m != mac(1) {
			return nil, quality.Ways{}
		}
		return []quality.Call{{Heard: wire.Heard{Opinion: 341, Lost: 102, Delay: 75 * time.Millisecond, Jitter: 3 * time.Millisecond, Length: 61 * time.Second, Way: wire.WayPunched}, Told: time.Unix(1000, 5)}}, quality.Ways{0, 7, 8, 9}
	}
	ask("GET", "/api/v1/phones/02005e000001", "", 200, `"calls":[{"told":"1970-01-01T00:16:40Z","mos":3.41,"lost_percent":10.2,"delay_ms":75,"jitter_ms":3,"seconds":61,"way":"punched"}]`, `"ways":{"direct":7,"punched":8,"relayed":9,"unknown":0}`)
	if d := ask("GET", "/api/v1/phones/02005e000002", "", 200); strings.Contains(d, `"calls"`) {
		t.Errorf("calls of a phone that has told of none: %s", d)
	}
	ask("GET", "/api/v1/phones/02005e0000ff", "", 404)
	ask("GET", "/api/v1/phones/me", "", 400)
	ask("PUT", "/api/v1/phones/02005e000001/number", `{"number":"555"}`, 204)
	ask("PUT", "/api/v1/phones/02005e000001/number", `{"number":"5"}`, 400)
	ask("PUT", "/api/v1/phones/02005e000001/number", `{"number":"556","x":1}`, 400)
	ask("PUT", "/api/v1/phones/02005e000001/name", `{"name":"Zoë","labels":["lobby","2"]}`, 204)
	ask("GET", "/api/v1/phones/02005e000001", "", 200, `"name":"Zoë","labels":["2","lobby"]`)
	ask("GET", "/api/v1/phones?q=name:lobby", "", 200, `"name":"Zoë"`)
	ask("PUT", "/api/v1/phones/02005e000001/name", `{}`, 204)
	ask("PUT", "/api/v1/phones/02005e0000ff/name", `{"name":"x"}`, 404)
	for _, body := range []string{`{"name":"a\nb"}`, `{"name":"` + strings.Repeat("x", 65) + `"}`, `{"labels":["a,b"]}`, `{"labels":"x"}`, `{"x":1}`} {
		ask("PUT", "/api/v1/phones/02005e000001/name", body, 400)
	}
	ask("PUT", "/api/v1/phones/02005e000002/number", `{"number":"555"}`, 409, "02:00:5e:00:00:01 has it")
	ask("PUT", "/api/v1/phones/02005e000002/number", `{"number":"101"}`, 409, "rests")
	ask("DELETE", "/api/v1/numbers/101/rest", "", 204)
	ask("PUT", "/api/v1/phones/02005e000002/number", `{"number":"101"}`, 204)
	ask("DELETE", "/api/v1/phones/02005e000002/key", "", 204)
	ask("DELETE", "/api/v1/phones/02005e0000ff/key", "", 404)
	ask("DELETE", "/api/v1/phones/02005e000003", "", 204)
	ask("DELETE", "/api/v1/phones/02005e000003", "", 404)
	made := ask("POST", "/api/v1/tokens", `{"mac":"02:00:5e:00:00:09","seconds":60}`, 201, `"token":"`)
	ask("POST", "/api/v1/tokens", `{"seconds":0}`, 400)
	id := regexp.MustCompile(`"id":"(\w+)"`).FindStringSubmatch(made)[1]
	ask("GET", "/api/v1/tokens", "", 200, id)
	ask("DELETE", "/api/v1/tokens/"+id, "", 204)
	ask("DELETE", "/api/v1/tokens/"+id, "", 404)
	ask("GET", "/api/v1/waiting", "", 200, `"waiting":[]`)
	s.o.Waiting = trust.NewWaiting(nil)
	s.o.Waiting.Ask(mac(9), wire.Fingerprint{9}, netip.MustParseAddr("192.0.2.9"), time.Now())
	ask("GET", "/api/v1/waiting", "", 200, `"mac":"02:00:5e:00:00:09"`, wire.Fingerprint{9}.String(), `"addr":"192.0.2.9"`)
	ask("PUT", "/api/v1/waiting/02005e000009/approval", `{"fingerprint":"`+wire.Fingerprint{9}.String()+`"}`, 204)
	ask("GET", "/api/v1/waiting", "", 200, `"waiting":[]`)
	ask("PUT", "/api/v1/waiting/02005e000009/approval", `{"fingerprint":"9"}`, 400)
	ask("PUT", "/api/v1/waiting/02005e000009/approval", `{}`, 400)
	ask("PUT", "/api/v1/waiting/02005e000001/approval", `{"fingerprint":"`+wire.Fingerprint{9}.String()+`"}`, 409)
	ask("POST", "/api/v1/accounts", `{"user":"lobby"}`, 201, `"password":"`, `"number":"`)
	ask("POST", "/api/v1/accounts", `{"user":"300","password":"given"}`, 201, `"number":"300"`)
	ask("POST", "/api/v1/accounts", `{"user":""}`, 400)
	ask("POST", "/api/v1/accounts", `{"user":"02:00:5e:00:00:01"}`, 409)
	ask("GET", "/api/v1/accounts", "", 200, `"user":"lobby"`, `"user":"300"`)
	ask("DELETE", "/api/v1/accounts/lobby", "", 204)
	ask("DELETE", "/api/v1/accounts/lobby", "", 404)
	token = "fp_wrong"
	ask("GET", "/api/v1/server", "", 401)
	for _, r := range real {
		if !seen[r] {
			t.Errorf("%s was not tried", r)
		}
	}
}

func routeOf(r *routers.Route) string { return r.Method + " " + r.Path }
