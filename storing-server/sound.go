package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/directory"
	"flexphone/storing-server/internal/mirror"
	"flexphone/storing-server/internal/pairs"
	"flexphone/storing-server/internal/turn"
)

// SoundFlags say what is done for the sound of calls that has to find its way through
// NATs.
type SoundFlags struct {
	STUN  string `name:"stun" help:"UDP address for STUN, and the port above it: phones, and pages that call, learn there from where they are seen; none by default. 3478 is the usual one." placeholder:"[HOST]:PORT"`
	Relay string `name:"relay" help:"UDP address that forwards the sound of calls whose ends have no other way to each other; none by default: nothing is relayed." placeholder:"[HOST]:PORT"`
	TURN  string `name:"turn" help:"UDP and TCP address for TURN, by which pages that call reach phones that they cannot reach directly; none by default." placeholder:"[HOST]:PORT"`
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

// open listens for what was asked for, and has the directory tell phones of it. Passes of the
// relay are made by secret, which is the same after a restart, and at the servers of a cluster.
// beside are the ports.
func (f SoundFlags) open(ctx context.Context, s settings, d *directory.Directory, m *metrics, secret []byte) (out []service, beside wire.Beside, err error) {
	var relay *pairs.Relay
	if f.STUN != "" {
		stun, err := mirror.Listen(ctx, mirror.Options{Listen: f.STUN, Exempt: s.policy.Exempt, Count: m.stunQuestion})
		if err != nil {
			return nil, beside, err
		}
		beside.STUN = stun.Ports()
		out = append(out, service{"stun", stun.Addr().String(), stun.Serve})
	}
	if f.Relay != "" {
		relay = pairs.New(s.pairs).Counting(m.pass).Keyed(secret)
		port, err := pairs.Listen(ctx, relay, pairs.Options{Listen: f.Relay, Loops: max(1, runtime.GOMAXPROCS(0)/2), Count: m.relayed})
		if err != nil {
			return nil, beside, err
		}
		beside.Relay = port.Port()
		if own := port.Addr().(*net.UDPAddr).AddrPort().Addr(); own.IsUnspecified() {
			d.Relayed(newHostAddrs(own.Is6()).reachable)
		}
		m.pairs(func() int { return relay.Open(time.Now()) })
		out = append(out, service{"relay", port.Addr().String(), port.Serve})
	}
	d.Beside(beside, relay)
	return out, beside, nil
}

// hostAddrsAge is for how long addresses that were read are believed: a host is given others
// a few times a year, and asked for them by every phone that announces itself.
const hostAddrsAge = time.Second

// hostAddrs are the addresses of this host that phones of any network reach, the first of each
// family. They are read when they are asked for, since they change while the server runs.
type hostAddrs struct {
	six  bool // of IPv6 as well
	list func() ([]net.Addr, error)

	mu             sync.Mutex
	read           time.Time // zero: never
	first4, first6 netip.Addr
}

func newHostAddrs(six bool) *hostAddrs { return &hostAddrs{six: six, list: net.InterfaceAddrs} }

// reachable returns them; zero: there is none. Where they cannot be read, those of before stay.
func (h *hostAddrs) reachable() (first4, first6 netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.read.IsZero() && now.Sub(h.read) < hostAddrsAge {
		return h.first4, h.first6
	}
	h.read = now
	all, err := h.list()
	if err != nil {
		return h.first4, h.first6
	}
	h.first4, h.first6 = netip.Addr{}, netip.Addr{}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		at := p.Addr()
		switch {
		case err != nil, !at.IsGlobalUnicast(), at.IsPrivate():
		case at.Is4() && !h.first4.IsValid():
			h.first4 = at
		case at.Is6() && h.six && !h.first6.IsValid():
			h.first6 = at
		}
	}
	return h.first4, h.first6
}

// turn listens for pages; nil: nothing was asked for. pages know where a phone may be spoken to.
func (f SoundFlags) turn(ctx context.Context, s settings, pages *browsers, log *slog.Logger) (*turn.Server, error) {
	if f.TURN == "" {
		return nil, nil
	}
	return turn.Listen(ctx, turn.Options{Listen: f.TURN, Exempt: s.policy.Exempt, Log: log, Where: pages.where, Away: pages.away})
}
