package directory

import (
	"errors"
	"time"

	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/pairs"
)

// pair gives who owns a row a pass for the relay. It is not logged.
func (d *Directory) pair(r exchange.Request) exchange.Response {
	own, ok := d.rows.Resolve(wire.Query{MAC: r.Peer.MAC})
	switch {
	case !ok || own.Fingerprint != r.Peer.Key:
		return problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonForeign, Detail: "passes are for those who own a row"})
	case d.pairs == nil:
		return problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonPolicy, Detail: pairs.Off.Error()})
	}
	p, err := d.pairs.Issue(r.Peer.Key, time.Now())
	switch {
	case errors.Is(err, pairs.Off):
		return problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonPolicy, Detail: err.Error()})
	case err != nil:
		resp := problem(wire.CodeTooManyRequests, wire.Problem{Reason: wire.ReasonBusy, Detail: err.Error()})
		resp.After = relayBusy
		return resp
	}
	body, err := wire.EncodePass(p)
	if err != nil {
		return d.refuse(r.Peer, err)
	}
	return exchange.Response{Code: codes.Created, Format: wire.FormatCBOR, Payload: body}
}
