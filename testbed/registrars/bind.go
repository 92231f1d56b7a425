package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"flexphone/internal/usage"
)

const (
	bindZone   = "phones.example."
	bindWindow = 64
	// dnsHeader is a message's shortest, RFC 1035 section 4.1.1.
	dnsHeader = 12
)

const bindConfig = `options {
	directory "%[1]s";
	pid-file "%[1]s/pid";
	listen-on port %[2]d { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify no;
};
controls { };
zone "%[3]s" {
	type master;
	file "%[1]s/zone";
	allow-update { 127.0.0.1; };
};
`

const bindFile = `$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
`

// bind measures BIND with RFC 2136 updates, each of which replaces an address.
func bind(ctx context.Context, o options, r *report) error {
	dir, err := os.MkdirTemp(o.dir, "bind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "named.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, bindConfig, dir, port, bindZone), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "zone"), []byte(bindFile), 0o600); err != nil {
		return err
	}
	d, err := startDaemon("", "/usr/sbin/named", "-g", "-c", conf)
	if err != nil {
		return err
	}
	defer d.stop()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	updates := dialect{request: dnsReplace, answer: dnsAnswer}
	if err := d.await(ctx, func(ctx context.Context) error {
		t, err := askPeer(ctx, addr, updates, 1, 0, 1, 0, true)
		if err == nil && len(t.times) == 0 {
			err = fmt.Errorf("no answer to an update, %d refusals", t.refused)
		}
		return err
	}); err != nil {
		return err
	}
	used := func() time.Duration { return usage.Of(d.cmd.Process.Pid).CPU }
	for _, load := range []struct {
		request string
		d       dialect
	}{
		{dnsUpdate, updates},
		{dnsQuery, dialect{request: dnsAsk, answer: dnsAnswer}},
	} {
		l, err := peerLoad(ctx, addr, load.d, bindWindow, o.time, used)
		if err != nil {
			return err
		}
		l.Server, l.Request, l.Durable, l.lookup = "BIND", load.request, load.request == dnsUpdate, load.request == dnsQuery
		r.loads = append(r.loads, l)
	}
	return nil
}

func dnsName(name int) string { return "p" + strconv.Itoa(name) + "." + bindZone }

func dnsReplace(id uint16, name int) ([]byte, error) {
	m := new(dns.Msg)
	m.SetUpdate(bindZone)
	m.Id = id
	a := &dns.A{
		Hdr: dns.RR_Header{Name: dnsName(name), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A:   addressOf(name, id).AsSlice(),
	}
	m.RemoveRRset([]dns.RR{a})
	m.Insert([]dns.RR{a})
	return m.Pack()
}

// dnsAsk asks for the zone's own address: which name it is makes no difference
// to a server that has its zone in memory, and this one is always there.
func dnsAsk(id uint16, _ int) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion("ns."+bindZone, dns.TypeA)
	m.Id = id
	return m.Pack()
}

func dnsAnswer(b []byte) (uint16, bool, bool) {
	if len(b) < dnsHeader {
		return 0, false, false
	}
	return binary.BigEndian.Uint16(b), true, b[3]&0xf == dns.RcodeSuccess
}
