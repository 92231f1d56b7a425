package netlink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch returns a Source that follows the IPv4 address which somebody else, such
// as systemd-networkd or a PPP daemon, installs on cfg.Interface. An address is
// told once it and its default route are there, or when no route follows within
// a second. It changes nothing; only Interface and Log of cfg are used.
func Watch(cfg Config) (Source, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &watch{cfg: cfg, events: newQueue(), core: watcher{ifname: cfg.Interface}}, nil
}

// A Fixed is an address that never changes, for a fixed IP phone.
type Fixed struct {
	// Prefix is installed on the interface; the zero Prefix takes what is
	// configured there already.
	Prefix netip.Prefix
	// Router is the default router; the zero Addr: none.
	Router netip.Addr
	DNS    []netip.Addr
}

// Static returns a Source that keeps f on cfg.Interface, puts it back when it
// is removed, and removes it at the end of Run. LeaseFile and Hostname of cfg
// are not used.
func Static(cfg Config, f Fixed) (Source, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	l := Lease{Interface: cfg.Interface, Metric: cfg.Metric, DNS: f.DNS}
	if f.Prefix.IsValid() {
		switch {
		case !isHost(f.Prefix.Addr()) || f.Prefix.Bits() == 0:
			return nil, fmt.Errorf("netlink: configure: %v is no host's address", f.Prefix)
		case f.Router.IsValid() && (!isHost(f.Router) || f.Router == f.Prefix.Addr()):
			return nil, fmt.Errorf("netlink: configure: %v cannot be the router of %v", f.Router, f.Prefix)
		}
		l.Prefix, l.Router = f.Prefix, f.Router
	}
	return &watch{cfg: cfg, events: newQueue(), fixed: l, names: nameServers{path: cfg.ResolvConf}, core: watcher{ifname: cfg.Interface, base: l}}, nil
}

// A watch runs a watcher on a real interface; with a fixed address it sees to
// it that there is something to watch.
type watch struct {
	cfg      Config
	events   *queue
	core     watcher
	fixed    Lease
	names    nameServers
	site     site
	repaired time.Time
	guard    guard
	up       bool // as the guard knows it
	index    int  // the tap's
	tap      *tap
	others   []netip.Addr // that the tap hears of
	readers  sync.WaitGroup
	arps     chan []byte
}

// Next implements Source.
func (w *watch) Next(ctx context.Context) (Event, error) { return w.events.next(ctx) }

// Run implements Source. It returns nil when ctx is done.
func (w *watch) Run(ctx context.Context) error {
	h, err := openHinter(hints4()...)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	hints := make(chan struct{}, 1)
	w.arps = make(chan []byte, 8)
	w.guard.addr, w.guard.network = w.fixed.Addr(), w.fixed.Prefix
	w.guard.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	w.readers.Go(func() { h.run(inner, hints) })
	defer w.readers.Wait()
	defer cancel()
	defer w.closeTap()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		again, err := w.look()
		if err != nil {
			return err
		}
		if again.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return w.end()
		case <-timer.C:
		case <-hints:
		case b := <-w.arps:
			if a, err := parseARP(b); err == nil {
				w.ask(a)
			}
		}
	}
}

// ask runs the guard.
func (w *watch) ask(in any) {
	before := w.guard.conflicts
	actions := w.guard.step(time.Now(), in)
	if err := w.overhear(); err != nil {
		w.cfg.Log.Debug("cannot hear who answers for every address", "error", err)
	}
	for _, a := range actions {
		var b []byte
		switch a := a.(type) {
		case sendProbe:
			b = arpPacket(w.guard.mac, a.addr, false)
		case sendAnnounce:
			b = arpPacket(w.guard.mac, a.addr, true)
		}
		if w.tap != nil && b != nil {
			if err := w.tap.broadcast(b); err != nil {
				w.cfg.Log.Debug("cannot send ARP", "error", err)
			}
		}
	}
	if w.guard.conflicts != before {
		w.cfg.Log.Error("another host uses our fixed address; waiting until it is free", "address", w.guard.addr)
	}
}

// overhear lets the tap hear what the guard's suspicion waits for.
func (w *watch) overhear() error {
	var others []netip.Addr
	if w.guard.suspicion.pending() {
		others = slices.Clone(w.guard.suspicion.decoys)
	}
	if w.tap == nil || slices.Equal(others, w.others) {
		return nil
	}
	w.others = others
	return w.tap.filter(arpFilter(w.guard.mac, w.guard.addr, others...))
}

