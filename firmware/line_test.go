package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"flexphone/firmware/internal/sip"
	"flexphone/netlink"
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

// A network that names no storing server is complained of once, and again after
// it has named one.
func TestNamelessNetwork(t *testing.T) {
	var said bytes.Buffer
	dir := t.TempDir()
	id, err := registry.LoadIdentity(dir, netlink.MAC{2, 0, 0x5e, 0, 0x53, 1})
	if err != nil {
		t.Fatal(err)
	}
	server, err := registry.NewClient(registry.Config{Identity: id, Pins: registry.NewFilePins(filepath.Join(dir, "pins")), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	n := &network{server: server, log: slog.New(slog.NewTextHandler(&said, nil))}
	var searches sync.WaitGroup
	for _, named := range []string{"", "", "192.0.2.9:5684", "", ""} {
		var l netlink.Lease
		if named != "" {
			l.StoringServers = []string{named}
		}
		n.findServer(t.Context(), &searches, l)
	}
	searches.Wait()
	if got := strings.Count(said.String(), "names no storing server"); got != 2 || strings.Count(said.String(), "\n") != 2 {
		t.Errorf("said %d times; want 2:\n%s", got, said.String())
	}
}
