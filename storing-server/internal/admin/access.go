package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"flexphone/storing-server/internal/store"
)

// Access is who may log in and use the API. store.Store and Client are Access.
type Access interface {
	SetPassword(ctx context.Context, role store.Role, hash string, expires time.Time) error
	AddAPIToken(ctx context.Context, h store.APITokenHash, t store.APIToken) (store.APIToken, error)
	RevokeAPIToken(ctx context.Context, id string) error
}

// An APIToken is a token of the API as JSON.
type APIToken struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Made    time.Time  `json:"made"`
	Role    store.Role `json:"role"`
	Expires time.Time  `json:"expires,omitzero"`
}

// APITokensOf returns tokens as JSON has them.
func APITokensOf(all []store.APIToken) (out []APIToken) {
	for _, t := range all {
		t.Made, t.Expires = t.Made.UTC(), t.Expires.UTC()
		out = append(out, APIToken(t))
	}
	return out
}

type apiTokenBody struct {
	Hash []byte `json:"hash"`
	Name string `json:"name"`
	// As APIToken has them.
	Role    store.Role `json:"role,omitempty"`
	Expires time.Time  `json:"expires,omitzero"`
}

// accessHandlers adds the requests of Access.
func accessHandlers(mux *http.ServeMux, rows Lister) {
	mux.HandleFunc("PUT /passwords/{role}", func(w http.ResponseWriter, r *http.Request) {
		hash, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var expires time.Time
		if text := r.URL.Query().Get("expires"); err == nil && text != "" {
			expires, err = time.Parse(time.RFC3339, text)
		}
		if err == nil {
			err = rows.SetPassword(r.Context(), store.Role(r.PathValue("role")), string(hash), expires)
		}
		answer(w, err)
	})
	mux.HandleFunc("GET /api-tokens", func(w http.ResponseWriter, _ *http.Request) { show(w, APITokensOf(rows.APITokens())) })
	mux.HandleFunc("POST /api-tokens", func(w http.ResponseWriter, r *http.Request) {
		var b apiTokenBody
		if !read(w, r, &b) {
			return
		}
		var h store.APITokenHash
		if len(b.Hash) != len(h) {
			http.Error(w, "hash of another length", http.StatusBadRequest)
			return
		}
		copy(h[:], b.Hash)
		t, err := rows.AddAPIToken(r.Context(), h, store.APIToken{Name: b.Name, Role: b.Role, Expires: b.Expires})
		if err != nil {
			answer(w, err)
			return
		}
		show(w, APIToken(t))
	})
	mux.HandleFunc("DELETE /api-tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, rows.RevokeAPIToken(r.Context(), r.PathValue("id")))
	})
}

// SetPassword implements Access.
func (c *Client) SetPassword(ctx context.Context, role store.Role, hash string, expires time.Time) error {
	path := "/passwords/" + string(role)
	if !expires.IsZero() {
		path += "?expires=" + url.QueryEscape(expires.UTC().Format(time.RFC3339))
	}
	return c.command(ctx, http.MethodPut, path, []byte(hash))
}

// AddAPIToken implements Access.
func (c *Client) AddAPIToken(ctx context.Context, h store.APITokenHash, t store.APIToken) (store.APIToken, error) {
	var out APIToken
	err := c.exchange(ctx, http.MethodPost, "/api-tokens", apiTokenBody{h[:], t.Name, t.Role, t.Expires}, &out)
	return store.APIToken(out), err
}

// APITokens returns all tokens of the API, in the order of their making.
func (c *Client) APITokens(ctx context.Context) (out []APIToken, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/api-tokens", nil, &out)
}

// RevokeAPIToken implements Access.
func (c *Client) RevokeAPIToken(ctx context.Context, id string) error {
	return c.command(ctx, http.MethodDelete, "/api-tokens/"+id, nil)
}
