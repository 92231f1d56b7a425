package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/parts"
	"flexphone/netlink"
	"flexphone/netlink/linklocal"
	"flexphone/netlink/prefer"
	"flexphone/netlink/voice"
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
func openNetwork(settings config.Config, trace func(sent bool, message []byte), granted func(), failed func(part string, err error), log *slog.Logger) (netlink.Source, error) {
	main := netlink.Config{
		Interface: settings.Interface, LeaseFile: filepath.Join(settings.Data, "lease"),
		ResolvConf: resolvConf(settings.Address), FullCheck: settings.Address.Conflict == "full", Trace: trace, Granted: granted, Log: log,
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

// agent is whoever gets this phone its address. It runs before anything else of the
// phone is made: a server takes a millisecond to answer, and so does making the rest.
type agent struct {
	settings config.Config
	source   parts.Slot[netlink.Source]
	network  parts.Slot[*network] // what follows its events, once it is made
	granted  *headStart           // over when a server grants an address
	first    *headStart           // over with the first event
	keeper   *parts.Keeper
	trace    func(sent bool, message []byte) // as in netlink.Config
	log      *slog.Logger
}

// run is one life of the address agent, and of what follows it. Call control is
// told until upper is done, which is before.
func (a *agent) run(upper context.Context) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		source, err := openNetwork(a.settings, a.trace, a.granted.end, func(part string, err error) { a.keeper.Failed(upper, part, err) }, a.log)
		if err != nil {
			return err
		}
		a.source.Set(source)
		life, end := context.WithCancel(ctx)
		var follower sync.WaitGroup
		follower.Go(func() { a.follow(life, upper, source, works) })
		err = source.Run(ctx)
		end()
		follower.Wait()
		if n, ok := a.network.Now(); ok && ctx.Err() == nil {
			n.died(upper)
		}
		return err
	}
}

// follow passes events on until ctx is done. With the first one the agent works.
func (a *agent) follow(ctx, upper context.Context, source netlink.Source, works func()) {
	for {
		e, err := source.Next(ctx)
		if err != nil {
			return
		}
		works()
		a.granted.end()
		a.first.end()
		n, _, err := a.network.Get(ctx)
		if err != nil {
			return
		}
		n.take(upper, e)
	}
}
