package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/dns"
	"flexphone/storing-server/internal/quality"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
	"flexphone/storing-server/internal/turn"
	"flexphone/storing-server/internal/web"
)

// HTTPFlags say where the operator's pages are.
type HTTPFlags struct {
	HTTP      string `name:"http" help:"TCP address for the operator's pages, the JSON API, metrics and health; none by default. By TLS, unless it is a loopback address." placeholder:"[HOST]:PORT"`
	HTTPCert  string `name:"http-cert" help:"PEM file of the certificate and its chain for --http; by default the server signs one itself." placeholder:"FILE"`
	HTTPKey   string `name:"http-key" help:"PEM file of the key of --http-cert." placeholder:"FILE"`
	Health    string `name:"health" help:"TCP address for metrics and health alone, without TLS, where nobody who floods the pages is in the way; none by default." placeholder:"[HOST]:PORT"`
	HTTPProxy bool   `name:"http-proxy" help:"All of --http comes by a proxy: who tries to log in is the last address of its header X-Forwarded-For, which anybody can write where there is no proxy."`
}

// certificate reads the one of the operator's; nil: none.
func (f HTTPFlags) certificate() (*certificate, error) {
	if f.HTTP == "" && f.HTTPProxy {
		return nil, &usageError{"--http-proxy: of use only with --http"}
	}
	return openCertificate("--http", f.HTTPCert, f.HTTPKey, "--http", f.HTTP)
}

// open listens; nil when nothing was asked for.
func (f HTTPFlags) open(ctx context.Context, cert *certificate, beside wire.Beside, relay *turn.Server, own tls.Certificate, dir string, rows *store.Store, calls *quality.Book, pages *browsers, ready *web.Readiness, audit *trust.Audit, p trust.Policy, m *metrics, log *slog.Logger) (*web.Server, error) {
	if f.HTTP == "" {
		return nil, nil
	}
	o := web.Options{Listen: f.HTTP, Dir: dir, Key: fingerprint(own), Proxied: f.HTTPProxy, Exempt: p.Exempt, Waiting: p.Waiting, Rows: rows, Calls: calls.Of, STUN: int(beside.STUN[0]), Caller: pages, Ring: pages.ring, Audit: audit.Append, Metrics: m.handler(), Ready: ready, Count: m.httpRequest, Log: log}
	if cert != nil {
		o.Cert = cert.get
	}
	if relay != nil {
		o.Relay = func(to wire.MAC) web.Relay {
			name, password := relay.Pass(to)
			return web.Relay{Port: relay.Port(), Name: name, Password: password}
		}
	}
	return web.Listen(ctx, o)
}

// SIPFlags say where standard phones are answered.
type SIPFlags struct {
	SIP     string `name:"sip" help:"UDP and TCP address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPTLS  string `name:"sip-tls" help:"TLS address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPCert string `name:"sip-cert" help:"PEM file of the certificate and its chain for --sip-tls; the server's own by default." placeholder:"FILE"`
	SIPKey  string `name:"sip-key" help:"PEM file of the key of --sip-cert." placeholder:"FILE"`
}

// certificate reads the one of the operator's; nil: none.
func (f SIPFlags) certificate() (*certificate, error) {
	return openCertificate("--sip", f.SIPCert, f.SIPKey, "--sip-tls", f.SIPTLS)
}

// open listens; nil when nothing was asked for. Without a certificate of the
// operator's phones are shown own.
func (f SIPFlags) open(ctx context.Context, cert *certificate, own tls.Certificate, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*sip.Server, error) {
	if f.SIP == "" && f.SIPTLS == "" {
		return nil, nil
	}
	o := sip.Options{Listen: f.SIP, TLS: f.SIPTLS, Policy: p, Rows: rows, Log: log, Count: m.sipRequest}
	o.Cert = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }
	if cert != nil {
		o.Cert = cert.get
	}
	return sip.Listen(ctx, o)
}

// DNSFlags say where DNS is answered.
type DNSFlags struct {
	DNS  string `name:"dns" help:"UDP and TCP address for DNS; none by default." placeholder:"[HOST]:PORT"`
	Zone string `help:"Domain that --dns answers for: A, AAAA, SRV and NAPTR of <MAC or number>.ZONE." placeholder:"ZONE"`
	// NameServer are names whose addresses are to be found elsewhere.
	NameServer []string     `help:"Names of the zone's DNS servers, with commas between, as the parent zone has them; by default ns.ZONE." placeholder:"NAME"`
	NSAddress  []netip.Addr `name:"ns-address" help:"Addresses of ns.ZONE, with commas between, where others reach --dns; by default those of this machine." placeholder:"ADDRESS"`
}

