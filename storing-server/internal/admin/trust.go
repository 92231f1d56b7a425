package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// Trust is what the operator decides about single phones. store.Store and
// Client are Trust.
type Trust interface {
	ForgetKey(ctx context.Context, mac wire.MAC) error
	FreeNumber(ctx context.Context, digits string) error
	AddPhone(ctx context.Context, p store.Phone) (number string, err error)
	MakeToken(ctx context.Context, mac wire.MAC, valid time.Duration) (string, store.Token, error)
	RevokeToken(ctx context.Context, id string) error
}

// A Phone is a standard phone as JSON, without what is kept of its password.
type Phone struct {
	User   string   `json:"user"`
	MAC    wire.MAC `json:"mac"`
	Number string   `json:"number,omitempty"`
}

// A Token is an unused token as JSON. Text is there only when it is made.
type Token struct {
	ID      string    `json:"id"`
	MAC     *wire.MAC `json:"mac,omitempty"`
	Expires time.Time `json:"expires"`
	Text    string    `json:"token,omitempty"`
}

// PhoneOf returns p as JSON has it.
func PhoneOf(p store.Phone) Phone { return Phone{User: p.User, MAC: p.MAC, Number: p.Number} }

// TokenOf returns t as JSON has it.
func TokenOf(t store.Token, text string) Token {
	out := Token{ID: t.ID, Expires: t.Expires.UTC(), Text: text}
	if t.MAC != (wire.MAC{}) {
		out.MAC = &t.MAC
	}
	return out
}

// Bodies of requests.
type (
	phoneBody struct {
		User   string `json:"user"`
		MD5    []byte `json:"md5"`
		SHA256 []byte `json:"sha256"`
	}
	tokenBody struct {
		MAC     *wire.MAC `json:"mac,omitempty"`
		Seconds int64     `json:"seconds"`
	}
)

// maxBody bounds a request's body, in bytes.
const maxBody = 4096

// trustHandlers adds the requests of Trust.
func trustHandlers(mux *http.ServeMux, rows Lister) {
	mux.HandleFunc("DELETE /rows/{mac}/key", func(w http.ResponseWriter, r *http.Request) {
		mac, err := wire.ParseMAC(r.PathValue("mac"))
		if err == nil {
			err = rows.ForgetKey(r.Context(), mac)
		}
		answer(w, err)
	})
	mux.HandleFunc("DELETE /numbers/{digits}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, rows.FreeNumber(r.Context(), r.PathValue("digits")))
	})
	mux.HandleFunc("GET /phones", func(w http.ResponseWriter, r *http.Request) {
		var out []Phone
		for _, p := range rows.Phones() {
			out = append(out, PhoneOf(p))
		}
		show(w, out)
	})
	mux.HandleFunc("POST /phones", func(w http.ResponseWriter, r *http.Request) {
		var b phoneBody
		if !read(w, r, &b) {
			return
		}
		p := store.Phone{User: b.User, MAC: store.UserMAC(b.User), MD5: b.MD5, SHA256: b.SHA256}
		var err error
		if p.Number, err = rows.AddPhone(r.Context(), p); err != nil {
			answer(w, err)
			return
		}
		show(w, PhoneOf(p))
	})
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, r *http.Request) {
		var out []Token
		for _, t := range rows.Tokens() {
			out = append(out, TokenOf(t, ""))
		}
		show(w, out)
	})
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, r *http.Request) {
		var b tokenBody
		if !read(w, r, &b) {
			return
		}
		var mac wire.MAC
		if b.MAC != nil {
			mac = *b.MAC
		}
		text, t, err := rows.MakeToken(r.Context(), mac, time.Duration(b.Seconds)*time.Second)
		if err != nil {
			answer(w, err)
			return
		}
		show(w, TokenOf(t, text))
	})
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, rows.RevokeToken(r.Context(), r.PathValue("id")))
	})
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone does not want it
}

// ForgetKey implements Trust.
func (c *Client) ForgetKey(ctx context.Context, mac wire.MAC) error {
	return c.command(ctx, http.MethodDelete, "/rows/"+mac.Hex()+"/key", nil)
}

// FreeNumber implements Trust.
func (c *Client) FreeNumber(ctx context.Context, digits string) error {
	return c.command(ctx, http.MethodDelete, "/numbers/"+digits, nil)
}

// AddPhone implements Trust.
func (c *Client) AddPhone(ctx context.Context, p store.Phone) (number string, err error) {
	var out Phone
	err = c.exchange(ctx, http.MethodPost, "/phones", phoneBody{p.User, p.MD5, p.SHA256}, &out)
	return out.Number, err
}

// Phones returns all standard phones, ordered by user.
func (c *Client) Phones(ctx context.Context) (out []Phone, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/phones", nil, &out)
}

// MakeToken implements Trust.
func (c *Client) MakeToken(ctx context.Context, mac wire.MAC, valid time.Duration) (string, store.Token, error) {
	b := tokenBody{Seconds: int64(valid / time.Second)}
	if mac != (wire.MAC{}) {
		b.MAC = &mac
	}
	var out Token
	if err := c.exchange(ctx, http.MethodPost, "/tokens", b, &out); err != nil {
		return "", store.Token{}, err
	}
	return out.Text, store.Token{ID: out.ID, MAC: mac, Expires: out.Expires}, nil
}

// Tokens returns the unused tokens, the first to expire first.
func (c *Client) Tokens(ctx context.Context) (out []Token, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/tokens", nil, &out)
}

// RevokeToken implements Trust.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.command(ctx, http.MethodDelete, "/tokens/"+id, nil)
}

// send sends in as JSON, unless it is nil.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("admin: ask server: %w", err)
		}
	}
	return c.do(ctx, method, path, body)
}

// exchange is send that reads out.
func (c *Client) exchange(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(out); err != nil {
		return fmt.Errorf("admin: read answer: %w", err)
	}
	return nil
}
