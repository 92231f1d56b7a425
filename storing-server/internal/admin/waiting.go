package admin

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// A Waiter is a phone that waits to be let in, as JSON.
type Waiter struct {
	MAC   wire.MAC         `json:"mac"`
	Key   wire.Fingerprint `json:"fingerprint"`
	From  netip.Addr       `json:"addr"`
	Since time.Time        `json:"since"`
	Last  time.Time        `json:"last"`
}

// WaitersOf returns who waits as JSON has it.
func WaitersOf(all []trust.Waiter) []Waiter {
	out := []Waiter{}
	for _, x := range all {
		x.Since, x.Last = x.Since.UTC().Truncate(time.Second), x.Last.UTC().Truncate(time.Second)
		out = append(out, Waiter(x))
	}
	return out
}

// An Approver keeps whom the operator lets in. store.Store is one.
type Approver interface {
	Approve(ctx context.Context, mac wire.MAC, key wire.Fingerprint) error
}

// Approve lets a phone in, which waits no more.
func Approve(ctx context.Context, rows Approver, waiting *trust.Waiting, mac wire.MAC, key wire.Fingerprint) error {
	if err := rows.Approve(ctx, mac, key); err != nil {
		return err
	}
	waiting.Drop(mac, key)
	return nil
}

var _ Approver = (*store.Store)(nil)

// waitingHandlers adds the requests about who waits.
func waitingHandlers(mux *http.ServeMux, rows Approver, waiting *trust.Waiting) {
	mux.HandleFunc("GET /waiting", func(w http.ResponseWriter, _ *http.Request) { show(w, WaitersOf(waiting.List(time.Now()))) })
	mux.HandleFunc("PUT /waiting/{mac}/{key}", func(w http.ResponseWriter, r *http.Request) {
		mac, err := wire.ParseMAC(r.PathValue("mac"))
		var key wire.Fingerprint
		if err == nil {
			key, err = wire.ParseFingerprint(r.PathValue("key"))
		}
		if err == nil {
			err = Approve(r.Context(), rows, waiting, mac, key)
		}
		answer(w, err)
	})
}

// Waiting returns who waits, the first to come first.
func (c *Client) Waiting(ctx context.Context) (out []Waiter, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/waiting", nil, &out)
}

// Approve lets a phone in.
func (c *Client) Approve(ctx context.Context, mac wire.MAC, key wire.Fingerprint) error {
	return c.command(ctx, http.MethodPut, "/waiting/"+mac.Hex()+"/"+key.String(), nil)
}
