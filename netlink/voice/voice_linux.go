package voice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/lldp"
)

// A Config says where a phone's VLAN comes from.
type Config struct {
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
	defaultWait = 2 * time.Second
	// lldpLife is how long a switch is to remember what the phone said of itself.
	lldpLife = 120 * time.Second
)

// OnVLAN returns a Source that runs the one which open makes on the VLAN
// for voice of cfg.Interface (IEEE 802.1Q), and again on another when the VLAN
// changes. open is given cfg with the name of the interface to use, such as
// eth0.42. The VLAN's interface is made and removed here.
func OnVLAN(cfg netlink.Config, v Config, open func(netlink.Config) (netlink.Source, error)) (netlink.Source, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	if v.VLAN < 0 || v.VLAN > lldp.MaxVLAN {
		return nil, fmt.Errorf("netlink: configure: VLAN %d is not in 1 to 4094", v.VLAN)
	}
	if len(cfg.Interface)+len(".4094") >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("netlink: configure: the name %s is too long for a VLAN of it", cfg.Interface)
	}
	if v.Wait == 0 {
		v.Wait = defaultWait
	}
	return &voice{
		cfg: cfg, want: v, open: open, make: makeVLAN, remove: removeVLAN,
		events: netlink.NewQueue(), hints: make(chan struct{}, 1), heard: make(chan []byte, 4),
	}, nil
}

// A voice runs a machine on a real interface.
type voice struct {
	cfg    netlink.Config
	want   Config
	open   func(netlink.Config) (netlink.Source, error)
	make   func(ifname string, vlan int) (string, error)
	remove func(name string) error

	events  *netlink.Queue
	machine machine
	link    link.State // below
	tap     *link.Tap  // hears the switch; nil: closed
	readers sync.WaitGroup
	hints   chan struct{}
	heard   chan []byte

	mu     sync.Mutex
	placed *placed // where the phone is; nil: nowhere. Others than Run read it under mu
	shun   bool    // its routes are to come after others'
}

// Next implements netlink.Source.
func (v *voice) Next(ctx context.Context) (netlink.Event, error) { return v.events.Next(ctx) }

// Doubt passes a doubt on.
func (v *voice) Doubt() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.placed != nil {
		netlink.Doubt(v.placed.source)
	}
}

// Shun passes it on, to the Source of this VLAN and of those to come.
func (v *voice) Shun(yes bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shun = yes
	return v.placed == nil || netlink.Shun(v.placed.source, yes)
}

// Run implements netlink.Source.
func (v *voice) Run(ctx context.Context) error {
	h, err := link.OpenHinter(unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	v.readers.Go(func() { h.Run(inner, v.hints) })
	v.machine = newMachine(time.Now(), v.want.VLAN, v.want.Wait)
	err = errors.Join(v.loop(ctx), v.leave())
	cancel()
	v.closeTap()
	v.readers.Wait()
	return err
}

// loop hands the machine what happens, until the end.
func (v *voice) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	err := v.look(ctx)
	for err == nil {
		now := time.Now()
		if d := v.machine.deadline(now); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(d.Sub(now))
		}
		events, ended := v.placed.tells()
		select {
		case <-ctx.Done():
			return v.step(ctx, stopped{})
		case <-ended:
			if ctx.Err() != nil {
				return v.step(ctx, stopped{})
			}
			return nil // leave says why
		case <-timer.C:
			err = v.step(ctx, tick{})
		case <-v.hints:
			err = v.look(ctx)
		case b := <-v.heard:
			if says, parseErr := lldp.Parse(b); parseErr == nil {
				err = v.step(ctx, says)
			}
		case e := <-events:
			err = v.step(ctx, told{e})
		}
	}
	return err
}

