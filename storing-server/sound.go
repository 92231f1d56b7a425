package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/directory"
	"flexphone/storing-server/internal/mirror"
	"flexphone/storing-server/internal/pairs"
)

// SoundFlags say what is done for the sound of calls that has to find its way through
// NATs.
type SoundFlags struct {
	STUN  string `name:"stun" help:"UDP address for STUN, and the port above it: phones learn there from where they are seen; none by default. 3478 is the usual one." placeholder:"[HOST]:PORT"`
	Relay string `name:"relay" help:"UDP address that forwards the sound of calls whose ends have no other way to each other; none by default: nothing is relayed." placeholder:"[HOST]:PORT"`
	Pairs int    `name:"pairs" help:"Calls whose sound is relayed at a time; ${default} by default." default:"10000" placeholder:"N"`
}

// pairs returns what the flags say of relayed sound.
func (f SoundFlags) pairs() (l pairs.Limits, err error) {
	if f.Pairs < 1 || f.Pairs > 1e6 {
		return l, &usageError{fmt.Sprintf("--pairs=%d: want 1 to 1000000", f.Pairs)}
	}
	l = pairs.DefaultLimits()
	l.All = f.Pairs
	return l, nil
}

// open listens for what was asked for, and has the directory tell phones of it.
func (f SoundFlags) open(ctx context.Context, s settings, d *directory.Directory, m *metrics) (out []service, err error) {
	var beside wire.Beside
	var relay *pairs.Relay
	if f.STUN != "" {
		stun, err := mirror.Listen(ctx, mirror.Options{Listen: f.STUN, Exempt: s.policy.Exempt, Count: m.stunQuestion})
		if err != nil {
			return nil, err
		}
		beside.STUN = stun.Ports()
		out = append(out, service{"stun", stun.Addr().String(), stun.Serve})
	}
	if f.Relay != "" {
		relay = pairs.New(s.pairs)
		port, err := pairs.Listen(ctx, relay, pairs.Options{Listen: f.Relay, Loops: max(1, runtime.GOMAXPROCS(0)/2), Count: m.relayed})
		if err != nil {
			return nil, err
		}
		beside.Relay = port.Port()
		m.pairs(func() int { return relay.Open(time.Now()) })
		out = append(out, service{"relay", port.Addr().String(), port.Serve})
	}
	d.Beside(beside, relay)
	return out, nil
}
