// Package directory says what the requests of the protocol mean: announce,
// release and resolve, as package wire specifies them.
//
// It knows paths, methods, bodies and codes. It refuses to know how a datagram
// comes in (package exchange) and how a row is kept (package store).
package directory

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/pairs"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// Rows is what the directory needs of a store.
type Rows interface {
	// BeginAnnounce and BeginRelease do not wait: then is called once, when the
	// disk has the change, or with why it has not.
	BeginAnnounce(c store.Claim, r wire.Registration, then func(row wire.Row, created bool, err error))
	BeginRelease(key wire.Fingerprint, w wire.Withdrawal, then func(error))
	Resolve(q wire.Query) (row wire.Row, ok bool)
	// RegionOf returns which server keeps what is asked for; ok is false when nobody
	// has said.
	RegionOf(q wire.Query) (to wire.Referral, ok bool)
	Regions() []store.Region
	Size() int
}

// A Directory answers requests.
type Directory struct {
	rows   Rows
	policy trust.Policy
	door   *trust.Door // nil: there are no other regions
	relay  *links.Relay
	pairs  *pairs.Relay // nil: there is none
	beside wire.Beside
	hosts  func() (four, six netip.Addr) // of the relay; nil: nothing is known of them
	tell   func(to wire.Fingerprint, path string, body []byte) bool
	heard  func(wire.Registration) // nil: nobody wants to know
	log    *slog.Logger
	count  func(request string, code codes.Code)

	complaints *trust.Limiter[struct{}]
	waiting    *trust.Limiter[wire.MAC] // phones that are logged because they wait
}

// New returns a Directory of rows. count is told of each request, for metrics.
func New(rows Rows, log *slog.Logger, count func(request string, code codes.Code)) *Directory {
	return &Directory{rows: rows, log: log, count: count, complaints: trust.NewLimiter[struct{}](complaintRate, 1), waiting: trust.NewLimiter[wire.MAC](waitingRate, 1)}
}

// Under makes the directory follow a policy; without, everything is allowed.
// It is called before the first request.
func (d *Directory) Under(p trust.Policy) *Directory {
	d.policy = p
	return d
}

// As makes the directory that of the server with a key, which is referred to by others,
// and gives its word for phones there; without, all regions are others'. It is called
// before the first request.
func (d *Directory) As(door *trust.Door) *Directory {
	d.door = door
	return d
}

// Relaying makes the directory pass messages of links on; without, nothing is. tell
// posts a body to whoever has a session with a key, and reports whether it could. It
// is called before the first request.
func (d *Directory) Relaying(r *links.Relay, tell func(to wire.Fingerprint, path string, body []byte) bool) *Directory {
	d.relay, d.tell = r, tell
	return d
}

// Beside makes the directory tell phones of ports for their sound, and give out passes
// for r; nil: none. It is called before the first request.
func (d *Directory) Beside(b wire.Beside, r *pairs.Relay) *Directory {
	d.beside, d.pairs = b, r
	return d
}

// Relayed makes the directory tell phones by which address of each family the relay is
// reached, as hosts says for each of them; zero: by none that is known. It is called before
// the first request.
func (d *Directory) Relayed(hosts func() (four, six netip.Addr)) *Directory {
	d.hosts = hosts
	return d
}

// besideFor is what a phone that announces itself from there is told.
func (d *Directory) besideFor(from netip.Addr) wire.Beside {
	b := d.beside
	if b.Relay != 0 && d.hosts != nil {
		four, six := d.hosts()
		b.Also = six
		if !from.Unmap().Is4() {
			b.Also = four
		}
	}
	return b
}

// Hearing has heard told of each announcement that is on the disk, before it is answered,
// and again when it is answered again. It is called before the first request.
func (d *Directory) Hearing(heard func(wire.Registration)) *Directory {
	d.heard = heard
	return d
}

// elsewhere returns which other region's server keeps the row of q.
func (d *Directory) elsewhere(q wire.Query) (to wire.Referral, ok bool) {
	to, ok = d.rows.RegionOf(q)
	return to, ok && (d.door == nil || to.Key != d.door.Server())
}

