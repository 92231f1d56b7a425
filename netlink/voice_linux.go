package netlink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
)

// A Voice says where a phone's VLAN comes from.
type Voice struct {
	// VLAN is 1 to 4094 for a fixed one. 0: the switch says it by LLDP-MED, or
	// the DHCP server of the untagged network by option 132; where neither does,
	// the phone stays on the untagged network.
	VLAN int
	// Wait is how long a switch is listened to before the untagged network is
	// used; 2 s when zero. A switch that speaks later still moves the phone.
	Wait time.Duration
	// Failed is told why the phone is not on the VLAN where it belongs. It must not
	// block; nil: only the log is told.
	Failed func(error)
}

const (
	defaultVoiceWait = 2 * time.Second
	// A phone introduces itself four times, a second apart, and then now and
	// then (ANSI/TIA-1057 §11.2.1, IEEE 802.1AB §9.2.5).
	lldpFast     = time.Second
	lldpFastMany = 4
	lldpSlow     = 30 * time.Second
	lldpLife     = 120 * time.Second
	etherLLDP    = 0x88cc
)

// OnVoiceVLAN returns a Source that runs the one which open makes on the VLAN
// for voice of cfg.Interface (IEEE 802.1Q), and again on another when the VLAN
// changes. open is given cfg with the name of the interface to use, such as
// eth0.42. The VLAN's interface is made and removed here.
func OnVoiceVLAN(cfg Config, v Voice, open func(Config) (Source, error)) (Source, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if v.VLAN < 0 || v.VLAN > maxVLAN {
		return nil, fmt.Errorf("netlink: configure: VLAN %d is not in 1 to 4094", v.VLAN)
	}
	if len(cfg.Interface)+len(".4094") >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("netlink: configure: the name %s is too long for a VLAN of it", cfg.Interface)
	}
	if v.Wait == 0 {
		v.Wait = defaultVoiceWait
	}
	return &voice{cfg: cfg, want: v, open: open, events: newQueue(), make: makeVLAN, remove: removeVLAN,
		core: voicing{fixed: v.VLAN, wait: v.Wait}}, nil
}

// A voice moves a Source between VLANs.
type voice struct {
	cfg    Config
	want   Voice
	open   func(Config) (Source, error)
	events *queue
	make   func(ifname string, vlan int) (string, error)
	remove func(name string) error

	mu      sync.Mutex
	current Source // that runs; nil: none

	readers sync.WaitGroup
	heard   chan []byte
	tap     *link.Tap
	link    link.State
	core    voicing
	on      int    // the VLAN in use; -1: none yet
	name    string // of its interface; empty: the untagged one
	sent    int
	told    Lease
}

// Next implements Source.
func (v *voice) Next(ctx context.Context) (Event, error) { return v.events.next(ctx) }

// Doubt passes a doubt on.
func (v *voice) Doubt() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.current != nil {
		Doubt(v.current)
	}
}

// use says which Source runs.
func (v *voice) use(s Source) {
	v.mu.Lock()
	v.current = s
	v.mu.Unlock()
}

// Run implements Source.
func (v *voice) Run(ctx context.Context) (err error) {
	h, err := link.OpenHinter(unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	hints := make(chan struct{}, 1)
	v.heard = make(chan []byte, 4)
	v.readers.Go(func() { h.Run(inner, hints) })
	defer v.readers.Wait()
	defer v.closeTap()
	defer cancel()

	var (
		running *placed
		events  <-chan Event
		ended   <-chan error
		timer   = time.NewTimer(0)
		speak   = time.NewTimer(0)
	)
	defer timer.Stop()
	defer speak.Stop()
	leave := func() error {
		if running == nil {
			return nil
		}
		err := running.leave()
		running, events, ended, v.on = nil, nil, nil, -1
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	v.core.start(time.Now())
	v.on = -1
	if err := v.look(speak); err != nil {
		return err
	}
	for {
		now := time.Now()
		if next, ok := v.core.vlan(now); ok && (next != v.on || v.vanished()) {
			if err := leave(); err != nil {
				v.cfg.Log.Warn("cannot leave a VLAN in order", "error", err)
			}
			v.cfg.Log.Info("using", "vlan", next)
			if running, err = v.enter(inner, next); errors.Is(err, errNoVLAN) {
				v.cfg.Log.Error("this kernel makes no VLAN, staying on the untagged network", "vlan", next, "error", err)
				if v.want.Failed != nil {
					v.want.Failed(fmt.Errorf("netlink: this kernel makes no VLAN %d, staying on the untagged network: %w", next, err))
				}
				v.core.step(now, cannotMake{next})
				continue
			}
			if err != nil {
				return err
			}
			v.on, events, ended = next, running.events, running.ended
		}
		if d := v.core.deadline(now); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(d))
		}
		select {
		case <-ctx.Done():
			return v.end(leave)
		case err := <-ended:
			if ctx.Err() != nil {
				return v.end(leave)
			}
			return err
		case <-timer.C:
			v.core.step(time.Now(), tick{})
		case <-hints:
			if err := v.look(speak); err != nil {
				return err
			}
		case <-speak.C:
			speak.Reset(v.introduce())
		case b := <-v.heard:
			if says, parseErr := parseLLDP(b); parseErr == nil {
				v.core.step(time.Now(), says)
			}
		case e := <-events:
			v.pass(e)
		}
	}
}

// pass passes an event on, unless another VLAN follows from it.
func (v *voice) pass(e Event) {
	now := time.Now()
	switch {
	case e.Kind == Lost:
	case v.on == 0:
		v.core.step(now, serverSays{e.Lease.VoiceVLAN})
	default:
		v.core.step(now, leaseOnVLAN{})
	}
	if next, ok := v.core.vlan(now); ok && next != v.on && e.Kind != Lost {
		return // not worth telling
	}
	v.told = e.Lease
	if e.Kind == Lost {
		v.told = Lease{}
	}
	v.events.push(e)
}

