package sip

import (
	"errors"
	"net/netip"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// A dialog is the state that two ends share (RFC 3261, section 12). It is
// plain data: it builds requests and judges them, and sends nothing.
type dialog struct {
	callID               string
	localTag, remoteTag  string // remoteTag is empty until the peer has answered
	local, remote        gosip.Uri
	localName            string
	localSeq, remoteSeq  uint32
	remoteSeqKnown       bool
	target               gosip.Uri   // the peer's Contact
	routes               []gosip.Uri // in the order in which to visit them
	recordRouteCompleted bool
}

var errOutOfOrder = errors.New("sip: check request: CSeq is not above the last one")

// dialogOf is the dialog that an INVITE to us makes.
func dialogOf(req *gosip.Request, localTag string) *dialog {
	d := &dialog{
		callID: req.CallID().Value(), localTag: localTag,
		local: bare(req.To().Address), remote: bare(req.From().Address),
		localSeq: 1, remoteSeq: req.CSeq().SeqNo, remoteSeqKnown: true,
		target: *req.Contact().Address.Clone(),
	}
	d.remoteTag, _ = req.From().Params.Get("tag")
	d.routes = recordRoutes(req)
	d.recordRouteCompleted = true
	return d
}

// learn takes over what the peer's response says of the dialog. A 2xx fixes
// it; a provisional response makes an early one.
func (d *dialog) learn(res *gosip.Response) {
	if to := res.To(); to != nil {
		if tag, ok := to.Params.Get("tag"); ok && len(tag) <= maxToken {
			d.remoteTag = tag
		}
	}
	d.refresh(res.Contact())
	if d.recordRouteCompleted {
		return
	}
	routes := recordRoutes(res)
	for i, j := 0, len(routes)-1; i < j; i, j = i+1, j-1 {
		routes[i], routes[j] = routes[j], routes[i]
	}
	d.routes = routes
	d.recordRouteCompleted = res.IsSuccess()
}

// refresh takes over a new remote target (RFC 3261, 12.2.1.2).
func (d *dialog) refresh(c *gosip.ContactHeader) {
	if c != nil && reachable(c.Address) {
		d.target = *c.Address.Clone()
	}
}

// reachable tells a URI to which a request can be sent.
func reachable(u gosip.Uri) bool { return !u.Wildcard && isAddress(u) && u.Scheme != "tel" }

// admit judges the order of a request in the dialog (RFC 3261, 12.2.2).
func (d *dialog) admit(req *gosip.Request) error {
	n := req.CSeq().SeqNo
	if d.remoteSeqKnown && n <= d.remoteSeq {
		return errOutOfOrder
	}
	d.remoteSeq, d.remoteSeqKnown = n, true
	return nil
}

// first is where the next request goes: the first route, or the target.
func (d *dialog) first() gosip.Uri {
	if len(d.routes) > 0 {
		return d.routes[0]
	}
	return d.target
}

// request builds a request in the dialog. ACK passes the CSeq of the INVITE that it
// belongs to, and PRACK one that is free in all dialogs; 0 means the next one.
func (d *dialog) request(method gosip.RequestMethod, p path, seq uint32) *gosip.Request {
	if seq == 0 {
		d.localSeq++
		seq = d.localSeq
	}
	uri, routes := d.target, d.routes
	if len(routes) > 0 && !routes[0].UriParams.Has("lr") { // a strict router (12.2.1.1)
		uri, routes = routes[0], append(append([]gosip.Uri{}, routes[1:]...), d.target)
	}
	uri = *uri.Clone()
	uri.Headers = nil
	req := gosip.NewRequest(method, uri)
	via := &gosip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: p.transport,
		Host: hostOf(p.local.Addr()), Port: int(p.local.Port()),
	}
	via.Params.Add("branch", gosip.GenerateBranchN(16))
	if p.transport == "UDP" {
		via.Params.Add("rport", "")
	}
	req.AppendHeader(via)
	for _, r := range routes {
		req.AppendHeader(&gosip.RouteHeader{Address: r})
	}
	hops := gosip.MaxForwardsHeader(70)
	req.AppendHeader(&hops)
	from := &gosip.FromHeader{DisplayName: d.localName, Address: d.local}
	from.Params.Add("tag", d.localTag)
	req.AppendHeader(from)
	to := &gosip.ToHeader{Address: d.remote}
	if d.remoteTag != "" {
		to.Params.Add("tag", d.remoteTag)
	}
	req.AppendHeader(to)
	id := gosip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: seq, MethodName: method})
	if method == gosip.INVITE || method == gosip.UPDATE {
		own := contact(d.local.User, p)
		if d.target.Scheme == "sips" { // RFC 3261, 8.1.1.8
			own.Address.Scheme = "sips"
		}
		req.AppendHeader(own)
		req.AppendHeader(gosip.NewHeader("Allow", allowed))
		req.AppendHeader(gosip.NewHeader("Accept", taken))
		req.AppendHeader(gosip.NewHeader("Supported", strings.Join(options, ", ")))
	}
	req.AppendHeader(gosip.NewHeader("User-Agent", agentName))
	req.SetBody(nil)
	steer(req, p)
	return req
}