// look reads the state of the interfaces again.
func (v *voice) look(ctx context.Context) error {
	l, err := link.Read(v.cfg.Interface)
	if err != nil {
		return err
	}
	if l.Index != v.link.Index {
		v.closeTap()
		if l.Index != 0 && !l.Enabled {
			if err := link.Enable(l.Index); err != nil && !link.IsGone(err) {
				return err
			}
		}
	}
	v.link = l
	if err := v.listen(); err != nil {
		return err
	}
	if err := v.step(ctx, below{index: l.Index, up: l.Running, changes: l.Changes}); err != nil {
		return err
	}
	if l.Index == 0 || v.placed == nil || v.placed.vlan == 0 {
		return nil
	}
	if own, err := link.Read(v.placed.name); err == nil && own.Index == 0 {
		return v.step(ctx, vanished{})
	}
	return nil
}

// listen opens the tap that hears the switch.
func (v *voice) listen() error {
	if !v.link.Running || v.tap != nil || v.want.VLAN != 0 {
		return nil
	}
	t, err := link.OpenTap(v.link.Index, lldp.EtherType, link.All(), v.heard)
	if link.IsGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.Join(lldp.Group()); err != nil {
		v.cfg.Log.Debug("cannot listen to the switch", "error", err)
	}
	v.tap = t
	v.readers.Go(t.Read)
	return nil
}

func (v *voice) closeTap() {
	if v.tap != nil {
		v.tap.Close()
		v.tap = nil
	}
}

// step runs the machine, and then what it wants done. A move that this kernel cannot
// make is a further input.
func (v *voice) step(ctx context.Context, in any) (failed error) {
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, a := range v.machine.step(time.Now(), inputs[0]) {
			switch a := a.(type) {
			case move:
				err := v.move(ctx, a.vlan)
				if errors.Is(err, errNoVLAN) {
					inputs = append(inputs, notMade{err})
				} else {
					failed = errors.Join(failed, err)
				}
			case leave:
				failed = errors.Join(failed, v.leave())
			case introduce:
				v.introduce(a)
			case tell:
				v.events.Push(a.event)
			case lament:
				v.cfg.Log.Error("this kernel makes no VLAN, staying on the untagged network", "vlan", a.vlan, "error", a.err)
				if v.want.Failed != nil {
					v.want.Failed(fmt.Errorf("netlink: this kernel makes no VLAN %d, staying on the untagged network: %w", a.vlan, a.err))
				}
			}
		}
	}
	return failed
}

// introduce tells the switch what this is.
func (v *voice) introduce(a introduce) {
	if v.tap == nil {
		return
	}
	says := lldp.Telephone(v.link.MAC, v.cfg.Hostname, lldpLife, a.policy, a.known)
	if err := v.tap.Send(says, lldp.Group()); err != nil {
		v.cfg.Log.Debug("cannot speak to the switch", "error", err)
	}
}

// errNoVLAN: the interface of a VLAN cannot be made.
var errNoVLAN = errors.New("netlink: no VLAN")

// move leaves the VLAN in use and runs the Source on another.
func (v *voice) move(ctx context.Context, vlan int) error {
	if err := v.leave(); err != nil {
		v.cfg.Log.Warn("cannot leave a VLAN in order", "error", err)
	}
	v.cfg.Log.Info("using", "vlan", vlan)
	cfg := v.cfg
	if vlan != 0 {
		name, err := v.make(cfg.Interface, vlan)
		if err != nil {
			return errors.Join(errNoVLAN, err)
		}
		cfg.Interface = name
	}
	source, err := v.open(cfg)
	if err != nil {
		return err
	}
	v.setPlaced(run(ctx, source, vlan, cfg.Interface))
	return nil
}

// leave ends the Source, and removes the interface that was made for it.
func (v *voice) leave() error {
	p := v.placed
	if p == nil {
		return nil
	}
	v.setPlaced(nil)
	err := p.end()
	if p.vlan != 0 {
		err = errors.Join(err, v.remove(p.name))
	}
	return err
}

func (v *voice) setPlaced(p *placed) {
	v.mu.Lock()
	if v.placed = p; p != nil && v.shun {
		netlink.Shun(p.source, true)
	}
	v.mu.Unlock()
}
