package web

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// description is the API's, in OpenAPI 3.1.
//
//go:embed assets/openapi.json
var description []byte

// changeMost bounds the wait for the disk.
const changeMost = 15 * time.Second

// eventStream is the type of server-sent events.
const eventStream = "text/event-stream"

// A route of the API. What it returns is sent as JSON; nil: there is nothing to
// say.
type route struct {
	pattern string
	role    store.Role // the least that may; empty: of GET read, else everything
	answer  func(*Server, context.Context, *http.Request) (any, error)
	// live says which rows an answer may come to change with; nil: it is not
	// followed.
	live func(r *http.Request, answer any) (first, last wire.MAC)
}

var apiRoutes = []route{
	{pattern: "GET /api/v1/server", answer: (*Server).apiServer},
	{pattern: "GET /api/v1/phones", answer: (*Server).apiPhones, live: rowsShown},
	{pattern: "GET /api/v1/phones/{mac}", answer: (*Server).apiPhone, live: rowAsked},
	{pattern: "DELETE /api/v1/phones/{mac}", answer: (*Server).apiForget},
	{pattern: "DELETE /api/v1/phones/{mac}/key", answer: (*Server).apiForgetKey},
	{pattern: "PUT /api/v1/phones/{mac}/number", role: store.RoleNumbers, answer: (*Server).apiSetNumber},
	{pattern: "PUT /api/v1/phones/{mac}/name", answer: (*Server).apiSetName},
	{pattern: "DELETE /api/v1/numbers/{number}/rest", role: store.RoleNumbers, answer: (*Server).apiFreeNumber},
	{pattern: "GET /api/v1/tokens", answer: (*Server).apiTokens},
	{pattern: "POST /api/v1/tokens", answer: (*Server).apiMakeToken},
	{pattern: "DELETE /api/v1/tokens/{id}", answer: (*Server).apiRevokeToken},
	{pattern: "GET /api/v1/waiting", answer: (*Server).apiWaiting},
	{pattern: "PUT /api/v1/waiting/{mac}/approval", answer: (*Server).apiApprove},
	{pattern: "GET /api/v1/accounts", answer: (*Server).apiAccounts},
	{pattern: "POST /api/v1/accounts", answer: (*Server).apiAddAccount},
	{pattern: "DELETE /api/v1/accounts/{user}", answer: (*Server).apiRemoveAccount},
}

// needs returns the least role that may take a route.
func (r route) needs() store.Role {
	switch {
	case r.role != "":
		return r.role
	case strings.HasPrefix(r.pattern, http.MethodGet+" "):
		return store.RoleRead
	}
	return store.RoleAll
}

// An apiError is a refusal with its status.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

// api adds the routes of the API.
func (s *Server) api(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(description) // who has gone does not want it
	})
	for _, r := range apiRoutes {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { s.serveAPI(w, req, r) })
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		sendProblem(w, &apiError{http.StatusNotFound, "no such resource, or it has no such method: see /api/openapi.json"})
	})
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, to route) {
	token, ok := s.authorized(r)
	if !ok {
		if from := s.sourceOf(r); s.audited(from) {
			s.audit(EventAPIRefused, from, "")
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		sendProblem(w, &apiError{http.StatusUnauthorized, "want an API token: 'storing-server api-token new NAME' makes one"})
		return
	}
	if need := to.needs(); !token.Role.May(need) {
		sendProblem(w, &apiError{http.StatusForbidden, fmt.Sprintf("this token may %s: the role %s is wanted", token.Role, need)})
		return
	}
	if to.live != nil && strings.Contains(r.Header.Get("Accept"), eventStream) {
		s.follow(w, r, to)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeMost)
	defer cancel()
	out, err := to.answer(s, store.By(ctx, "api-token "+token.ID), r)
	switch {
	case err != nil:
		sendProblem(w, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		status := http.StatusOK
		if r.Method == http.MethodPost {
			status = http.StatusCreated
		}
		send(w, status, "application/json", out)
	}
}

// authorized returns the token of the API that a request carries; ok is false
// when it carries none.
func (s *Server) authorized(r *http.Request) (t store.APIToken, ok bool) {
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return t, false
	}
	return s.o.Rows.APIToken(sha256.Sum256([]byte(strings.TrimSpace(text))))
}

// follow sends the answer of a route again whenever it has changed, to a
// program that accepts events.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, to route) {
	if sel, err := selectionOf(r.URL.Query().Get("q")); err == nil && sel.Slow() {
		sendProblem(w, bad("q: a search for a key, a state or a name looks at all rows, and is not repeated"))
		return
	}
	answer := func() (any, error) {
		ctx, cancel := context.WithTimeout(r.Context(), changeMost)
		defer cancel()
		return to.answer(s, ctx, r)
	}
	out, err := answer()
	if err != nil {
		sendProblem(w, err)
		return
	}
	first, last := to.live(r, out)
	s.stream(w, r, first, last, func() bool { _, ok := s.authorized(r); return ok }, func() ([]byte, error) {
		out, err := answer()
		if err != nil {
			out = problemOf(err) // a phone that was forgotten
		}
		return json.Marshal(out)
	})
}

func send(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who has gone does not want it
}

// statusOf says what a refusal means to a program.
func statusOf(err error) int {
	var e *apiError
	var refusal *store.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e.status
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &refusal) && refusal.Reason == wire.ReasonUnknown, errors.Is(err, store.ErrNoToken):
		return http.StatusNotFound
	case errors.Is(err, wire.ErrInvalid), errors.Is(err, ErrName), errors.Is(err, errSearch):
		return http.StatusBadRequest
	case errors.Is(err, store.ErrNumberTaken), errors.Is(err, store.ErrNumberRests), errors.Is(err, store.ErrOwned):
		return http.StatusConflict
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// A problem is an error as RFC 9457 has it.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func problemOf(err error) problem {
	status := statusOf(err)
	return problem{http.StatusText(status), status, err.Error()}
}

func sendProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	send(w, p.Status, "application/problem+json", p)
}

func bad(format string, v ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, v...)}
}

// readBody reads a JSON body, which has nothing that is not known.
func readBody(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return err
		}
		return bad("read body: %v", err)
	}
	return nil
}

func pathMAC(r *http.Request) (wire.MAC, error) {
	m, err := wire.ParseMAC(r.PathValue("mac"))
	if err != nil {
		return m, bad("%v", err)
	}
	return m, nil
}