// listen opens the tap that hears what others say of the fixed address, and
// tells the guard of the carrier.
func (w *watch) listen(l link) error {
	if l.index != w.index {
		w.closeTap()
		w.index = l.index
	}
	if l.index != 0 && l.enabled && w.tap == nil && l.mac != (MAC{}) {
		t, err := openTap(l.index, unix.ETH_P_ARP, arpFilter(l.mac, w.fixed.Addr()), w.arps)
		if err != nil {
			if isGone(err) {
				return nil
			}
			return err
		}
		w.tap, w.others = t, nil
		w.readers.Go(t.read)
	}
	if l.mac == (MAC{}) { // nobody to ask on a point-to-point link
		w.guard.free = l.index != 0
	} else if l.running != w.up {
		w.up = l.running
		w.ask(linkChanged{up: l.running, mac: l.mac})
	}
	w.ask(tick{})
	return nil
}

func (w *watch) closeTap() {
	if w.tap != nil {
		w.tap.close()
		w.tap = nil
	}
}

// look reads the state, and returns when to read it again at the latest.
func (w *watch) look() (time.Time, error) {
	l, err := readLink(w.cfg.Interface)
	if err != nil {
		return time.Time{}, err
	}
	again := time.Time{}
	if w.fixed.Prefix.IsValid() && l.index != 0 {
		if again, err = w.keep(l); err != nil {
			return again, err
		}
	}
	s, err := see(l)
	if err != nil {
		return again, err
	}
	for _, e := range w.core.step(time.Now(), s) {
		w.events.push(e)
		w.cfg.Log.Debug(e.Kind.String(), "address", e.Lease.Prefix, "router", e.Lease.Router, "reason", e.Reason)
		if w.fixed.Prefix.IsValid() && e.Kind == Bound {
			if err := w.names.write(e.Lease); err != nil {
				w.cfg.Log.Error("cannot use the name servers", "error", err)
			}
		}
	}
	return earliest(again, w.core.deadline()), nil
}

// keep installs the fixed address when it is missing, at most once in
// repairGap; it returns when to try again.
func (w *watch) keep(l link) (time.Time, error) {
	if !l.enabled {
		if !w.repaired.IsZero() {
			return time.Time{}, nil // somebody set it down, and means it
		}
		if err := enable(l.index); err != nil {
			return time.Time{}, err
		}
	}
	if err := w.listen(l); err != nil {
		return time.Time{}, err
	}
	if l.index != w.site.index {
		w.site = site{ifname: w.cfg.Interface, index: l.index, mtu: l.mtu}
	}
	ok, err := w.site.has(w.fixed)
	if err != nil {
		return time.Time{}, err
	}
	if !w.guard.free {
		if ok && w.core.told.Prefix.IsValid() { // lost to another host
			w.core.lose, w.core.reason = time.Now(), "conflict"
			return w.guard.next, removeLease(l.index, w.fixed)
		}
		return w.guard.next, nil
	}
	if ok {
		return w.guard.next, nil
	}
	now := time.Now()
	if next := w.repaired.Add(repairGap); now.Before(next) {
		return next, nil
	}
	w.repaired = now
	before := w.site.notTaken()
	if err := w.site.install(w.fixed, Lease{}, now); err != nil {
		w.cfg.Log.Error("cannot install the address", "error", err)
		return now.Add(repairGap), nil
	}
	if text := w.site.notTaken(); text != "" && text != before {
		w.cfg.Log.Warn("the kernel refuses routes, going without", "routes", text)
	}
	return w.guard.next, nil
}

// end removes a fixed address, and tells that it is gone.
func (w *watch) end() error {
	now := time.Now()
	if w.core.told.Prefix.IsValid() {
		w.events.push(Event{Kind: Lost, Lease: w.core.told, Reason: "released", At: now})
	}
	if !w.fixed.Prefix.IsValid() {
		return nil
	}
	restored := w.names.restore()
	l, err := readLink(w.cfg.Interface)
	if err != nil || l.index == 0 {
		return errors.Join(err, restored)
	}
	return errors.Join(removeLease(l.index, w.fixed), restored)
}

// see reads what the interface holds.
func see(l link) (sight, error) {
	s := sight{mac: l.mac, running: l.running}
	if l.index == 0 {
		return s, nil
	}
	a, err := readAddresses(l.index)
	if err != nil {
		return s, err
	}
	s.held = a.addrs
	best := rtnl.Route{}
	for _, r := range a.routes {
		if !isDefault(r) || s.routed && r.Priority >= best.Priority {
			continue
		}
		best, s.routed = r, true
	}
	if s.routed {
		s.router, s.source = addrFrom(best.Gw), addrFrom(best.Src)
	}
	return s, nil
}
