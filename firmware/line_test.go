package main

import (
	"testing"

	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// Only the owner of a row's key, who gives the row's number, is believed.
func TestWhomTheDirectoryVouchesFor(t *testing.T) {
	mac := wire.MAC{2, 0, 0x5e, 0, 0x53, 1}
	row := wire.Row{MAC: mac, Number: "101", Fingerprint: wire.Fingerprint{1}}
	for name, tt := range map[string]struct {
		change func(*sip.Peer, *rows)
		want   bool
	}{
		"the phone itself":       {func(*sip.Peer, *rows) {}, true},
		"without a short number": {func(p *sip.Peer, r *rows) { p.DisplayName, r.row.Number = mac.Digits(), "" }, true},
		"with another key":       {func(p *sip.Peer, _ *rows) { p.Fingerprint = [32]byte{2} }, false},
		"with another's number":  {func(p *sip.Peer, _ *rows) { p.DisplayName = "102" }, false},
		"over plain SIP":         {func(p *sip.Peer, _ *rows) { p.Secure = false }, false},
		"without a row":          {func(_ *sip.Peer, r *rows) { r.err = registry.ErrUnknown }, false},
		"without a MAC":          {func(p *sip.Peer, _ *rows) { p.User = "alice" }, false},
	} {
		p, r := sip.Peer{User: mac.Hex(), DisplayName: "101", Secure: true, Fingerprint: [32]byte{1}}, rows{row: row}
		tt.change(&p, &r)
		if got := (directory{r}).Vouches(t.Context(), p); got != tt.want {
			t.Errorf("%s: %v; want %v", name, got, tt.want)
		}
	}
}