func (f DNSFlags) check() error {
	switch {
	case (f.DNS == "") != (f.Zone == ""):
		return &usageError{"--dns and --zone: want both or neither"}
	case f.DNS == "" && len(f.NameServer)+len(f.NSAddress) > 0:
		return &usageError{"--name-server, --ns-address: of use only with --dns"}
	case len(f.NameServer) > 0 && len(f.NSAddress) > 0:
		return &usageError{"--name-server, --ns-address: want one of them, since names elsewhere have their addresses there"}
	case f.DNS == "":
		return nil
	}
	if err := dns.CheckNames(f.Zone, f.NameServer); err != nil {
		return &usageError{err.Error()}
	}
	return nil
}

// open listens; nil when nothing was asked for.
func (f DNSFlags) open(ctx context.Context, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*dns.Server, error) {
	if f.DNS == "" {
		return nil, nil
	}
	if !p.May(false) {
		log.Warn("DNS answers no lookups: who asks is not enrolled", "resolve", string(p.Resolve), "hint", "--resolve anyone")
	}
	return dns.Listen(ctx, dns.Options{Listen: f.DNS, Zone: f.Zone, NameServers: f.NameServer, Addrs: f.NSAddress, Rows: rows, Policy: p, Log: log, Count: m.dnsQuery})
}

// A service is a part that was asked for, and listens already.
type service struct {
	name  string
	at    string
	serve func(context.Context) error
}

// services opens the ports that were asked for, all or none of them.
func (c *RunCmd) services(ctx context.Context, s settings, beside wire.Beside, own tls.Certificate, rows *store.Store, calls *quality.Book, pages *browsers, audit *trust.Audit, m *metrics, changed *relay, log *slog.Logger) (out []service, err error) {
	var opened []interface{ Close() }
	defer func() {
		if err != nil {
			for _, o := range opened {
				o.Close()
			}
		}
	}()
	ready := web.NewReadiness(rows, log)
	if c.Health != "" {
		health, err := web.ListenHealth(ctx, c.Health, m.handler(), ready, log)
		if err != nil {
			return nil, hint(err)
		}
		opened = append(opened, health)
		out = append(out, service{"health", health.Addr().String(), health.Serve})
	}
	relay, err := c.SoundFlags.turn(ctx, s, pages, log)
	if err != nil {
		return nil, hint(err)
	}
	if relay != nil {
		opened = append(opened, relay)
		out = append(out, service{"turn", relay.Addr().String(), relay.Serve})
	}
	operator, err := c.HTTPFlags.open(ctx, s.pages, beside, relay, own, c.Data.Data, rows, calls, pages, ready, audit, s.policy, m, log)
	if err != nil {
		return nil, hint(err)
	}
	if operator != nil {
		opened = append(opened, operator)
		changed.to(operator.Changed)
		out = append(out, service{"http", operator.URL(), operator.Serve})
		if f := operator.Fingerprint(); f != "" {
			out = append(out, service{name: "http-certificate", at: f})
		}
	}
	phones, err := c.SIPFlags.open(ctx, s.calls, own, rows, s.policy, m, log)
	if err != nil {
		return nil, hint(err)
	}
	if phones != nil {
		opened = append(opened, phones)
		names := []string{"sip", "sip-tls"}
		if c.SIP == "" {
			names = names[1:]
		}
		for i, a := range phones.Addrs() {
			one := service{name: names[i], at: a.String()}
			if i == 0 {
				one.serve = phones.Serve
			}
			out = append(out, one)
		}
	}
	names, err := c.DNSFlags.open(ctx, rows, s.policy, m, log)
	if err != nil {
		return nil, hint(err)
	}
	if names != nil {
		out = append(out, service{"dns", names.Addr().String(), names.Serve})
	}
	return out, nil
}

// checkAddress wants a flag to say where to listen, or nothing.
func checkAddress(flag, at string) error {
	if at == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(at)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return &usageError{fmt.Sprintf("%s=%s: want [HOST]:PORT, such as :5060 or 192.0.2.1:5060", flag, at)}
	}
	return nil
}

// hint says what to do about a port that cannot be had.
func hint(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w (is something else there? stop it, or choose another port)", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w (a port below 1024 needs CAP_NET_BIND_SERVICE)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w (no interface has this address; without one it listens at all of them)", err)
	}
	return err
}
