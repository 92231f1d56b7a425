package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
)

// Status is what `flexphone ctl status` prints.
type Status struct {
	MAC        string          `json:"mac"`
	Number     string          `json:"number"`
	State      string          `json:"state"`
	Address    string          `json:"address"`
	Registered bool            `json:"registered"`
	Call       json.RawMessage `json:"call"`
	Display    []string        `json:"display"`
	Tone       string          `json:"tone"`
}

// Addr returns the phone's address, zero when it has none.
func (s Status) Addr() netip.Addr { return parseAddr(s.Address) }

// parseAddr reads an address with or without the length of its prefix.
func parseAddr(text string) netip.Addr {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr()
	}
	addr, _ := netip.ParseAddr(text) // zero when there is none
	return addr
}

// Status asks for the phone's state.
func (p *Phone) Status(ctx context.Context) (Status, error) {
	out, err := p.Ctl(ctx, "status")
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Status{}, fmt.Errorf("testbed: read status of %s: %w: %s", p.Name, err, out)
	}
	return s, nil
}
