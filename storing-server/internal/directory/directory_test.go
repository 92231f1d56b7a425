package directory

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/store"
)

var (
	mac  = wire.MAC{2, 0, 0x5e, 0, 0x53, 1}
	peer = exchange.Peer{Key: wire.Fingerprint{1}, MAC: mac}
	from = netip.MustParseAddrPort("198.51.100.9:4096")
)

// oneRow knows one phone and refuses as it is told.
type oneRow struct{ err error }

func (o oneRow) row() wire.Row {
	return wire.Row{MAC: mac, Number: "101", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, State: wire.Online,
		Sequence: 3, Since: time.UnixMilli(1), Expiry: time.UnixMilli(2)}
}

func (o oneRow) BeginAnnounce(_ store.Claim, _ wire.Registration, then func(wire.Row, bool, error)) {
	then(o.row(), true, o.err)
}
func (o oneRow) BeginRelease(_ wire.Fingerprint, _ wire.Withdrawal, then func(error)) { then(o.err) }
func (o oneRow) Resolve(q wire.Query) (wire.Row, bool) {
	return o.row(), q == wire.Query{MAC: mac} || q == wire.Query{Number: "101"}
}

func (o oneRow) RegionOf(q wire.Query) (wire.Referral, bool) {
	return wire.Referral{Server: "there.example:5684", Key: wire.Fingerprint{9}}, q.Number == "999"
}

func (o oneRow) Regions() []store.Region { return nil }

func (o oneRow) Size() int { return 1 }

func directory(err error) *Directory {
	return New(oneRow{err}, slog.New(slog.DiscardHandler), func(string, codes.Code) {})
}

func ask(d *Directory, code codes.Code, payload []byte, opts ...message.Option) exchange.Response {
	resp, wait := d.Serve(exchange.Request{
		Peer: peer, From: from,
		Message: message.Message{Code: code, Options: opts, Payload: payload},
	})
	if wait == nil {
		return resp
	}
	answer := make(chan exchange.Response, 1)
	wait(func(r exchange.Response) { answer <- r })
	return <-answer
}

func path(segments ...string) []message.Option { return wire.PathOptions(segments) }

func opt(id message.OptionID, value string) message.Option {
	return message.Option{ID: id, Value: []byte(value)}
}

func announcement() []byte {
	b, err := wire.EncodeRegistration(wire.Registration{MAC: mac, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Ports: wire.Ports{SIP: 5060}, Sequence: 3, Lifetime: time.Minute})
	if err != nil {
		panic(err)
	}
	return b
}

