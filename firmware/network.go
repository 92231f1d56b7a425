package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	"flexphone/netlink"
	registry "flexphone/registry-client"
)

// srvWait bounds one search for the storing server in the DNS.
const srvWait = 5 * time.Second

// resolvConf is where name servers are written for the rest of the system.
const resolvConf = "/etc/resolv.conf"

// openNetwork returns whoever gives this phone its address: of one interface, or
// of the better of two that has one.
func openNetwork(settings config.Config, log *slog.Logger) (netlink.Source, error) {
	main := netlink.Config{
		Interface: settings.Interface, LeaseFile: filepath.Join(settings.Data, "lease"),
		ResolvConf: resolvConf, FullCheck: settings.Address.Conflict == "full", Log: log,
	}
	if settings.Fallback == "" {
		return openInterface(main, settings.Address)
	}
	other := main
	other.Interface, other.LeaseFile = settings.Fallback, filepath.Join(settings.Data, "lease.fallback")
	main.ResolvConf, other.ResolvConf = "", "" // Prefer writes it
	main.Metric, other.Metric = 100, 200
	best, err := openInterface(main, settings.Address)
	if err != nil {
		return nil, err
	}
	next, err := openInterface(other, config.Address{Source: "dhcp", Conflict: settings.Address.Conflict})
	if err != nil {
		return nil, err
	}
	return netlink.Prefer(resolvConf, log, best, next)
}

func openInterface(cfg netlink.Config, a config.Address) (netlink.Source, error) {
	open := func(cfg netlink.Config) (netlink.Source, error) { return openSource(cfg, a) }
	if a.VLAN == "" {
		return open(cfg)
	}
	return netlink.OnVoiceVLAN(cfg, netlink.Voice{VLAN: a.VLANID()}, open)
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
		four, err = netlink.WithLinkLocal(inner, four)
	}
	if err != nil {
		return nil, err
	}
	return netlink.WithIPv6(cfg, four)
}

// network carries lease events to the storing server and to call control: the
// first arrow of the method.
type network struct {
	source      netlink.Source
	server      *registry.Client
	announcer   *registry.Announcer
	phone       *phone.Phone
	self        *self
	events      *control.Events
	fixedServer bool           // the settings name the storing server
	nameless    bool           // the lease names no storing server, which was said
	boot        *poweron.Chain // nil: this program is not what the machine was switched on for
	log         *slog.Logger
}

// follow passes events on until ctx is done. Call control is told until upper
// is, which ends before.
func (n *network) follow(ctx, upper context.Context) error {
	var searches sync.WaitGroup
	defer searches.Wait()
	stopSearch := func() {}
	defer func() { stopSearch() }()
	for {
		e, err := n.source.Next(ctx)
		if err != nil {
			return err
		}
		stopSearch()
		searchCtx, cancel := context.WithCancel(ctx)
		stopSearch = cancel
		n.tell(e)
		switch e.Kind {
		case netlink.Bound, netlink.Renewed:
			before := n.self.hold(e.Lease)
			if before.Addr().IsValid() && before.Addr() != e.Lease.Addr() {
				n.events.Publish("address.changed", slog.String("address", e.Lease.Addr().String()), slog.String("was", before.Addr().String()))
			}
			n.findServer(searchCtx, &searches, e.Lease)
			n.announcer.Update(e)
			n.phone.NetworkUp(upper, e.Lease.Addr())
			if n.boot != nil {
				n.boot.Reached("lease")
			}
		case netlink.Lost:
			n.self.hold(netlink.Lease{})
			n.announcer.Update(e)
			n.phone.NetworkDown(upper, e.Reason)
		}
	}
}

// findServer points the client at the storing server that the network names.
// Only when the lease does not is the DNS asked, beside what goes on.
func (n *network) findServer(ctx context.Context, searches *sync.WaitGroup, l netlink.Lease) {
	said := n.nameless
	n.nameless = !n.fixedServer && len(l.StoringServers) == 0 && len(l.Domains) == 0
	switch {
	case n.fixedServer:
	case len(l.StoringServers) > 0:
		if err := n.server.SetServer(l.StoringServers[0]); err != nil {
			n.log.Warn("the network names no usable storing server", "err", err)
		}
	case len(l.Domains) > 0:
		searches.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, srvWait)
			defer cancel()
			server, err := lookupServer(ctx, l)
			if err != nil {
				n.log.Warn("no storing server found; set `storing_server`, or DHCP option 66", "err", err)
				return
			}
			if err := n.server.SetServer(server); err != nil {
				n.log.Warn("the DNS names no usable storing server", "err", err)
			}
		})
	case !said:
		n.log.Warn("the network names no storing server; set `storing_server`, or DHCP option 66")
	}
}

// lookupServer asks the lease's DNS servers for the SRV records of CoAP over
// DTLS in its domain (RFC 2782; the service name is that of RFC 7252, 12.8).
func lookupServer(ctx context.Context, l netlink.Lease) (string, error) {
	var d net.Dialer
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if len(l.DNS) > 0 {
			address = netip.AddrPortFrom(l.DNS[0], 53).String()
		}
		return d.DialContext(ctx, network, address)
	}}
	_, records, err := r.LookupSRV(ctx, "coaps", "udp", l.Domains[0])
	if err != nil {
		return "", fmt.Errorf("flexphone: find storing server of %s: %w", l.Domains[0], err)
	}
	if len(records) == 0 {
		return "", fmt.Errorf("flexphone: find storing server of %s: no record", l.Domains[0])
	}
	var servers []string // in the order to try them
	for _, r := range records {
		servers = append(servers, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	return strings.Join(servers, ","), nil
}

// tell publishes a lease event under its name.
func (n *network) tell(e netlink.Event) {
	attrs := []slog.Attr{slog.String("address", e.Lease.Addr().String())}
	if e.Kind == netlink.Lost {
		attrs = append(attrs, slog.String("reason", e.Reason))
	} else {
		attrs = append(attrs, slog.String("prefix", e.Lease.Prefix.String()), slog.String("router", textOf(e.Lease.Router)),
			slog.String("server", textOf(e.Lease.Server)), slog.Time("expiry", e.Lease.Expiry))
	}
	n.events.Publish(e.Kind.String(), attrs...)
	n.log.Info(e.Kind.String(), "address", e.Lease.Addr(), "reason", e.Reason)
}

// textOf is a's text, empty when there is none.
func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
