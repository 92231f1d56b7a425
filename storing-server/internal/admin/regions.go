package admin

import (
	"context"
	"net/http"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// Regions is who keeps which rows, where there are several. store.Store and Client are
// Regions.
type Regions interface {
	SetRegion(ctx context.Context, span store.Span, to wire.Referral) error
}

// A Region is a span and its server as JSON.
type Region struct {
	Of      string           `json:"of"`
	Server  string           `json:"server"`
	Key     wire.Fingerprint `json:"key"`
	Changed time.Time        `json:"changed"`
}

// RegionsOf returns regions as JSON has them.
func RegionsOf(all []store.Region) (out []Region) {
	for _, r := range all {
		out = append(out, Region{r.Span.String(), r.Server, r.Key, r.Changed.UTC()})
	}
	return out
}

type referralBody struct {
	Server string           `json:"server"`
	Key    wire.Fingerprint `json:"key"`
}

// regionHandlers adds the requests of Regions.
func regionHandlers(mux *http.ServeMux, rows Lister) {
	mux.HandleFunc("GET /regions", func(w http.ResponseWriter, _ *http.Request) { show(w, RegionsOf(rows.Regions())) })
	mux.HandleFunc("PUT /regions/{span}", func(w http.ResponseWriter, r *http.Request) {
		var b referralBody
		if !read(w, r, &b) {
			return
		}
		span, err := store.ParseSpan(r.PathValue("span"))
		if err == nil {
			err = rows.SetRegion(r.Context(), span, wire.Referral(b))
		}
		answer(w, err)
	})
}

// SetRegion implements Regions.
func (c *Client) SetRegion(ctx context.Context, span store.Span, to wire.Referral) error {
	resp, err := c.send(ctx, http.MethodPut, "/regions/"+span.String(), referralBody(to))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Regions returns who keeps which rows, narrower spans first.
func (c *Client) Regions(ctx context.Context) (out []Region, err error) {
	return out, c.exchange(ctx, http.MethodGet, "/regions", nil, &out)
}
