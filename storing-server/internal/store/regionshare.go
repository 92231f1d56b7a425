package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/nats-io/nats.go"
)

// Clusters whose NATS servers are joined by leaf nodes tell each other their regions
// over a subject of core NATS, each the whole of them: when they have changed, when a
// connection is made again, to whoever has told older ones, and now and then. Their rows
// stay apart: of JetStream nothing is asked between them, and what its streams take,
// flexphone.> and flexphone-links.>, is denied on the way. Gateways would make their streams one (docs/scale.md).

const (
	regionsSubject = "flexphone-regions" // no stream takes it
	// regionsEach is how often a server tells them without a reason, for what was lost.
	regionsEach = 5 * time.Minute
	// regionsPause is between two tellings, for those who differ at once.
	regionsPause = time.Second
)

type sharedRegion struct {
	Span   string     `cbor:"1,keyasint"`
	Region regionBody `cbor:"2,keyasint"`
}

func encodeRegions(all []Region) ([]byte, error) {
	out := make([]sharedRegion, len(all))
	for i, r := range all {
		out[i] = sharedRegion{r.Span.String(), regionBody{Server: r.Server, Changed: r.Changed.UnixMilli()}}
		if !r.gone() {
			out[i].Region.Key = r.Key[:]
		}
	}
	b, err := cbor.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("store: encode regions: %w", err)
	}
	return b, nil
}

// decodeRegions reads what encodeRegions wrote. One that cannot be used spoils all:
// they come from a server of ours.
func decodeRegions(b []byte) ([]Region, error) {
	var in []sharedRegion
	if err := decoder().Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("store: decode regions: %w", err)
	}
	if len(in) > MaxRegions {
		return nil, fmt.Errorf("store: decode regions: %d of them, want at most %d", len(in), MaxRegions)
	}
	var out []Region
	for _, one := range in {
		span, err := ParseSpan(one.Span)
		if err != nil {
			return nil, fmt.Errorf("store: decode regions: %w", err)
		}
		r := Region{Span: span, Changed: time.UnixMilli(one.Region.Changed)}
		r.Server = one.Region.Server
		copy(r.Key[:], one.Region.Key)
		if !r.gone() {
			if err := r.Referral.Validate(); err != nil {
				return nil, fmt.Errorf("store: decode regions: %v: %w", span, err)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// shareRegions tells other clusters of the regions, and learns from them, until ctx is
// done.
func (s *Store) shareRegions(ctx context.Context, st *stream) {
	told := make(chan *nats.Msg, 16)
	subscription, err := st.conn.ChanSubscribe(regionsSubject, told)
	if err != nil {
		s.opts.Log.Warn("regions are not shared with other clusters", "err", err)
		return
	}
	defer func() { _ = subscription.Unsubscribe() }() // of a connection that may be closed
	again := make(chan struct{}, 1)
	st.conn.SetReconnectHandler(func(*nats.Conn) {
		select {
		case again <- struct{}{}:
		default:
		}
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	soon := func() { timer.Reset(max(0, regionsPause-time.Since(last)) + rand.N(regionsPause/4)) }
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-told:
			theirs, err := decodeRegions(m.Data)
			if err == nil {
				var news bool
				if news, err = s.LearnRegions(By(ctx, "another cluster"), theirs); news {
					soon()
				}
			}
			if err != nil && ctx.Err() == nil {
				s.opts.Log.Warn("regions that another server tells are not taken", "err", err)
			}
		case <-s.regionsChanged:
			soon()
		case <-again:
			soon()
		case <-timer.C:
			last = time.Now()
			timer.Reset(regionsEach/2 + rand.N(regionsEach))
			b, err := encodeRegions(s.table.regionsNow().all)
			if err == nil {
				err = st.conn.Publish(regionsSubject, b)
			}
			if err != nil {
				s.opts.Log.Debug("regions not told", "err", err)
			}
		}
	}
}
