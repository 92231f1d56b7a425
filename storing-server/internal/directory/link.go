package directory

import (
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
)

// relayBusy is for how long a phone is asked to wait that has too many links.
const relayBusy = 10 * time.Second

// link passes a message of a relayed link on. Neither it nor who says what to whom is
// logged.
func (d *Directory) link(r exchange.Request) exchange.Response {
	if format, ok := wire.Uint(r.Message, message.ContentFormat); ok && format != wire.FormatCBOR {
		return problem(codes.UnsupportedMediaType, wire.Problem{Reason: wire.ReasonMalformed, Detail: "want application/cbor"})
	}
	m, err := wire.DecodeLink(r.Message.Payload)
	if err != nil {
		return malformed(err)
	}
	if own, ok := d.rows.Resolve(wire.Query{MAC: r.Peer.MAC}); !ok || own.Fingerprint != r.Peer.Key {
		return problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonForeign, Detail: "links are for those who own a row"})
	}
	var to wire.Fingerprint
	if wire.IsBrowser(m.Peer) {
		to = links.BrowserKey(m.Peer)
	} else if row, ok := d.rows.Resolve(wire.Query{MAC: m.Peer}); ok {
		to = row.Fingerprint
	}
	if to == (wire.Fingerprint{}) {
		return unreachable(m.Peer)
	}
	verdict := d.relay.Pass(r.Peer.MAC, m, time.Now(), func() bool {
		m.Peer = r.Peer.MAC
		body, err := wire.EncodeLink(m)
		return err == nil && d.tell(to, wire.PathLink, body)
	})
	switch verdict {
	case links.Passed:
		return exchange.Response{Code: codes.Changed, Silent: true}
	case links.Off:
		return problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonPolicy, Detail: "nothing is relayed here"})
	case links.Nobody:
		return unreachable(m.Peer)
	}
	resp := problem(wire.CodeTooManyRequests, wire.Problem{Reason: wire.ReasonBusy, Detail: "too much is relayed: " + string(verdict)})
	resp.After = relayBusy
	return resp
}

func unreachable(mac wire.MAC) exchange.Response {
	return problem(codes.NotFound, wire.Problem{Reason: wire.ReasonUnknown, Detail: mac.String() + " has no session here"})
}
