package directory

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// real returns a directory of real rows under a policy.
func real(t *testing.T, p trust.Policy) (*Directory, *store.Store) {
	t.Helper()
	rows, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Numbers: store.Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rows.Close)
	return New(rows, slog.New(slog.DiscardHandler), func(string, codes.Code) {}).Under(p), rows
}

func wants(t *testing.T, what string, r exchange.Response, code codes.Code, reason wire.Reason) {
	t.Helper()
	p, _ := wire.DecodeProblem(r.Payload)
	if r.Code != code || code>>5 != 2 && p.Reason != reason {
		t.Errorf("%s: %v, %+v; want %v with reason %d", what, r.Code, p, code, reason)
	}
}

func TestResolvePolicy(t *testing.T) {
	for policy, want := range map[trust.Resolution][2]codes.Code{
		trust.ResolveEnrolled: {codes.Forbidden, codes.Content},
		trust.ResolveAnyone:   {codes.NotFound, codes.Content},
		trust.ResolveNobody:   {codes.Forbidden, codes.Forbidden},
	} {
		d, _ := real(t, trust.Policy{Resolve: policy})
		look := path("rd-lookup", "mac", mac.Hex())
		before := ask(d, codes.GET, nil, look...)
		wants(t, string(policy)+" before", before, want[0], map[codes.Code]wire.Reason{codes.Forbidden: wire.ReasonPolicy, codes.NotFound: wire.ReasonUnknown}[want[0]])
		wants(t, "announce", ask(d, codes.POST, announcement(), path("rd")...), codes.Created, 0)
		wants(t, string(policy)+" after", ask(d, codes.GET, nil, look...), want[1], wire.ReasonPolicy)
		// An observer that lost its row is told nothing more.
		if got := d.Look(exchange.Peer{Key: wire.Fingerprint{9}, MAC: mac}, wire.Query{MAC: mac}).Code; policy == trust.ResolveEnrolled && got != codes.Forbidden {
			t.Errorf("Look() by another key = %v; want it forbidden", got)
		}
	}
}

func TestLookupsLimited(t *testing.T) {
	d, _ := real(t, trust.Policy{Resolve: trust.ResolveAnyone, Lookups: trust.NewLookups(0.001, nil)})
	counts := map[codes.Code]int{}
	for range 100 {
		counts[ask(d, codes.GET, nil, path("rd-lookup", "number", "555")...).Code]++
	}
	if counts[codes.NotFound] != 20 || counts[wire.CodeTooManyRequests] != 80 {
		t.Errorf("answers = %v; want 20 of 4.04 and 80 of 4.29", counts)
	}
}

// A receipt brings no row that a lookup would not.
func TestReceiptFollowsThePolicy(t *testing.T) {
	r, err := wire.DecodeRegistration(announcement())
	if err != nil {
		t.Fatal(err)
	}
	r.Peers = []wire.MAC{mac}
	body, err := wire.EncodeRegistration(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		policy trust.Policy
		times  int
		want   int
	}{
		{"anyone", trust.Policy{Resolve: trust.ResolveAnyone}, 1, 1},
		{"enrolled", trust.Policy{Resolve: trust.ResolveEnrolled}, 1, 1},
		{"nobody", trust.Policy{Resolve: trust.ResolveNobody}, 1, 0},
		{"too many", trust.Policy{Resolve: trust.ResolveAnyone, Lookups: trust.NewLookups(0.001, nil)}, 21, 0},
	} {
		d, _ := real(t, tt.policy)
		var resp exchange.Response
		for range tt.times {
			resp = ask(d, codes.POST, body, path("rd")...)
		}
		if receipt, err := wire.DecodeReceipt(resp.Payload); err != nil || len(receipt.Peers) != tt.want {
			t.Errorf("%s: %+v, %v; want %d rows", tt.name, receipt, err, tt.want)
		}
	}
}

func TestEnrolment(t *testing.T) {
	d, rows := real(t, trust.Policy{Enrol: trust.EnrolToken})
	wants(t, "without a token", ask(d, codes.POST, announcement(), path("rd")...), codes.Forbidden, wire.ReasonPolicy)
	token, _, err := rows.MakeToken(t.Context(), mac, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wire.DecodeRegistration(announcement())
	if err != nil {
		t.Fatal(err)
	}
	r.Token = token
	with, err := wire.EncodeRegistration(r)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "with a token", ask(d, codes.POST, with, path("rd")...), codes.Created, 0)
	wants(t, "again", ask(d, codes.POST, with, path("rd")...), codes.Changed, 0)

	d, _ = real(t, trust.Policy{Enrol: trust.EnrolCA})
	wants(t, "without an authority", ask(d, codes.POST, announcement(), path("rd")...), codes.Forbidden, wire.ReasonPolicy)
	if c := d.claim(exchange.Peer{Key: wire.Fingerprint{1}, MAC: mac, Issuer: "CN=Operator"}, r); !c.Entitled || c.By != "ca CN=Operator" {
		t.Errorf("claim = %+v; want it entitled", c)
	}
}

