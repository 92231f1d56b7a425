package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"flexphone/testbed"
	"flexphone/testbed/ears"
	"flexphone/testbed/nat"
)

// relayed is a kind of call of ours: link and sound go by way of the storing server, since
// both ends are behind NATs that give each destination another port.
const relayed = ", relayed"

// Such a pair's homes are seen at the addresses from relayedFrom on, and its number is that of
// the second.
const (
	relayedFrom   = 90
	relayedNumber = "104"
)

// addRelayed starts two phones behind such NATs.
func (b *bench) addRelayed(ctx context.Context, speech []int16) error {
	pair := &phones{number: relayedNumber}
	var places [2]netip.Addr
	for i := range pair.ends {
		places[i] = pools[i].Address(relayedFrom)
		home, err := b.bed.AddHome(fmt.Sprintf("home-%d", 1+i), places[i], nat.Config{Symmetric: true, Filter: nat.Port})
		if err != nil {
			return err
		}
		p, err := b.bed.AddPhone(ctx, testbed.PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 103+i), MAC: testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(3 + i)},
			Speech: speech, StoringServer: testbed.ServerAddr().String(), Home: home, Addr: netip.AddrFrom4([4]byte{192, 168, 77, 2}),
		})
		if err != nil {
			return err
		}
		if err := errors.Join(p.PowerOn(ctx), p.Plug()); err != nil {
			return err
		}
		if _, err := p.Await(ctx, "registered"); err != nil {
			return err
		}
		if err := b.bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(103+i)); err != nil {
			return err
		}
		if _, err := p.Await(ctx, "registered", "reach", "nat"); err != nil {
			return err
		}
		pair.ends[i] = p
	}
	b.parties = append(b.parties, &party{pair: pair, maker: ours, kind: relayed, ears: ears.New(places), late: oursLate})
	return nil
}

// isRelayed wants link and sound of both ends of a call to be relayed.
func (p *phones) isRelayed(ctx context.Context) error {
	for _, end := range p.ends {
		s, err := end.Status(ctx)
		if err != nil {
			return err
		}
		var call struct {
			Link       string
			Statistics struct{ Way string }
		}
		if err := json.Unmarshal(s.Call, &call); err != nil {
			return fmt.Errorf("callbench: read the call of %s: %w", end.Name, err)
		}
		if call.Link != "relayed" || call.Statistics.Way != "relayed" {
			return fmt.Errorf("callbench: the link of %s is %q, and its sound %q; want both relayed", end.Name, call.Link, call.Statistics.Way)
		}
	}
	return nil
}
