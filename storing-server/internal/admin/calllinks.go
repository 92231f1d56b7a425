package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"flexphone/storing-server/internal/store"
)

// CallLinks are the links by which people call phones from browsers. store.Store and
// Client are CallLinks.
type CallLinks interface {
	AddCallLink(ctx context.Context, h store.CallLinkHash, l store.CallLink) (store.CallLink, error)
	RevokeCallLink(ctx context.Context, id string) error
}

// A CallLink is a link for calls as JSON.
type CallLink struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Numbers []string  `json:"numbers,omitempty"` // none: all
	Times   int       `json:"times,omitempty"`   // none: any number
	Used    int       `json:"used"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires,omitzero"`
	// Receives: it is for being called in a browser, and calls nobody.
	Receives bool `json:"receives,omitempty"`
}

// CallLinksOf returns links as JSON has them.
func CallLinksOf(all []store.CallLink) (out []CallLink) {
	for _, l := range all {
		l.Made, l.Expires = l.Made.UTC(), l.Expires.UTC()
		out = append(out, CallLink(l))
	}
	return out
}

type callLinkBody struct {
	Hash []byte `json:"hash"`
	CallLink
}

// callLinkHandlers adds the requests of CallLinks.
func callLinkHandlers(mux *http.ServeMux, rows Lister) {
	mux.HandleFunc("GET /call-links", func(w http.ResponseWriter, _ *http.Request) { show(w, CallLinksOf(rows.CallLinks())) })
	mux.HandleFunc("POST /call-links", func(w http.ResponseWriter, r *http.Request) {
		var b callLinkBody
		if !read(w, r, &b) {
			return
		}
		var h store.CallLinkHash
		if len(b.Hash) != len(h) {
			http.Error(w, "hash of another length", http.StatusBadRequest)
			return
		}
		copy(h[:], b.Hash)
		l, err := rows.AddCallLink(r.Context(), h, store.CallLink(b.CallLink))
		if err != nil {
			answer(w, err)
			return
		}
		show(w, CallLink(l))
	})
	mux.HandleFunc("DELETE /call-links/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, rows.RevokeCallLink(r.Context(), r.PathValue("id")))
	})
}

// AddCallLink implements CallLinks.
func (c *Client) AddCallLink(ctx context.Context, h store.CallLinkHash, l store.CallLink) (store.CallLink, error) {
	var out CallLink
	err := c.exchange(ctx, http.MethodPost, "/call-links", callLinkBody{h[:], CallLink(l)}, &out)
	return store.CallLink(out), err
}

// CallLinks returns all links, in the order of their making.
func (c *Client) CallLinks(ctx context.Context) (out []CallLink, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/call-links", nil, &out)
}

// RevokeCallLink implements CallLinks.
func (c *Client) RevokeCallLink(ctx context.Context, id string) error {
	return c.command(ctx, http.MethodDelete, "/call-links/"+url.PathEscape(id), nil)
}