// away refers a peer to another region's server.
func (d *Directory) away(code codes.Code, p exchange.Peer, q wire.Query, to wire.Referral) exchange.Response {
	out := wire.Problem{Reason: wire.ReasonElsewhere, Detail: q.String() + " belongs to the region of " + to.Server, Elsewhere: to}
	if d.door != nil {
		out.Ticket = d.door.Ticket(p.Key, time.Now())
	}
	return problem(code, out)
}

// guest reports whether a peer has the word of another region's server. A ticket that it
// shows now is remembered.
func (d *Directory) guest(p exchange.Peer, shown wire.Ticket) bool {
	if d.door == nil {
		return false
	}
	now := time.Now()
	return d.door.Knows(p.Key, now) || shown != "" && d.door.Show(p.Key, shown, func(server wire.Fingerprint) bool {
		return slices.ContainsFunc(d.rows.Regions(), func(r store.Region) bool { return r.Key == server })
	}, now)
}

// Issuer implements exchange.Voucher.
func (d *Directory) Issuer(certificates [][]byte) string {
	name, _ := d.policy.Issuer(certificates, time.Now())
	return name
}

// claim is what a peer brings to own a row that nobody owns.
func (d *Directory) claim(p exchange.Peer, r wire.Registration) store.Claim {
	c := store.Claim{Key: p.Key}
	switch d.policy.Enrol {
	case trust.EnrolList, trust.EnrolApprove:
		c.Approval = d.policy.Enrol == trust.EnrolApprove
		if c.Token = r.Token; d.policy.Expected.Has(p.MAC) {
			c.Entitled, c.By, c.Token = true, "list", ""
		}
	case trust.EnrolToken:
		c.Token = r.Token
	case trust.EnrolCA:
		c.Entitled, c.By = p.Issuer != "", "ca "+p.Issuer
	default:
		c.Entitled, c.By = true, "open"
	}
	return c
}

// may says why a peer, which shows a ticket now or not, may not look up rows; nil: it may.
func (d *Directory) may(p exchange.Peer, shown wire.Ticket) *exchange.Response {
	own, ok := d.rows.Resolve(wire.Query{MAC: p.MAC})
	if d.policy.May(ok && own.Fingerprint == p.Key) || d.policy.May(true) && d.guest(p, shown) {
		return nil
	}
	resp := problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonPolicy, Detail: "the operator answers lookups of " + string(d.policy.Resolve) + " only"})
	return &resp
}

// mayEnrol says why a phone without a row may not get one now; nil: it may, or
// has one.
func (d *Directory) mayEnrol(r exchange.Request) *exchange.Response {
	q := wire.Query{MAC: r.Peer.MAC}
	if _, known := d.rows.Resolve(q); known {
		return nil
	}
	if to, ok := d.elsewhere(q); ok {
		resp := d.away(codes.Forbidden, r.Peer, q, to)
		return &resp
	}
	switch err := d.policy.MayEnrol(trust.NetworkOf(r.From.Addr()), d.rows.Size(), time.Now()); err {
	case nil:
		return nil
	case trust.ErrTooMany:
		resp := problem(wire.CodeTooManyRequests, wire.Problem{Reason: wire.ReasonBusy, Detail: err.Error()})
		resp.After = enrolAgain
		return &resp
	default:
		if d.complaints.Allow(struct{}{}, time.Now()) {
			d.log.Error("phone not enrolled", "mac", r.Peer.MAC.String(), "err", err, "rows", d.rows.Size(), "hint", "forget phones that there are not, or raise --most-rows")
		}
		resp := problem(codes.Forbidden, wire.Problem{Reason: wire.ReasonPolicy, Detail: err.Error()})
		return &resp
	}
}

const (
	// enrolAgain is after how long a phone may ask again that was one too many.
	enrolAgain = time.Minute
	// complaintRate bounds log lines about what all phones meet, each second.
	complaintRate = 0.1
	// waitingRate is how often a phone is logged that waits, each second.
	waitingRate = 1.0 / 3600
)

