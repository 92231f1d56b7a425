package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	rtnl "github.com/vishvananda/netlink"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	"flexphone/netlink"
	"flexphone/netlink/linklocal"
	"flexphone/netlink/prefer"
	"flexphone/netlink/voice"
	registry "flexphone/registry-client"
)

// resolvConf is where name servers are written for the rest of the system, where
// that is wanted; empty: nowhere. The phone itself asks those of its lease.
func resolvConf(a config.Address) string {
	if a.ResolvConf == nil || !*a.ResolvConf {
		return ""
	}
	return "/etc/resolv.conf"
}

// openNetwork returns whoever gives this phone its address: of one interface, or
// of the better of two that has one.
// failed is told of what it does without.
func openNetwork(settings config.Config, trace func(sent bool, message []byte), failed func(part string, err error), log *slog.Logger) (netlink.Source, error) {
	main := netlink.Config{
		Interface: settings.Interface, LeaseFile: filepath.Join(settings.Data, "lease"),
		ResolvConf: resolvConf(settings.Address), FullCheck: settings.Address.Conflict == "full", Trace: trace, Log: log,
	}
	if settings.Fallback == "" {
		return openInterface(main, settings.Address, failed)
	}
	other := main
	other.Interface, other.LeaseFile = settings.Fallback, filepath.Join(settings.Data, "lease.fallback")
	main.ResolvConf, other.ResolvConf = "", "" // prefer writes it
	main.Metric, other.Metric = 100, 200
	best, err := openInterface(main, settings.Address, failed)
	if err != nil {
		return nil, err
	}
	next, err := openInterface(other, config.Address{Source: "dhcp", Conflict: settings.Address.Conflict}, failed)
	if err != nil {
		return nil, err
	}
	return prefer.New(resolvConf(settings.Address), log, best, next)
}

func openInterface(cfg netlink.Config, a config.Address, failed func(part string, err error)) (netlink.Source, error) {
	open := func(cfg netlink.Config) (netlink.Source, error) { return openSource(cfg, a) }
	if a.VLAN == "" {
		return open(cfg)
	}
	return voice.OnVLAN(cfg, voice.Config{VLAN: a.VLANID(), Failed: func(err error) { failed("voice VLAN", err) }}, open)
}

func openSource(cfg netlink.Config, a config.Address) (netlink.Source, error) {
	var four netlink.Source
	var err error
	switch a.Source {
	case "watch":
		if a.Link != "" { // made by who dials in, on Interface
			cfg.Interface = a.Link
		}
		if four, err = netlink.Watch(cfg); err != nil {
			return nil, err
		}
		return netlink.WatchIPv6(cfg, four)
	case "static":
		return netlink.Static(cfg, netlink.Fixed{Prefix: a.Prefix, Router: a.Router, DNS: a.DNS})
	}
	inner := cfg
	inner.ResolvConf, inner.OnlyIPv6 = "", a.OnlyIPv6
	if four, err = netlink.NewClient(inner); err == nil && a.LinkLocal {
		four, err = linklocal.Beside(inner, four)
	}
	if err != nil {
		return nil, err
	}
	return netlink.WithIPv6(cfg, four)
}

// network carries lease events to the storing server and to call control: the
// first arrow of the method.
type network struct {
	settings config.Config
	self     *self
	finder   *finder.Finder
	resolver *finder.Resolver
	storing  *storing
	phone    *phone.Phone
	source   parts.Slot[netlink.Source]
	events   *control.Events
	boot     *poweron.Chain // nil: this program is not what the machine was switched on for
	first    *headStart     // over with the first event
	keeper   *parts.Keeper
	trace    func(sent bool, message []byte) // as in netlink.Config
	log      *slog.Logger
}

// run is one life of the address agent, and of what follows it. Call control is
// told until upper is done, which is before.
func (n *network) run(upper context.Context) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		source, err := openNetwork(n.settings, n.trace, func(part string, err error) { n.keeper.Failed(upper, part, err) }, n.log)
		if err != nil {
			return err
		}
		n.source.Set(source)
		life, end := context.WithCancel(ctx)
		var follower sync.WaitGroup
		follower.Go(func() { n.follow(life, upper, source, works) })
		err = source.Run(ctx)
		end()
		follower.Wait()
		if l := n.self.held(); ctx.Err() == nil && l.Prefix.IsValid() { // it died with its address
			n.take(upper, netlink.Event{Kind: netlink.Lost, Lease: l, Reason: "failed", At: time.Now()})
		}
		return err
	}
}