// A network may enrol so many new phones, all together so many rows; who has a
// row goes on.
func TestEnrolmentsLimited(t *testing.T) {
	of := func(n int) (exchange.Peer, []byte) {
		mac := wire.MAC{2, 0, 0x5e, 0, 0x53, byte(n)}
		body, err := wire.EncodeRegistration(wire.Registration{
			MAC: mac, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: wire.Ports{SIP: 5060}, Sequence: uint64(n), Lifetime: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		return exchange.Peer{Key: wire.Fingerprint{byte(n)}, MAC: mac}, body
	}
	announce := func(d *Directory, n int, from string) exchange.Response {
		p, body := of(n)
		resp, wait := d.Serve(exchange.Request{Peer: p, From: netip.MustParseAddrPort(from), Message: message.Message{Code: codes.POST, Options: path("rd"), Payload: body}})
		if wait == nil {
			return resp
		}
		answer := make(chan exchange.Response, 1)
		wait(func(r exchange.Response) { answer <- r })
		return <-answer
	}
	exempt, err := trust.ParseExempt([]string{"198.51.100.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	d, rows := real(t, trust.Policy{Enrolments: trust.NewEnrolments(3, exempt), MostRows: 8})
	for n := 1; n <= 5; n++ {
		want, reason := codes.Created, wire.Reason(0)
		if n > 3 {
			want, reason = wire.CodeTooManyRequests, wire.ReasonBusy
		}
		r := announce(d, n, "192.0.2.1:1")
		wants(t, "one network", r, want, reason)
		if n > 3 && r.After != enrolAgain {
			t.Errorf("asked to wait for %v; want %v", r.After, enrolAgain)
		}
	}
	wants(t, "who has a row", announce(d, 1, "192.0.2.1:2"), codes.Changed, 0)
	wants(t, "another network", announce(d, 4, "192.0.2.2:1"), codes.Created, 0)
	for n := 5; n <= 12; n++ {
		want, reason := codes.Created, wire.Reason(0)
		if n > 8 {
			want, reason = codes.Forbidden, wire.ReasonPolicy
		}
		wants(t, "an exempt network", announce(d, n, "198.51.100.7:1"), want, reason)
	}
	if rows.Size() != 8 {
		t.Errorf("%d rows; want the 8 that there may be", rows.Size())
	}
}

// A phone on the operator's list may enrol, another with a token alone, and one
// that waits is logged, once in a while.
func TestEnrolmentByList(t *testing.T) {
	path2 := filepath.Join(t.TempDir(), "phones")
	if err := os.WriteFile(path2, []byte("02:00:5e:00:53:99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := trust.LoadExpected(path2)
	if err != nil {
		t.Fatal(err)
	}
	d, rows := real(t, trust.Policy{Enrol: trust.EnrolList, Expected: list})
	var log bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	for range 5 {
		wants(t, "not on the list", ask(d, codes.POST, announcement(), path("rd")...), codes.Forbidden, wire.ReasonPolicy)
	}
	if n := strings.Count(log.String(), "phone waits to be let in"); n != 1 || !strings.Contains(log.String(), mac.String()) {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if err := os.WriteFile(path2, []byte(mac.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := list.Reload(); err != nil {
		t.Fatal(err)
	}
	wants(t, "on the list", ask(d, codes.POST, announcement(), path("rd")...), codes.Created, 0)
	if err := rows.Forget(t.Context(), mac); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path2, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := list.Reload(); err != nil {
		t.Fatal(err)
	}
	token, _, err := rows.MakeToken(t.Context(), mac, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wire.DecodeRegistration(announcement())
	if err != nil {
		t.Fatal(err)
	}
	r.Token = token
	with, err := wire.EncodeRegistration(r)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "with a token", ask(d, codes.POST, with, path("rd")...), codes.Created, 0)
}

// A phone that is not expected waits until the operator lets its key in; one on
// the list does not wait.
func TestEnrolmentByApproval(t *testing.T) {
	p := trust.Policy{Enrol: trust.EnrolApprove, Waiting: trust.NewWaiting(nil)}
	d, rows := real(t, p)
	var log bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	for range 3 {
		wants(t, "not let in yet", ask(d, codes.POST, announcement(), path("rd")...), codes.Forbidden, wire.ReasonPolicy)
	}
	all := p.Waiting.List(time.Now())
	if len(all) != 1 || all[0].MAC != mac || all[0].Key != peer.Key || all[0].From != from.Addr() {
		t.Fatalf("waiting: %+v", all)
	}
	if n := strings.Count(log.String(), "waiting approve"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if err := rows.Approve(t.Context(), mac, all[0].Key); err != nil {
		t.Fatal(err)
	}
	wants(t, "let in", ask(d, codes.POST, announcement(), path("rd")...), codes.Created, 0)
	if all := p.Waiting.List(time.Now()); len(all) != 0 {
		t.Errorf("it still waits: %+v", all)
	}
	path2 := filepath.Join(t.TempDir(), "phones")
	if err := os.WriteFile(path2, []byte(mac.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := trust.LoadExpected(path2)
	if err != nil {
		t.Fatal(err)
	}
	p.Expected = list
	d, _ = real(t, p)
	wants(t, "on the list", ask(d, codes.POST, announcement(), path("rd")...), codes.Created, 0)
}
