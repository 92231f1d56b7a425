package netlink

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
)

// secondPool is another part of the ISP's network.
const secondPool = "10.77.0.80,10.77.0.80,2m"

func TestClientLeasesFromDnsmasq(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool, "--dhcp-option=option:dns-server,10.77.0.1", "--dhcp-option=option:domain-name,isp.example", "--dhcp-option=option:mtu,1400",
		"--dhcp-option=121,0.0.0.0/0,10.77.0.1,192.0.2.0/24,10.77.0.1")
	cfg := testConfig(t)
	granted := make(chan struct{}, 8)
	cfg.Granted = func() { granted <- struct{}{} }
	c := startClient(t, cfg)
	l := c.want(Bound).Lease
	assertInstalled(t, l)
	if len(granted) != 1 {
		t.Errorf("%d addresses were granted before the first was bound", len(granted))
	}
	if l.Prefix != netip.MustParsePrefix("10.77.0.50/24") || l.Router != netip.MustParseAddr("10.77.0.1") ||
		!slices.Equal(l.StoringServers, []string{"storing.example:5684"}) || !slices.Equal(l.Domains, []string{"isp.example"}) || l.MTU != 1400 ||
		l.MAC.String() != isptest.MAC || l.Interface != "eth0" || len(l.Routes) != 1 {
		t.Errorf("lease is %+v", l)
	}
	if !l.Start.Before(l.Renew) || !l.Renew.Before(l.Rebind) || !l.Rebind.Before(l.Expiry) {
		t.Errorf("times are %v, %v, %v, %v", l.Start, l.Renew, l.Rebind, l.Expiry)
	}
	if route := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(route, "via 10.77.0.1") {
		t.Errorf("the classless route is missing: %s", route)
	}
	if link := isptest.IP(t, "link", "show", "eth0"); !strings.Contains(link, "mtu 1400") {
		t.Errorf("the MTU is not set: %s", link)
	}
	isptest.Eventually(t, "resolv.conf is written", func() bool { // after the event: the disk may be slow
		b, _ := os.ReadFile(cfg.ResolvConf)
		return strings.Contains(string(b), "nameserver 10.77.0.1\n")
	})
	c.Stop()
	if e := c.want(Lost); e.Reason != "released" || e.Lease.Prefix != l.Prefix {
		t.Errorf("Lost %v because %q", e.Lease.Prefix, e.Reason)
	}
	i.WaitLog("DHCPRELEASE", "10.77.0.50", isptest.MAC)
	if _, err := os.Stat(cfg.ResolvConf); err == nil {
		t.Error("resolv.conf is left where there was none")
	}
	if addrs := isptest.IP(t, "-4", "address", "show", "dev", "eth0"); strings.Contains(addrs, "inet") {
		t.Errorf("the address is still there: %s", addrs)
	}
}

func TestClientCommitsRapidly(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool, "--dhcp-rapid-commit", "--dhcp-option=132,42", "--dhcp-option=option:dns-server,10.77.0.1")
	c := startClient(t, testConfig(t))
	l := c.want(Bound).Lease
	assertInstalled(t, l)
	if len(l.DNS) != 1 || l.VoiceVLAN != 42 {
		t.Errorf("lease is %+v", l)
	}
	i.WaitLog("DHCPACK", "10.77.0.50")
	if log := i.Logged(); strings.Contains(log, "DHCPOFFER") || strings.Contains(log, "DHCPREQUEST") {
		t.Errorf("it took four messages:\n%s", log)
	}
}

func TestClientRenewsAndMovesToAnotherPool(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool, "--dhcp-option=option:T1,3", "--dhcp-option=option:T2,60")
	c := startClient(t, testConfig(t))
	first := c.want(Bound).Lease
	i.WaitLog("DHCPDISCOVER")
	again := c.want(Renewed).Lease
	if again.Prefix != first.Prefix || !again.Expiry.After(first.Expiry) {
		t.Errorf("renewed %v until %v; had %v until %v", again.Prefix, again.Expiry, first.Prefix, first.Expiry)
	}
	i.StopDNS()
	i.StartDNS(secondPool)
	moved := c.moved(first).Lease
	if moved.Prefix != netip.MustParsePrefix("10.77.0.80/24") {
		t.Errorf("moved to %v", moved.Prefix)
	}
	assertInstalled(t, moved)
	i.WaitLog("DHCPNAK", "10.77.0.50")
}

// TestConnectionsMoveWithTheAddress: what was connected from the old address is
// over at once, and not when something times out; what connects then does so from
// the new one.
func TestConnectionsMoveWithTheAddress(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool, "--dhcp-option=option:T1,3", "--dhcp-option=option:T2,60")
	var server net.Listener
	i.Do(func() (err error) {
		server, err = net.Listen("tcp4", "10.77.0.1:5061")
		return err
	})
	defer server.Close()
	c := startClient(t, testConfig(t))
	first := c.want(Bound).Lease
	before, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	i.StopDNS()
	i.StartDNS(secondPool)
	second := c.moved(first).Lease
	if got := addrPort(before.LocalAddr()); got != first.Addr() {
		t.Errorf("the first connection left from %v", got)
	}
	before.SetReadDeadline(time.Now().Add(isptest.Patience))
	switch _, err := before.Read(make([]byte, 1)); {
	case errors.Is(err, os.ErrDeadlineExceeded) && !canEndConnections(t):
		t.Skip("this kernel cannot end connections (CONFIG_INET_DIAG_DESTROY)")
	case !errors.Is(err, unix.ECONNABORTED):
		t.Errorf("the connection from the old address: %v; want %v", err, unix.ECONNABORTED)
	}
	after, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if got := addrPort(after.LocalAddr()); got != second.Addr() {
		t.Errorf("the next connection left from %v; want %v", got, second.Addr())
	}
}