// steer makes sipgo send req on p.
func steer(req *gosip.Request, p path) {
	req.SetTransport(p.transport)
	req.SetDestination(p.dest)
	req.Laddr = p.bind
}

// cancelOf is the CANCEL of an INVITE that we sent (RFC 3261, 9.1).
func cancelOf(invite *gosip.Request) *gosip.Request {
	req := gosip.NewRequest(gosip.CANCEL, *invite.Recipient.Clone())
	req.AppendHeader(invite.Via().Clone())
	for _, h := range invite.GetHeaders("Route") {
		req.AppendHeader(gosip.HeaderClone(h))
	}
	hops := gosip.MaxForwardsHeader(70)
	req.AppendHeader(&hops)
	req.AppendHeader(gosip.HeaderClone(invite.From()))
	req.AppendHeader(gosip.HeaderClone(invite.To()))
	req.AppendHeader(gosip.HeaderClone(invite.CallID()))
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: gosip.CANCEL})
	req.SetBody(nil)
	req.SetTransport(invite.Transport())
	req.SetDestination(invite.Destination())
	req.Laddr = invite.Laddr
	return req
}

// setSDP gives a message a session description.
func setSDP(msg gosip.Message, body []byte) {
	if body == nil {
		return
	}
	kind := gosip.ContentTypeHeader(sdpType)
	msg.AppendHeader(&kind)
	msg.SetBody(body)
}

// contact is where the peer's next request is to go.
func contact(user string, p path) *gosip.ContactHeader {
	c := &gosip.ContactHeader{Address: gosip.Uri{Scheme: "sip", User: user, Host: hostOf(p.local.Addr()), Port: int(p.local.Port())}}
	if p.transport != "UDP" {
		c.Address.UriParams.Add("transport", strings.ToLower(p.transport))
	}
	return c
}

// bare is a URI as From and To carry it: without parameters and headers.
func bare(u gosip.Uri) gosip.Uri {
	c := *u.Clone()
	c.UriParams, c.Headers = nil, nil
	return c
}

// recordRoutes are the proxies that want to see the dialog's requests.
func recordRoutes(msg gosip.Message) []gosip.Uri {
	var out []gosip.Uri
	for _, h := range msg.GetHeaders("Record-Route") {
		if r, ok := h.(*gosip.RecordRouteHeader); ok && reachable(r.Address) {
			out = append(out, *r.Address.Clone())
		}
	}
	return out
}

func hostOf(a netip.Addr) string { return a.Unmap().WithZone("").String() }

// hop is the address in a URI, if it holds one and not a name. Names are not
// looked up: a phone is called at its address.
func hop(u gosip.Uri) (netip.AddrPort, string, bool) {
	host := strings.Trim(u.Host, "[]")
	if m, ok := u.UriParams.Get("maddr"); ok {
		host = strings.Trim(m, "[]")
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || u.Port < 0 || u.Port > 65535 {
		return netip.AddrPort{}, "", false
	}
	transport, _ := u.UriParams.Get("transport")
	transport = strings.ToUpper(transport)
	switch {
	case u.Scheme == "sips": // whatever it runs over (RFC 3261, 26.2.2)
		transport = "TLS"
	case transport != "TCP" && transport != "TLS":
		transport = "UDP"
	}
	port := uint16(u.Port)
	if port == 0 {
		port = uint16(gosip.DefaultPort(transport))
	}
	return netip.AddrPortFrom(addr, port), transport, true
}