func TestServe(t *testing.T) {
	other, err := wire.EncodeRegistration(wire.Registration{MAC: wire.MAC{2, 9}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Ports: wire.Ports{SIP: 5060}, Sequence: 3, Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	urn := wire.Withdrawal{MAC: mac, Sequence: 4}.Queries()
	release := append(path("rd"), opt(message.URIQuery, urn[0]), opt(message.URIQuery, urn[1]))
	for _, tt := range []struct {
		name   string
		err    error
		code   codes.Code
		body   []byte
		opts   []message.Option
		want   codes.Code
		reason wire.Reason
	}{
		{"announce", nil, codes.POST, announcement(), path("rd"), codes.Created, 0},
		{"announce for another", nil, codes.POST, other, path("rd"), codes.Unauthorized, wire.ReasonIdentity},
		{"announce nothing", nil, codes.POST, nil, path("rd"), codes.BadRequest, wire.ReasonMalformed},
		{"announce in JSON", nil, codes.POST, announcement(), append(path("rd"), wire.UintOption(message.ContentFormat, 50)), codes.UnsupportedMediaType, wire.ReasonMalformed},
		{"announce too much", nil, codes.POST, make([]byte, wire.MaxBody+1), path("rd"), codes.RequestEntityTooLarge, wire.ReasonMalformed},
		{"stale", &store.Error{Reason: wire.ReasonStale, Sequence: 9, Text: "old"}, codes.POST, announcement(), path("rd"), wire.CodeConflict, wire.ReasonStale},
		{"foreign", &store.Error{Reason: wire.ReasonForeign, Text: "no"}, codes.POST, announcement(), path("rd"), codes.Forbidden, wire.ReasonForeign},
		{"disk full", store.ErrUnavailable, codes.POST, announcement(), path("rd"), codes.ServiceUnavailable, wire.ReasonUnavailable},
		{"release", nil, codes.DELETE, nil, release, codes.Deleted, 0},
		{"release of nobody", &store.Error{Reason: wire.ReasonUnknown}, codes.DELETE, nil, release, codes.NotFound, wire.ReasonUnknown},
		{"release without a word", nil, codes.DELETE, nil, path("rd"), codes.BadRequest, wire.ReasonMalformed},
		{"look up", nil, codes.GET, nil, path("rd-lookup", "number", "101"), codes.Content, 0},
		{"look up nobody", nil, codes.GET, nil, path("rd-lookup", "number", "102"), codes.NotFound, wire.ReasonUnknown},
		{"look up a word", nil, codes.GET, nil, path("rd-lookup", "number", "abc"), codes.BadRequest, wire.ReasonMalformed},
		{"look up as JSON", nil, codes.GET, nil, append(path("rd-lookup", "number", "101"), wire.UintOption(message.Accept, 50)), codes.NotAcceptable, wire.ReasonMalformed},
		{"put", nil, codes.PUT, nil, path("rd"), codes.MethodNotAllowed, 0},
		{"elsewhere", nil, codes.GET, nil, path("elsewhere", "core"), codes.NotFound, 0},
		{"block-wise", nil, codes.POST, announcement(), append(path("rd"), wire.UintOption(message.Block1, 8)), codes.BadOption, wire.ReasonMalformed},
		{"proxy", nil, codes.GET, nil, append(path("rd"), opt(message.ProxyURI, "coap://x")), codes.BadOption, wire.ReasonMalformed},
	} {
		r := ask(directory(tt.err), tt.code, tt.body, tt.opts...)
		if r.Code != tt.want {
			t.Errorf("%s: code %d; want %d", tt.name, r.Code, tt.want)
		}
		if r.Code>>5 >= 4 {
			if p, err := wire.DecodeProblem(r.Payload); err != nil || p.Reason != tt.reason || r.Format != wire.FormatProblem {
				t.Errorf("%s: %+v, %v; want reason %d", tt.name, p, err, tt.reason)
			}
		}
	}
	r := ask(directory(nil), codes.POST, announcement(), path("rd")...)
	if receipt, err := wire.DecodeReceipt(r.Payload); err != nil || receipt.Reflexive != from || receipt.Number != "101" {
		t.Errorf("receipt = %+v, %v", receipt, err)
	}
}

// What an announcement tells is heard once it is on the disk, and not before.
func TestHearing(t *testing.T) {
	for _, failed := range []error{nil, store.ErrUnavailable} {
		heard := 0
		d := directory(failed).Hearing(func(r wire.Registration) {
			if r.MAC == mac {
				heard++
			}
		})
		ask(d, codes.POST, announcement(), path("rd")...)
		if want := map[bool]int{true: 1, false: 0}[failed == nil]; heard != want {
			t.Errorf("%v: heard %d times, want %d", failed, heard, want)
		}
	}
}

// FuzzServe: every request has an answer that the other side can read.
func FuzzServe(f *testing.F) {
	for _, m := range []message.Message{
		{Code: codes.POST, Options: path("rd"), Payload: announcement()},
		{Code: codes.GET, Options: path("rd-lookup", "mac", mac.Hex())},
		{Code: codes.DELETE, Options: append(path("rd"), opt(message.URIQuery, "ep="+mac.URN()), opt(message.URIQuery, "seq=9"))},
	} {
		b, err := wire.EncodeMessage(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	d := directory(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeMessage(b)
		if err != nil {
			return
		}
		r := ask(d, m.Code, m.Payload, m.Options...)
		switch r.Code >> 5 {
		case 2:
		case 4, 5:
			if _, err := wire.DecodeProblem(r.Payload); err != nil {
				t.Errorf("%v is answered with %+v: %v", m, r, err)
			}
		default:
			t.Errorf("%v is answered with %d", m, r.Code)
		}
	})
}

// Critical options that stand there twice, or have a wrong length, are refused;
// elective ones are passed over (RFC 7252, sections 5.4.1, 5.4.3 and 5.4.5).
func TestOptions(t *testing.T) {
	d := directory(nil)
	lookup := path(wire.Query{MAC: mac}.Path()...)
	cbor := message.Option{ID: message.Accept, Value: []byte{wire.FormatCBOR}}
	for name, tt := range map[string]struct {
		more []message.Option
		want codes.Code
	}{
		"none":                 {nil, codes.Content},
		"Accept":               {[]message.Option{cbor}, codes.Content},
		"Accept twice":         {[]message.Option{cbor, cbor}, codes.BadOption},
		"Accept too long":      {[]message.Option{opt(message.Accept, "\x00\x00\x3c")}, codes.BadOption},
		"Uri-Host":             {[]message.Option{opt(message.URIHost, "here")}, codes.Content},
		"Uri-Host twice":       {[]message.Option{opt(message.URIHost, "here"), opt(message.URIHost, "there")}, codes.BadOption},
		"Uri-Host of nothing":  {[]message.Option{opt(message.URIHost, "")}, codes.BadOption},
		"Uri-Port twice":       {[]message.Option{opt(message.URIPort, "\x16\x34"), opt(message.URIPort, "\x16\x34")}, codes.BadOption},
		"queries":              {[]message.Option{opt(message.URIQuery, "a"), opt(message.URIQuery, "b")}, codes.Content},
		"an unknown one":       {[]message.Option{opt(65001, "x")}, codes.BadOption},
		"an elective one":      {[]message.Option{opt(65000, "x"), opt(65000, "x")}, codes.Content},
		"Content-Format twice": {[]message.Option{opt(message.ContentFormat, "\x3c"), opt(message.ContentFormat, "\x3c")}, codes.Content},
	} {
		if r := ask(d, codes.GET, nil, append(slices.Clone(lookup), tt.more...)...); r.Code != tt.want {
			t.Errorf("%s: %v; want %v", name, r.Code, tt.want)
		}
	}
}

// A word is given later to a non-confirmable question, and to no other.
func TestKnock(t *testing.T) {
	d := directory(nil)
	for query, want := range map[string]time.Duration{"after=1": time.Second, "after=540": 9 * time.Minute, "after=0": 0, "after=541": 0, "": 0} {
		opts := append(path(wire.PathKnock), opt(message.URIQuery, query))
		for _, kind := range []message.Type{message.NonConfirmable, message.Confirmable} {
			r, wait := d.Serve(exchange.Request{Peer: peer, Message: message.Message{Type: kind, Code: codes.GET, Options: opts}})
			if good := want > 0 && kind == message.NonConfirmable; wait != nil || good != (r.Code == codes.Content) || good != (r.Later > 0) || good && r.Later != want {
				t.Errorf("%s, %v: %v after %v", query, kind, r.Code, r.Later)
			}
		}
	}
}

// /.well-known/core says what there is (RFC 6690).
func TestDiscover(t *testing.T) {
	d := directory(nil)
	rd, lookup, knock := `</rd>;rt="flexphone.rd";ct=60`, `</rd-lookup>;rt="flexphone.rd-lookup";ct=60;obs`, `</rd-knock>;rt="flexphone.rd-knock"`
	link := `</link>;rt="flexphone.link";ct=60`
	rds := rd + "," + lookup + "," + knock
	all := rds + "," + link
	for query, want := range map[string]string{
		"": all, "rt=flexphone.rd": rd, "rt=flexphone.rd*": rds, "rt=*": all,
		"href=/rd-lookup": lookup, "href=/rd-knock": knock, "ct=60": rd + "," + lookup + "," + link, "ct=0": "", "rt=core.rd*": "", "x=y": "",
	} {
		opts := path(".well-known", "core")
		if query != "" {
			opts = append(opts, opt(message.URIQuery, query))
		}
		if r := ask(d, codes.GET, nil, opts...); r.Code != codes.Content || r.Format != 40 || string(r.Payload) != want {
			t.Errorf("?%s: %v %d %q; want %q", query, r.Code, r.Format, r.Payload, want)
		}
	}
	if r := ask(d, codes.GET, nil, append(path(".well-known", "core"), opt(message.Accept, "\x3c"))...); r.Code != codes.NotAcceptable {
		t.Errorf("as CBOR: %v; want 4.06", r.Code)
	}
	if r := ask(d, codes.POST, nil, path(".well-known", "core")...); r.Code != codes.MethodNotAllowed {
		t.Errorf("POST: %v; want 4.05", r.Code)
	}
	if r := ask(d, codes.GET, nil, path(".well-known", "other")...); r.Code != codes.NotFound {
		t.Errorf("another name: %v; want 4.04", r.Code)
	}
}