// critical are the options with an odd number that requests here may have;
// any other makes a request one that cannot be understood (RFC 7252, section
// 5.4.1). A proxy's are not among them.
func critical(id message.OptionID) bool {
	switch id {
	case message.URIHost, message.URIPort, message.URIPath, message.URIQuery, message.Accept:
		return true
	}
	return false
}

// repeatable are those of them that may stand in a request more than once.
func repeatable(id message.OptionID) bool { return id == message.URIPath || id == message.URIQuery }

// Serve implements exchange.Handler: what changes rows has to wait for the disk.
func (d *Directory) Serve(r exchange.Request) (exchange.Response, func(func(exchange.Response))) {
	name, resp, wait := d.serve(r)
	if wait == nil {
		d.count(name, resp.Code)
		return resp, nil
	}
	return exchange.Response{}, func(answer func(exchange.Response)) {
		wait(func(resp exchange.Response) {
			d.count(name, resp.Code)
			answer(resp)
		})
	}
}

// A pending is a change that is ready to be made.
type pending func(answer func(exchange.Response))

func (d *Directory) serve(r exchange.Request) (name string, resp exchange.Response, wait pending) {
	m := r.Message
	for i, o := range m.Options {
		switch {
		case o.ID%2 == 0: // elective
		case !critical(o.ID), !wire.LegalLength(o):
			return "other", badOption(o, "is not understood"), nil
		case !repeatable(o.ID) && slices.ContainsFunc(m.Options[:i], func(p message.Option) bool { return p.ID == o.ID }): // RFC 7252, section 5.4.5
			return "other", badOption(o, "stands there twice"), nil
		}
	}
	path := wire.Strings(m, message.URIPath)
	switch {
	case len(path) == 1 && path[0] == wire.PathDirectory:
		switch m.Code {
		case codes.POST:
			resp, wait = d.register(r)
			return "register", resp, wait
		case codes.DELETE:
			resp, wait = d.release(r)
			return "release", resp, wait
		}
	case len(path) == 1 && path[0] == wire.PathLink && d.relay != nil:
		if m.Code == codes.POST {
			return "link", d.link(r), nil
		}
	case len(path) == 1 && path[0] == wire.PathPair:
		if m.Code == codes.POST {
			return "pair", d.pair(r), nil
		}
	case len(path) > 0 && path[0] == wire.PathLookup:
		if m.Code == codes.GET {
			return "lookup", d.lookup(r, path), nil
		}
	case len(path) == 1 && path[0] == wire.PathKnock:
		if m.Code == codes.GET {
			return "knock", knock(m), nil
		}
	case len(path) == 2 && path[0] == ".well-known" && path[1] == "core":
		if m.Code == codes.GET {
			return "discovery", discover(m), nil
		}
	default:
		return "other", problem(codes.NotFound, wire.Problem{Detail: "no such resource"}), nil
	}
	return "other", problem(codes.MethodNotAllowed, wire.Problem{Detail: "no such method here"}), nil
}

// knock answers when the peer has been silent for as long as it says.
func knock(m message.Message) exchange.Response {
	after, err := wire.ParseKnock(wire.Strings(m, message.URIQuery))
	switch {
	case err != nil:
		return problem(codes.BadRequest, wire.Problem{Reason: wire.ReasonMalformed, Detail: err.Error()})
	case m.Type != message.NonConfirmable: // it would be repeated until then
		return problem(codes.BadRequest, wire.Problem{Reason: wire.ReasonMalformed, Detail: "want a non-confirmable message"})
	}
	return exchange.Response{Code: codes.Content, Later: after}
}

