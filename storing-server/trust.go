package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"flexphone/storing-server/internal/dns"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// numberRest is for how long a freed number rests, unless the operator says.
const numberRest = 30 * 24 * time.Hour

// TrustFlags say who may own a row, and who may ask for one.
type TrustFlags struct {
	Enrol   string  `help:"What a phone that nobody owns yet must bring: nothing (its first key owns it), a one-time token ('token new'), or a certificate issued by --ca." enum:"open,token,ca" default:"open"`
	CA      string  `name:"ca" help:"PEM file of the authorities that issue phones' certificates, for --enrol ca." placeholder:"FILE"`
	Resolve string  `help:"Who may ask where a phone is: enrolled phones, anyone, or nobody. DNS is anyone." enum:"enrolled,anyone,nobody" default:"enrolled"`
	Lookups float64 `help:"How many of them a client may ask for each second in the long run, a minute's worth at once; 0: as many as it likes." default:"2" placeholder:"N"`
}

// policy returns what the flags say.
func (f TrustFlags) policy() (trust.Policy, error) {
	p := trust.Policy{Enrol: trust.Enrolment(f.Enrol), Resolve: trust.Resolution(f.Resolve)}
	switch {
	case f.Lookups < 0 || f.Lookups > 1e6:
		return p, &usageError{fmt.Sprintf("--lookups=%v: want 0 to 1000000", f.Lookups)}
	case f.Lookups > 0:
		p.Lookups = trust.NewLookups(f.Lookups)
	}
	switch {
	case p.Enrol == trust.EnrolCA && f.CA == "":
		return p, &usageError{"--enrol=ca: name the authorities' certificates with --ca=FILE"}
	case p.Enrol != trust.EnrolCA && f.CA != "":
		return p, &usageError{"--ca: of use only with --enrol=ca"}
	case f.CA != "":
		var err error
		if p.Authorities, err = trust.LoadAuthorities(f.CA); err != nil {
			return p, err
		}
	}
	return p, nil
}

// SIPFlags say where standard phones are answered.
type SIPFlags struct {
	SIP     string `name:"sip" help:"UDP and TCP address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPTLS  string `name:"sip-tls" help:"TLS address for standard SIP phones; none by default." placeholder:"[HOST]:PORT"`
	SIPCert string `name:"sip-cert" help:"PEM file of the certificate and its chain for --sip-tls; the server's own by default." placeholder:"FILE"`
	SIPKey  string `name:"sip-key" help:"PEM file of the key of --sip-cert." placeholder:"FILE"`
}

// open listens; nil when nothing was asked for.
func (f SIPFlags) open(ctx context.Context, own tls.Certificate, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*sip.Server, error) {
	if (f.SIPCert == "") != (f.SIPKey == "") {
		return nil, &usageError{"--sip-cert and --sip-key: want both or neither"}
	}
	if f.SIPCert != "" {
		if f.SIPTLS == "" {
			return nil, &usageError{"--sip-cert: of use only with --sip-tls"}
		}
		var err error
		if own, err = tls.LoadX509KeyPair(f.SIPCert, f.SIPKey); err != nil {
			return nil, fmt.Errorf("read --sip-cert: %w", err)
		}
	}
	if f.SIP == "" && f.SIPTLS == "" {
		return nil, nil
	}
	return sip.Listen(ctx, sip.Options{Listen: f.SIP, TLS: f.SIPTLS, Cert: own, Policy: p, Rows: rows, Log: log, Count: m.sipRequest})
}

// DNSFlags say where DNS is answered.
type DNSFlags struct {
	DNS  string `name:"dns" help:"UDP and TCP address for DNS; none by default." placeholder:"[HOST]:PORT"`
	Zone string `help:"Domain that --dns answers for: A, AAAA, SRV and NAPTR of <MAC or number>.ZONE." placeholder:"ZONE"`
}

// open listens; nil when nothing was asked for.
func (f DNSFlags) open(ctx context.Context, rows *store.Store, p trust.Policy, m *metrics, log *slog.Logger) (*dns.Server, error) {
	if (f.DNS == "") != (f.Zone == "") {
		return nil, &usageError{"--dns and --zone: want both or neither"}
	}
	if f.DNS == "" {
		return nil, nil
	}
	if !p.May(false) {
		log.Warn("DNS answers no lookups: who asks is not enrolled", "resolve", string(p.Resolve), "hint", "--resolve anyone")
	}
	return dns.Listen(ctx, dns.Options{Listen: f.DNS, Zone: f.Zone, Rows: rows, Policy: p, Log: log, Count: m.dnsQuery})
}

// A service is a part that was asked for, and listens already.
type service struct {
	name  string
	at    string
	serve func(context.Context) error
}

// services opens the ports that were asked for, all or none of them.
func (c *RunCmd) services(ctx context.Context, own tls.Certificate, rows *store.Store, p trust.Policy, m *metrics, changed *relay, log *slog.Logger) (out []service, err error) {
	var opened []interface{ Close() }
	defer func() {
		if err != nil {
			for _, o := range opened {
				o.Close()
			}
		}
	}()
	operator, err := c.HTTPFlags.open(ctx, c.Data.Data, rows, m, log)
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
	phones, err := c.SIPFlags.open(ctx, own, rows, p, m, log)
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
			s := service{name: names[i], at: a.String()}
			if i == 0 {
				s.serve = phones.Serve
			}
			out = append(out, s)
		}
	}
	names, err := c.DNSFlags.open(ctx, rows, p, m, log)
	if err != nil {
		return nil, hint(err)
	}
	if names != nil {
		out = append(out, service{"dns", names.Addr().String(), names.Serve})
	}
	return out, nil
}

// hint says what to do about a port.
func hint(err error) error {
	var usage *usageError
	if errors.As(err, &usage) {
		return err
	}
	return fmt.Errorf("%w (is something else there? a port below 1024 needs CAP_NET_BIND_SERVICE)", err)
}
