package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/dns"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
	"flexphone/storing-server/internal/web"
)

// HTTPFlags say where the operator's pages are.
type HTTPFlags struct {
	HTTP     string `name:"http" help:"TCP address for the operator's pages, the JSON API, metrics and health; none by default. By TLS, unless it is a loopback address." placeholder:"[HOST]:PORT"`
	HTTPCert string `name:"http-cert" help:"PEM file of the certificate and its chain for --http; by default the server signs one itself." placeholder:"FILE"`
	HTTPKey  string `name:"http-key" help:"PEM file of the key of --http-cert." placeholder:"FILE"`
	// HTTPProxy is a matter of trust: without a proxy anybody writes that header.
	HTTPProxy bool `name:"http-proxy" help:"All of --http comes by a proxy: who tries to log in is the last address of its header X-Forwarded-For."`
}

// open listens; nil when nothing was asked for. The certificate is nil unless
// the operator has named one.
func (f HTTPFlags) open(ctx context.Context, dir string, rows *store.Store, m *metrics, log *slog.Logger) (*web.Server, *certificate, error) {
	cert, err := openCertificate("--http", f.HTTPCert, f.HTTPKey, "--http", f.HTTP)
	switch {
	case err != nil:
		return nil, nil, err
	case f.HTTP == "" && f.HTTPProxy:
		return nil, nil, &usageError{"--http-proxy: of use only with --http"}
	case f.HTTP == "":
		return nil, nil, nil
	}
	o := web.Options{Listen: f.HTTP, Dir: dir, Proxied: f.HTTPProxy, Rows: rows, Metrics: m.handler(), Count: m.httpRequest, Log: log}
	if cert != nil {
		o.Cert = cert.get
	}
	s, err := web.Listen(ctx, o)
	return s, cert, err
}

// SIPFlags say where standard phones are answered.
type SIPFlags struct {
	SIP     string `name:"sip" help:"UDP and TCP address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPTLS  string `name:"sip-tls" help:"TLS address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPCert string `name:"sip-cert" help:"PEM file of the certificate and its chain for --sip-tls; the server's own by default." placeholder:"FILE"`
	SIPKey  string `name:"sip-key" help:"PEM file of the key of --sip-cert." placeholder:"FILE"`
}

// open listens; nil when nothing was asked for. The certificate is nil unless
// the operator has named one: then phones are shown own.
func (f SIPFlags) open(ctx context.Context, own tls.Certificate, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*sip.Server, *certificate, error) {
	cert, err := openCertificate("--sip", f.SIPCert, f.SIPKey, "--sip-tls", f.SIPTLS)
	switch {
	case err != nil:
		return nil, nil, err
	case f.SIP == "" && f.SIPTLS == "":
		return nil, nil, nil
	}
	o := sip.Options{Listen: f.SIP, TLS: f.SIPTLS, Cert: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }, Policy: p, Rows: rows, Log: log, Count: m.sipRequest}
	if cert != nil {
		o.Cert = cert.get
	}
	s, err := sip.Listen(ctx, o)
	return s, cert, err
}

// DNSFlags say where DNS is answered.
type DNSFlags struct {
	DNS  string `name:"dns" help:"UDP and TCP address for DNS; none by default." placeholder:"[HOST]:PORT"`
	Zone string `help:"Domain that --dns answers for: A, AAAA, SRV and NAPTR of <MAC or number>.ZONE." placeholder:"ZONE"`
	// NameServer are names whose addresses are to be found elsewhere.
	NameServer []string `help:"Names of the zone's DNS servers, with commas between, as the parent zone has them; by default ns.ZONE, whose address the parent zone has to give." placeholder:"NAME"`
}

// open listens; nil when nothing was asked for.
func (f DNSFlags) open(ctx context.Context, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*dns.Server, error) {
	switch {
	case (f.DNS == "") != (f.Zone == ""):
		return nil, &usageError{"--dns and --zone: want both or neither"}
	case f.DNS == "" && len(f.NameServer) > 0:
		return nil, &usageError{"--name-server: of use only with --dns"}
	case f.DNS == "":
		return nil, nil
	}
	if !p.May(false) {
		log.Warn("DNS answers no lookups: who asks is not enrolled", "resolve", string(p.Resolve), "hint", "--resolve anyone")
	}
	s, err := dns.Listen(ctx, dns.Options{Listen: f.DNS, Zone: f.Zone, NameServers: f.NameServer, Rows: rows, Policy: p, Log: log, Count: m.dnsQuery})
	if errors.Is(err, wire.ErrInvalid) {
		return nil, &usageError{err.Error()}
	}
	return s, err
}

// A service is a part that was asked for, and listens already.
type service struct {
	name  string
	at    string
	serve func(context.Context) error
}

// services opens the ports that were asked for, all or none of them. files are
// what they were opened with.
func (c *RunCmd) services(ctx context.Context, own tls.Certificate, rows *store.Store, p trust.Policy, m *metrics, changed *relay, log *slog.Logger) (out []service, files []reloader, err error) {
	var opened []interface{ Close() }
	defer func() {
		if err != nil {
			for _, o := range opened {
				o.Close()
			}
		}
	}()
	operator, cert, err := c.HTTPFlags.open(ctx, c.Data.Data, rows, m, log)
	if err != nil {
		return nil, nil, hint(err)
	}
	if cert != nil {
		files = append(files, cert)
	}
	if operator != nil {
		opened = append(opened, operator)
		changed.to(operator.Changed)
		out = append(out, service{"http", operator.URL(), operator.Serve})
		if f := operator.Fingerprint(); f != "" {
			out = append(out, service{name: "http-certificate", at: f})
		}
	}
	phones, cert, err := c.SIPFlags.open(ctx, own, rows, p, m, log)
	if err != nil {
		return nil, nil, hint(err)
	}
	if cert != nil {
		files = append(files, cert)
	}
	if phones != nil {
		opened = append(opened, phones)
		names := []string{"sip", "sip-tls"}
		if c.SIP == "" {
			names = names[1:]
		}
		for i, a := range phones.Addrs() {
			s := service{name: names[i], at: a.String()}
			if i == 0 {
				s.serve = phones.Serve
			}
			out = append(out, s)
		}
	}
	names, err := c.DNSFlags.open(ctx, rows, p, m, log)
	if err != nil {
		return nil, nil, hint(err)
	}
	if names != nil {
		out = append(out, service{"dns", names.Addr().String(), names.Serve})
	}
	return out, files, nil
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