// vanished reports whether the interface of the VLAN in use is gone, as it goes with
// the one below.
func (v *voice) vanished() bool {
	if v.on <= 0 || v.name == "" || v.link.Index == 0 {
		return false
	}
	l, err := link.Read(v.name)
	return err == nil && l.Index == 0
}

// end gives the address back, and tells that it is gone.
func (v *voice) end(leave func() error) error {
	err := leave()
	if v.told.Prefix.IsValid() {
		v.events.push(Event{Kind: Lost, Lease: v.told, Reason: "released", At: time.Now()})
	}
	return err
}

// errNoVLAN: the interface of a VLAN cannot be made.
var errNoVLAN = errors.New("netlink: no VLAN")

// A placed is a Source that runs on a VLAN.
type placed struct {
	events chan Event
	ended  chan error
	leave  func() error
}

// enter runs the Source on a VLAN until leave. What it tells while it leaves is
// not passed on: another address follows, or the end.
func (v *voice) enter(ctx context.Context, vlan int) (*placed, error) {
	cfg := v.cfg
	if vlan != 0 {
		name, err := v.make(cfg.Interface, vlan)
		if err != nil {
			return nil, errors.Join(errNoVLAN, err)
		}
		cfg.Interface = name
	}
	v.name = cfg.Interface
	source, err := v.open(cfg)
	if err != nil {
		return nil, err
	}
	v.use(source)
	inner, cancel := context.WithCancel(ctx)
	p := &placed{events: make(chan Event), ended: make(chan error, 1)}
	var running sync.WaitGroup
	var result error
	running.Go(func() {
		result = source.Run(inner)
		p.ended <- result
	})
	running.Go(func() {
		for {
			e, err := source.Next(inner)
			if err != nil {
				return
			}
			select {
			case p.events <- e:
			case <-inner.Done():
				return
			}
		}
	})
	p.leave = func() error {
		v.use(nil)
		cancel()
		running.Wait()
		if vlan == 0 {
			return result
		}
		return errors.Join(result, v.remove(cfg.Interface))
	}
	return p, nil
}

// look follows the interface below: a carrier that comes up may be another
// switch's.
func (v *voice) look(speak *time.Timer) error {
	l, err := link.Read(v.cfg.Interface)
	if err != nil {
		return err
	}
	before := v.link
	if v.link = l; l.Index != before.Index {
		v.closeTap()
		before = link.State{}
	}
	if l.Index != 0 && !l.Enabled && before.Index == 0 {
		if err := link.Enable(l.Index); err != nil && !link.IsGone(err) {
			return err
		}
	}
	if l.Running && v.tap == nil && v.want.VLAN == 0 {
		t, err := link.OpenTap(l.Index, etherLLDP, lldpFilter(), v.heard)
		if err != nil {
			if link.IsGone(err) {
				return nil
			}
			return err
		}
		if err := t.Join(lldpGroup()); err != nil {
			v.cfg.Log.Debug("cannot listen to the switch", "error", err)
		}
		v.tap = t
		v.readers.Go(t.Read)
	}
	now := time.Now()
	if before.Running && l.Running && l.Changes != before.Changes { // it was out and is in again
		v.core.step(now, parentSeen{index: l.Index})
	}
	v.core.step(now, parentSeen{index: l.Index, up: l.Running})
	if l.Running && (!before.Running || l.Changes != before.Changes) && v.tap != nil {
		v.sent = 0
		speak.Reset(0)
	}
	return nil
}

// introduce tells the switch what this is, and returns when to do it again.
func (v *voice) introduce() time.Duration {
	if v.tap == nil || !v.link.Running {
		return lldpSlow // or when the carrier comes
	}
	says := voiceLLDP(v.link.MAC, v.cfg.Hostname, lldpLife, v.core.policy, v.core.by != "")
	if err := v.tap.Send(says, lldpGroup()); err != nil {
		v.cfg.Log.Debug("cannot speak to the switch", "error", err)
	}
	if v.sent++; v.sent < lldpFastMany {
		return lldpFast
	}
	return lldpSlow
}

func (v *voice) closeTap() {
	if v.tap != nil {
		v.tap.Close()
		v.tap = nil
	}
}

// lldpFilter passes everything: the socket has LLDP alone.
func lldpFilter() []bpf.Instruction { return []bpf.Instruction{bpf.RetConstant{Val: 1500}} }

// makeVLAN makes the interface of a VLAN, or finds it, and sets it up.
func makeVLAN(ifname string, vlan int) (string, error) {
	name := ifname + "." + strconv.Itoa(vlan)
	l, err := link.Read(ifname)
	if err != nil {
		return "", err
	}
	below := l.Index
	if below == 0 {
		return "", fmt.Errorf("netlink: make VLAN %d: there is no interface %s", vlan, ifname)
	}
	err = rtnl.LinkAdd(&rtnl.Vlan{LinkAttrs: rtnl.LinkAttrs{Name: name, ParentIndex: below}, VlanId: vlan})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("netlink: make VLAN %d on %s: %w", vlan, ifname, link.Needs(link.CapAdmin, err))
	}
	return name, nil
}

func removeVLAN(name string) error {
	l, err := link.Read(name)
	if err != nil || l.Index == 0 {
		return err
	}
	if err := rtnl.LinkDel(link.Of(l.Index)); err != nil && !link.IsGone(err) {
		return fmt.Errorf("netlink: remove %s: %w", name, link.Needs(link.CapAdmin, err))
	}
	return nil
}