func addrPort(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// canEndConnections reports whether the kernel ends one that it is asked to end.
func canEndConnections(t *testing.T) bool {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return endConnections(netip.MustParseAddr("127.0.0.1")) == nil
}

func TestClientFollowsTheCable(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	c := startClient(t, testConfig(t))
	l := c.want(Bound).Lease
	i.Inside("ip", "link", "set", "isp0", "down")
	if e := c.want(Lost); e.Reason != "link down" {
		t.Errorf("lost because %q", e.Reason)
	}
	i.Inside("ip", "link", "set", "isp0", "up")
	if back := c.want(Bound).Lease; back.Prefix != l.Prefix {
		t.Errorf("came back as %v; was %v", back.Prefix, l.Prefix)
	}
	assertInstalled(t, l)

	// Another network at the other end of the cable.
	i.Inside("ip", "link", "set", "isp0", "down")
	c.want(Lost)
	i.StopDNS()
	i.Inside("ip", "address", "flush", "dev", "isp0")
	i.Inside("ip", "address", "add", "192.0.2.1/24", "dev", "isp0")
	i.Inside("ip", "link", "set", "isp0", "up")
	i.StartDNS("192.0.2.100,192.0.2.100,2m")
	l = c.want(Bound).Lease
	if l.Prefix != netip.MustParsePrefix("192.0.2.100/24") {
		t.Errorf("came back as %v", l.Prefix)
	}
	assertInstalled(t, l)
}

func TestClientAsksForTheStoredAddress(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS("10.77.0.50,10.77.0.99,2m")
	cfg := testConfig(t)
	c := startClient(t, cfg)
	l := c.want(Bound).Lease
	var stored []byte
	isptest.Eventually(t, "the lease is stored", func() bool { // after the event: the disk may be slow
		stored, _ = os.ReadFile(cfg.LeaseFile)
		return len(stored) > 0
	})
	c.Stop() // gives the address back, and forgets it
	if _, err := os.Stat(cfg.LeaseFile); err == nil {
		t.Error("the released lease is still stored")
	}
	// As after a power cut.
	if err := os.WriteFile(cfg.LeaseFile, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	i.StopDNS()
	i.StartDNS("10.77.0.50,10.77.0.99,2m")
	again := startClient(t, cfg)
	if b := again.want(Bound).Lease; b.Prefix != l.Prefix {
		t.Errorf("leased %v; had %v", b.Prefix, l.Prefix)
	}
	i.WaitLog("DHCPREQUEST", l.Addr().String())
	if strings.Contains(i.Logged(), "DHCPDISCOVER") {
		t.Error("asked for any address first")
	}
}

func TestClientPutsBackWhatIsRemoved(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	c := startClient(t, testConfig(t))
	l := c.want(Bound).Lease
	isptest.IP(t, "route", "delete", "default")
	isptest.IP(t, "address", "flush", "dev", "eth0")
	isptest.Eventually(t, "the route is back", func() bool {
		return strings.Contains(isptest.IP(t, "route", "show", "default"), l.Router.String())
	})
	assertInstalled(t, l)
}

func TestClientWaitsForItsInterface(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	c := startClient(t, testConfig(t))
	i := isptest.New(t, isptest.Addr) // makes the interface
	i.StartDNS(isptest.FirstPool)
	l := c.want(Bound).Lease
	assertInstalled(t, l)
	isptest.IP(t, "link", "delete", "eth0")
	if e := c.want(Lost); e.Reason != "link down" {
		t.Errorf("lost because %q", e.Reason)
	}
	i.StopDNS()
	i.Cable("eth0", isptest.MAC)
	i.Inside("ip", "address", "add", isptest.Addr, "dev", "isp0")
	i.Inside("ip", "link", "set", "isp0", "up")
	i.StartDNS(isptest.FirstPool)
	assertInstalled(t, c.want(Bound).Lease)
}

func TestClientFollowsItsSwitch(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	c := startClient(t, testConfig(t))
	l := c.want(Bound).Lease
	isptest.IP(t, "link", "set", "eth0", "down") // takes the routes away
	for range 3 {                                // more hints, while the switch is off
		isptest.IP(t, "address", "add", "203.0.113.9/32", "dev", "lo")
		isptest.IP(t, "address", "delete", "203.0.113.9/32", "dev", "lo")
	}
	c.want(Lost)
	isptest.IP(t, "link", "set", "eth0", "up")
	if back := c.want(Bound).Lease; back.Prefix != l.Prefix {
		t.Errorf("came back as %v", back.Prefix)
	}
	assertInstalled(t, l)
}

func TestNewClientRefuses(t *testing.T) {
	for _, name := range []string{"", "an-interface-name-too-long"} {
		if _, err := NewClient(Config{Interface: name}); err == nil {
			t.Errorf("NewClient accepts the interface %q", name)
		}
	}
}