func (d *Directory) register(r exchange.Request) (exchange.Response, pending) {
	if format, ok := wire.Uint(r.Message, message.ContentFormat); ok && format != wire.FormatCBOR {
		return problem(codes.UnsupportedMediaType, wire.Problem{Reason: wire.ReasonMalformed, Detail: "want application/cbor"}), nil
	}
	if len(r.Message.Payload) > wire.MaxBody {
		return problem(codes.RequestEntityTooLarge, wire.Problem{Reason: wire.ReasonMalformed, Detail: "body too large"}), nil
	}
	reg, err := wire.DecodeRegistration(r.Message.Payload)
	if err != nil {
		return malformed(err), nil
	}
	if reg.MAC != r.Peer.MAC {
		return d.stranger(r, reg.MAC), nil
	}
	if no := d.mayEnrol(r); no != nil {
		return *no, nil
	}
	peer, from := r.Peer, r.From // the message is gone by then
	return exchange.Response{}, func(answer func(exchange.Response)) {
		d.rows.BeginAnnounce(d.claim(peer, reg), reg, func(row wire.Row, created bool, err error) {
			if err != nil {
				d.hold(peer, from, err)
				answer(d.refuse(peer, err))
				return
			}
			if created {
				d.policy.Waiting.Drop(peer.MAC, peer.Key)
			}
			if d.heard != nil {
				d.heard(reg)
			}
			answer(d.receipt(peer, from, reg.Peers, row, created))
		})
	}
}

// hold puts a phone on the list of those that wait, if it was refused because
// the operator has not let it in.
func (d *Directory) hold(peer exchange.Peer, from netip.AddrPort, err error) {
	var e *store.Error
	if d.policy.Waiting != nil && errors.As(err, &e) && e.Reason == wire.ReasonPolicy {
		d.policy.Waiting.Ask(peer.MAC, peer.Key, from.Addr(), time.Now())
	}
}

// receipt answers an announcement that is on the disk, with the rows of others
// that it asked for and may look up.
func (d *Directory) receipt(peer exchange.Peer, from netip.AddrPort, others []wire.MAC, row wire.Row, created bool) exchange.Response {
	receipt := wire.Receipt{Reflexive: from, Number: row.Number, Expiry: row.Expiry, Sequence: row.Sequence, Beside: d.besideFor(from.Addr())}
	if to, ok := d.elsewhere(wire.Query{MAC: peer.MAC}); ok {
		receipt.Elsewhere, others = to, nil // both do not fit into one datagram
	}
	for _, mac := range others {
		if !d.policy.May(true) || !d.policy.Lookups.Allow(peer.Key, trust.NetworkOf(from.Addr()), time.Now()) {
			break
		}
		if other, ok := d.rows.Resolve(wire.Query{MAC: mac}); ok {
			receipt.Peers = append(receipt.Peers, other)
		}
	}
	body, err := wire.EncodeReceipt(receipt)
	if err != nil {
		return d.refuse(peer, err)
	}
	code := codes.Changed
	if created {
		code = codes.Created
		d.log.Info("phone enrolled", "mac", row.MAC.String(), "number", row.Number, "key", row.Fingerprint.String())
	}
	return exchange.Response{Code: code, Format: wire.FormatCBOR, Payload: body}
}

func (d *Directory) release(r exchange.Request) (exchange.Response, pending) {
	w, err := wire.ParseWithdrawal(wire.Strings(r.Message, message.URIQuery))
	if err != nil {
		return malformed(err), nil
	}
	if w.MAC != r.Peer.MAC {
		return d.stranger(r, w.MAC), nil
	}
	peer := r.Peer
	return exchange.Response{}, func(answer func(exchange.Response)) {
		d.rows.BeginRelease(peer.Key, w, func(err error) {
			if err != nil {
				answer(d.refuse(peer, err))
				return
			}
			answer(exchange.Response{Code: codes.Deleted})
		})
	}
}

func (d *Directory) lookup(r exchange.Request, path []string) exchange.Response {
	if accept, ok := wire.Uint(r.Message, message.Accept); ok && accept != wire.FormatCBOR {
		return problem(codes.NotAcceptable, wire.Problem{Reason: wire.ReasonMalformed, Detail: "only application/cbor is given"})
	}
	q, err := wire.ParseQuery(path)
	if err != nil {
		return malformed(err)
	}
	// The policy stands before the limit, so that a stranger uses up nobody's.
	if no := d.may(r.Peer, wire.ParseTicket(wire.Strings(r.Message, message.URIQuery))); no != nil {
		return *no
	}
	if !d.policy.Lookups.Allow(r.Peer.Key, trust.NetworkOf(r.From.Addr()), time.Now()) {
		return problem(wire.CodeTooManyRequests, wire.Problem{Reason: wire.ReasonBusy, Detail: "too many lookups: ask later"})
	}
	resp := d.find(r.Peer, q)
	resp.Key = q
	return resp
}