// follow passes events on until ctx is done. With the first one the agent works.
func (n *network) follow(ctx, upper context.Context, source netlink.Source, works func()) {
	for {
		e, err := source.Next(ctx)
		if err != nil {
			return
		}
		works()
		n.take(upper, e)
	}
}

// take is what an event means to the rest of the phone.
func (n *network) take(upper context.Context, e netlink.Event) {
	n.first.end()
	n.tell(e)
	if e.Kind == netlink.Lost {
		n.self.hold(netlink.Lease{})
		n.storing.update(e)
		n.phone.NetworkDown(upper, e.Reason)
		return
	}
	before := n.self.hold(e.Lease)
	if before.Addr().IsValid() && before.Addr() != e.Lease.Addr() {
		n.events.Publish(events.AddressChanged{Address: e.Lease.Addr().String(), Was: before.Addr().String()})
	}
	otherDNS := n.resolver.Use(e.Lease.DNS, e.Lease.Domains)
	n.finder.SetNetwork(finder.Network{Named: e.Lease.StoringServers, Domains: e.Lease.Domains})
	n.storing.update(e)
	if otherDNS || e.Kind == netlink.Bound { // what was not found may be there now
		n.finder.Again()
		n.storing.again()
	}
	if n.boot != nil {
		n.boot.Reached("lease")
	}
	n.phone.NetworkUp(upper, e.Lease.Addr(), e.Lease.Addrs()[1:]...)
}

// doubt tells the agent that a server has not taken an announcement: the network may be
// another one. Where a server is known and nothing came back from it, the line may be
// dead, as where name servers that may know one say nothing; a phone that needs none is
// called by its address, and does not leave it.
func (n *network) doubt(server string, err error) {
	source, ok := n.source.Now()
	if !ok {
		return
	}
	netlink.Doubt(source)
	var busy *registry.BusyError
	if (server != "" || n.finder.Mute()) && errors.Is(err, registry.ErrUnreachable) && !errors.As(err, &busy) {
		netlink.Unreached(source)
	}
}

// reached tells the agent that the storing server answers.
func (n *network) reached() {
	if source, ok := n.source.Now(); ok {
		netlink.Reached(source)
	}
}

// tell publishes a lease event under its name.
func (n *network) tell(e netlink.Event) {
	lease := events.Lease{
		Address: e.Lease.Addr().String(), Prefix: e.Lease.Prefix.String(), Router: textOf(e.Lease.Router),
		Server: textOf(e.Lease.Server), Expiry: e.Lease.Expiry,
	}
	switch e.Kind {
	case netlink.Bound:
		n.events.Publish(events.LeaseBound{Lease: lease})
	case netlink.Renewed:
		n.events.Publish(events.LeaseRenewed{Lease: lease})
	case netlink.Lost:
		n.events.Publish(events.LeaseLost{Address: lease.Address, Reason: e.Reason})
	}
	n.log.Info(e.Kind.String(), "address", e.Lease.Addr(), "reason", e.Reason)
}

// textOf is a's text, empty when there is none.
func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// awaitMAC waits for the network interface, whose MAC is the phone's permanent
// number: a USB adapter comes when it comes. missing is told why there is none yet.
func awaitMAC(ctx context.Context, ifname string, missing func(error)) (netlink.MAC, error) {
	if mac, err := macOf(ifname); err == nil {
		return mac, nil
	}
	links, done := make(chan rtnl.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	if err := rtnl.LinkSubscribe(links, done); err != nil {
		return netlink.MAC{}, fmt.Errorf("flexphone: watch network interfaces: %w", err)
	}
	for {
		mac, err := macOf(ifname)
		if err == nil {
			return mac, nil
		}
		missing(err)
		select {
		case _, ok := <-links:
			if !ok {
				return netlink.MAC{}, fmt.Errorf("flexphone: watch network interfaces: the kernel has ended it, and %w", err)
			}
		case <-ctx.Done():
			return netlink.MAC{}, ctx.Err()
		}
	}
}

// macOf returns the permanent number of the phone: the MAC of its interface.
func macOf(ifname string) (netlink.MAC, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netlink.MAC{}, fmt.Errorf("flexphone: find network interface %q: %w; set `interface` to one that `ip link` lists", ifname, err)
	}
	if len(ifi.HardwareAddr) != len(netlink.MAC{}) {
		return netlink.MAC{}, fmt.Errorf("flexphone: network interface %q has no MAC address; set `interface` to an Ethernet or Wi-Fi one", ifname)
	}
	return netlink.MAC(ifi.HardwareAddr), nil
}
