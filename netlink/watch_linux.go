package netlink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
	"flexphone/netlink/internal/resolvconf"
)

// Watch returns a Source that follows the IPv4 address which somebody else, such
// as systemd-networkd or a PPP daemon, installs on cfg.Interface. An address is
// told once it and its default route are there, or when no route follows within
// a second. It changes nothing; only Interface and Log of cfg are used.
func Watch(cfg Config) (Source, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	return &watch{cfg: cfg, events: NewQueue(), core: watcher{ifname: cfg.Interface}}, nil
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
	cfg, err := cfg.Check()
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
	return &watch{cfg: cfg, events: NewQueue(), shuns: make(chan struct{}, 1), fixed: l, names: resolvconf.File{Path: cfg.ResolvConf}, core: watcher{ifname: cfg.Interface, base: l}}, nil
}

// A watch runs a watcher on a real interface; with a fixed address it sees to
// it that there is something to watch.
type watch struct {
	cfg      Config
	events   *Queue
	core     watcher
	fixed    Lease
	shun     atomic.Bool
	shuns    chan struct{} // shun is another; nil: the routes are not ours
	names    resolvconf.File
	site     site
	repaired time.Time
	guard    guard
	up       bool // as the guard knows it
	index    int  // the tap's
	tap      *link.Tap
	others   []netip.Addr // that the tap hears of
	readers  sync.WaitGroup
	arps     chan []byte
}

// Next implements Source.
func (w *watch) Next(ctx context.Context) (Event, error) { return w.events.Next(ctx) }

// Shun has the routes of a fixed address come after others'; see the function of that
// name.
func (w *watch) Shun(yes bool) bool {
	if w.shuns == nil || !w.fixed.Prefix.IsValid() {
		return false
	}
	w.shun.Store(yes)
	wake(w.shuns)
	return true
}

// Run implements Source. It returns nil when ctx is done.
func (w *watch) Run(ctx context.Context) error {
	h, err := link.OpenHinter(link.Hints4()...)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	hints := make(chan struct{}, 1)
	w.arps = make(chan []byte, 8)
	w.guard.addr, w.guard.network = w.fixed.Addr(), w.fixed.Prefix
	w.guard.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	w.readers.Go(func() { h.Run(inner, hints) })
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
		case <-w.shuns:
		case b := <-w.arps:
			if a, ok := claimOfAnother(b); ok {
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
			b = arp.Packet(w.guard.mac, a.addr, false)
		case sendAnnounce:
			b = arp.Packet(w.guard.mac, a.addr, true)
		}
		if w.tap != nil && b != nil {
			if err := w.tap.Broadcast(b); err != nil {
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
	return w.tap.Filter(arp.Filter(w.guard.mac, w.guard.addr, others...))
}

// listen opens the tap that hears what others say of the fixed address, and
// tells the guard of the carrier.
func (w *watch) listen(l link.State) error {
	if l.Index != w.index {
		w.closeTap()
		w.index = l.Index
	}
	if l.Index != 0 && l.Enabled && w.tap == nil && l.MAC != (MAC{}) {
		t, err := link.OpenTap(l.Index, unix.ETH_P_ARP, arp.Filter(l.MAC, w.fixed.Addr()), w.arps)
		if err != nil {
			if link.IsGone(err) {
				return nil
			}
			return err
		}
		w.tap, w.others = t, nil
		w.readers.Go(t.Read)
	}
	if l.MAC == (MAC{}) { // nobody to ask on a point-to-point link
		w.guard.free = l.Index != 0
	} else if l.Running != w.up {
		w.up = l.Running
		w.ask(linkChanged{up: l.Running, mac: l.MAC})
	}
	w.ask(tick{})
	return nil
}

func (w *watch) closeTap() {
	if w.tap != nil {
		w.tap.Close()
		w.tap = nil
	}
}

// look reads the state, and returns when to read it again at the latest.
func (w *watch) look() (time.Time, error) {
	l, err := link.Read(w.cfg.Interface)
	if err != nil {
		return time.Time{}, err
	}
	again := time.Time{}
	if w.fixed.Prefix.IsValid() && l.Index != 0 {
		if again, err = w.keep(l); err != nil {
			return again, err
		}
	}
	s, err := see(l)
	if err != nil {
		return again, err
	}
	for _, e := range w.core.step(time.Now(), s) {
		w.events.Push(e)
		w.cfg.Log.Debug(e.Kind.String(), "address", e.Lease.Prefix, "router", e.Lease.Router, "reason", e.Reason)
		if w.fixed.Prefix.IsValid() && e.Kind == Bound {
			if err := w.names.Write(e.Lease.names()); err != nil {
				w.cfg.Log.Error("cannot use the name servers", "error", err)
			}
		}
	}
	return moment.Earliest(again, w.core.deadline()), nil
}

// keep installs the fixed address when it is missing, at most once in
// repairGap; it returns when to try again.
func (w *watch) keep(l link.State) (time.Time, error) {
	if !l.Enabled {
		if !w.repaired.IsZero() {
			return time.Time{}, nil // somebody set it down, and means it
		}
		if err := link.Enable(l.Index); err != nil {
			return time.Time{}, err
		}
	}
	if err := w.listen(l); err != nil {
		return time.Time{}, err
	}
	if l.Index != w.site.index {
		w.site = site{ifname: w.cfg.Interface, index: l.Index, mtu: l.MTU}
	}
	ok, err := w.site.has(w.fixed)
	if err != nil {
		return time.Time{}, err
	}
	if !w.guard.free {
		if ok && w.core.told.Prefix.IsValid() { // lost to another host
			w.core.lose, w.core.reason = time.Now(), "conflict"
			return w.guard.next, removeLease(l.Index, w.fixed)
		}
		return w.guard.next, nil
	}
	metric := w.cfg.Metric
	if w.shun.Load() && metric != 0 {
		metric += doubtMetric
	}
	now := time.Now()
	if ok && metric == w.fixed.Metric {
		return w.guard.next, nil
	}
	if old := w.fixed; ok {
		w.fixed.Metric = metric
		return w.guard.next, w.site.install(w.fixed, old, now)
	}
	w.fixed.Metric = metric
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
		w.events.Push(Event{Kind: Lost, Lease: w.core.told, Reason: "released", At: now})
	}
	if !w.fixed.Prefix.IsValid() {
		return nil
	}
	restored := w.names.Restore()
	l, err := link.Read(w.cfg.Interface)
	if err != nil || l.Index == 0 {
		return errors.Join(err, restored)
	}
	return errors.Join(removeLease(l.Index, w.fixed), restored)
}

// see reads what the interface holds.
func see(l link.State) (sight, error) {
	s := sight{mac: l.MAC, running: l.Running}
	if l.Index == 0 {
		return s, nil
	}
	a, err := readAddresses(l.Index)
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