// Look implements exchange.Handler.
func (d *Directory) Look(p exchange.Peer, q wire.Query) exchange.Response {
	if no := d.may(p, ""); no != nil {
		return *no
	}
	return d.find(p, q)
}

func (d *Directory) find(p exchange.Peer, q wire.Query) exchange.Response {
	row, ok := d.rows.Resolve(q)
	if !ok || row.State != wire.Online { // one that has moved there leaves its row here
		if to, other := d.elsewhere(q); other {
			return d.away(codes.NotFound, p, q, to)
		}
	}
	if !ok {
		return problem(codes.NotFound, wire.Problem{Reason: wire.ReasonUnknown, Detail: "nobody is registered as " + q.String()})
	}
	body, err := wire.EncodeRow(row)
	if err != nil {
		return problem(codes.InternalServerError, wire.Problem{Reason: wire.ReasonUnavailable, Detail: "row cannot be encoded"})
	}
	return exchange.Response{Code: codes.Content, Format: wire.FormatCBOR, Payload: body}
}

// stranger refuses a change of a MAC that the certificate does not name.
func (d *Directory) stranger(r exchange.Request, mac wire.MAC) exchange.Response {
	return problem(codes.Unauthorized, wire.Problem{
		Reason: wire.ReasonIdentity,
		Detail: "your certificate names " + r.Peer.MAC.String() + ", not " + mac.String(),
	})
}

// refuse says why a change was not made.
func (d *Directory) refuse(peer exchange.Peer, err error) exchange.Response {
	var e *store.Error
	switch {
	case errors.As(err, &e):
		p := wire.Problem{Reason: e.Reason, Detail: e.Text, Sequence: e.Sequence}
		switch e.Reason {
		case wire.ReasonStale:
			return problem(wire.CodeConflict, p)
		case wire.ReasonForeign:
			d.log.Debug("foreign key refused", "mac", peer.MAC.String(), "key", peer.Key.String())
			return problem(codes.Forbidden, p)
		case wire.ReasonPolicy:
			hint := map[trust.Enrolment]string{
				trust.EnrolList:    "put it on the list of --expected and reload, or make it a token",
				trust.EnrolApprove: "let it in by 'waiting approve' or on the page Enrolment",
			}[d.policy.Enrol]
			if hint != "" && d.waiting.Allow(peer.MAC, time.Now()) {
				d.log.Info("phone waits to be let in", "mac", peer.MAC.String(), "key", peer.Key.String(), "hint", hint)
			}
			d.log.Debug("enrolment refused", "mac", peer.MAC.String(), "key", peer.Key.String(), "why", e.Text)
			return problem(codes.Forbidden, p)
		case wire.ReasonUnknown:
			return problem(codes.NotFound, p)
		}
		return problem(codes.BadRequest, p)
	case errors.Is(err, wire.ErrInvalid):
		return malformed(err)
	}
	if d.complaints.Allow(struct{}{}, time.Now()) { // all phones come again
		d.log.Error("row not written", "mac", peer.MAC.String(), "err", err)
	}
	return problem(codes.ServiceUnavailable, wire.Problem{Reason: wire.ReasonUnavailable, Detail: "the row cannot be written now"})
}

func badOption(o message.Option, why string) exchange.Response {
	return problem(codes.BadOption, wire.Problem{Reason: wire.ReasonMalformed, Detail: "option " + o.ID.String() + " " + why})
}

func malformed(err error) exchange.Response {
	return problem(codes.BadRequest, wire.Problem{Reason: wire.ReasonMalformed, Detail: err.Error()})
}

func problem(code codes.Code, p wire.Problem) exchange.Response {
	body, err := wire.EncodeProblem(p)
	if err != nil {
		return exchange.Response{Code: code}
	}
	return exchange.Response{Code: code, Format: wire.FormatProblem, Payload: body}
}
