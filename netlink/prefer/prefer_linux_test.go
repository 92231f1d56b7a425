package prefer

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/isptest"
)

// A running is a Source under test.
type running struct {
	*isptest.Running[netlink.Event]
}

// until waits for an event that ok accepts, past others but Lost.
func (r running) until(what string, ok func(netlink.Event) bool) {
	r.T.Helper()
	for {
		e := r.Any()
		if ok(e) {
			return
		}
		if e.Kind == netlink.Lost {
			r.T.Fatalf("lost %v because %q; want %s", e.Lease.Addrs(), e.Reason, what)
		}
	}
}

// An overheard is a client that tells when it has lost its address.
type overheard struct {
	*netlink.Client
	lost chan struct{}
}

func (o overheard) Next(ctx context.Context) (netlink.Event, error) {
	e, err := o.Client.Next(ctx)
	if err == nil && e.Kind == netlink.Lost {
		o.lost <- struct{}{}
	}
	return e, err
}

// TestRouterWithADeadUplink: Ethernet has a carrier, a DHCP server and a router that
// answers, and no way beyond; what the phone needs is reached by Wi-Fi.
func TestRouterWithADeadUplink(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	const server = "203.0.113.1"
	wire := isptest.New(t, isptest.Addr)
	wire.StartDNS(isptest.FirstPool)
	air := isptest.NewOn(t, "wlan0", "02:00:5e:00:53:02", "10.88.0.1/24")
	air.StartDNS("10.88.0.50,10.88.0.50,2m")
	air.Inside("ip", "address", "add", server+"/32", "dev", "lo")
	var listener net.Listener
	air.Do(func() (err error) {
		listener, err = net.Listen("tcp4", server+":5684")
		return err
	})
	defer listener.Close()
	var sources []netlink.Source
	lost := make(chan struct{}, 9)
	for n, name := range []string{"eth0", "wlan0"} {
		s, err := netlink.NewClient(netlink.Config{Interface: name, Metric: 100 * (n + 1), Log: isptest.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, overheard{s, lost})
	}
	p, err := New("", isptest.Log(t), sources...)
	if err != nil {
		t.Fatal(err)
	}
	p.(*prefer).election.patience = 0
	s := running{isptest.Start(t, p)}
	s.until("an address on eth0", func(e netlink.Event) bool { return e.Lease.Interface == "eth0" })
	isptest.Eventually(t, "both have routes", func() bool { return strings.Count(isptest.IP(t, "route", "show", "default"), "default") == 2 })
	reach := func(from string) error {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp4", server+":5684")
		if err == nil {
			conn.Close()
		}
		return err
	}
	// Somebody needs the server, from the address that there is.
	needs, found := context.WithCancel(t.Context())
	var trying sync.WaitGroup
	trying.Go(func() {
		for needs.Err() == nil {
			if reach("10.77.0.50") == nil {
				t.Error("the server is reached by Ethernet")
			}
			netlink.Doubt(p)
			netlink.Unreached(p)
		}
	})
	s.until("an address on wlan0", func(e netlink.Event) bool { return e.Lease.Interface == "wlan0" })
	found()
	trying.Wait()
	isptest.Eventually(t, "the routes of eth0 come last", func() bool {
		return strings.Contains(isptest.IP(t, "route", "show", "default", "dev", "eth0"), "metric 1100")
	})
	if err := reach("10.88.0.50"); err != nil {
		t.Errorf("by Wi-Fi: %v; the way out is %s", err, isptest.IP(t, "route", "get", server))
	}
	netlink.Reached(p)
	// The cable is plugged in elsewhere, perhaps.
	wire.Inside("ip", "link", "set", "isp0", "down")
	<-lost // or the test never ends
	wire.Inside("ip", "link", "set", "isp0", "up")
	s.until("an address on eth0", func(e netlink.Event) bool { return e.Lease.Interface == "eth0" })
	isptest.Eventually(t, "the routes of eth0 come first", func() bool {
		return strings.Contains(isptest.IP(t, "route", "get", "192.0.2.7"), "dev eth0")
	})
}

func TestPreferFailsOverAndBack(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	wire := isptest.New(t, isptest.Addr)
	wire.StartDNS(isptest.FirstPool, "--dhcp-option=6,10.77.0.1")
	air := isptest.NewOn(t, "wlan0", "02:00:5e:00:53:02", "10.88.0.1/24")
	air.StartDNS("10.88.0.50,10.88.0.50,2m", "--dhcp-option=6,10.88.0.1")
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	var sources []netlink.Source
	for n, name := range []string{"eth0", "wlan0"} {
		cfg := netlink.Config{Log: isptest.Log(t)}
		cfg.Interface, cfg.Metric = name, 100*(n+1)
		s, err := netlink.NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	p, err := New(resolv, nil, sources...)
	if err != nil {
		t.Fatal(err)
	}
	s := running{isptest.Start(t, p)}
	on := func(name, route string) {
		t.Helper()
		s.until("an address on "+name, func(e netlink.Event) bool { return e.Lease.Interface == name })
		if got := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(got, route) {
			t.Errorf("the way out is %q; want %q", got, route)
		}
		server, _, _ := strings.Cut(strings.TrimPrefix(route, "via "), " ")
		isptest.Eventually(t, "the name servers are those of "+name, func() bool {
			b, _ := os.ReadFile(resolv)
			return strings.Contains(string(b), "nameserver "+server+"\n")
		})
	}
	on("eth0", "via 10.77.0.1 dev eth0")
	isptest.Eventually(t, "both have routes", func() bool { return strings.Count(isptest.IP(t, "route", "show", "default"), "default") == 2 })
	wire.Inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.Inside("ip", "link", "set", "isp0", "up")
	on("eth0", "via 10.77.0.1 dev eth0")
	// The cable is in again, and the network behind it is dead: its lease is kept,
	// and not used while there is another.
	wire.Inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.StopDNS()
	wire.Inside("ip", "address", "flush", "dev", "isp0")
	wire.Inside("ip", "link", "set", "isp0", "up")
	isptest.Eventually(t, "the lease is kept", func() bool {
		return strings.Contains(isptest.IP(t, "route", "show", "default", "dev", "eth0"), "metric 1100")
	})
	if got := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(got, "dev wlan0") {
		t.Errorf("the way out is %q", got)
	}
	wire.Inside("ip", "address", "add", isptest.Addr, "dev", "isp0")
	wire.StartDNS(isptest.FirstPool, "--dhcp-option=6,10.77.0.1")
	s.until("an address on eth0", func(e netlink.Event) bool { return e.Lease.Interface == "eth0" })
	s.Stop()
	s.until("the end", func(e netlink.Event) bool { return e.Kind == netlink.Lost })
	if left := isptest.IP(t, "route", "show", "default"); left != "" {
		t.Errorf("routes are still there: %s", left)
	}
}

// TestTwoInterfacesOfOneNetwork: Ethernet and Wi-Fi lead to one network, as in most
// houses. Either interface of the host answers for the address of the other, which is no
// conflict, and both keep their addresses.
func TestTwoInterfacesOfOneNetwork(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	wire := isptest.New(t, isptest.Addr)
	for _, command := range []string{
		"link set isp0 down", "link set isp0 name plug0", "address flush dev plug0", "link add isp0 type bridge",
		"link add plug1 type veth peer name wlan0", "link set wlan0 netns " + strconv.Itoa(os.Getpid()),
		"link set plug0 master isp0", "link set plug1 master isp0", "address add " + isptest.Addr + " dev isp0",
		"link set isp0 up", "link set plug0 up", "link set plug1 up",
	} {
		wire.Inside(append([]string{"ip"}, strings.Fields(command)...)...)
	}
	wire.StartDNS("10.77.0.50,10.77.0.60,2m")
	var sources []netlink.Source
	lost := make(chan struct{}, 9)
	for n, name := range []string{"eth0", "wlan0"} {
		s, err := netlink.NewClient(netlink.Config{Interface: name, Metric: 100 * (n + 1), Log: isptest.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, overheard{s, lost})
	}
	p, err := New("", isptest.Log(t), sources...)
	if err != nil {
		t.Fatal(err)
	}
	s := running{isptest.Start(t, p)}
	on := func(name string) {
		t.Helper()
		s.until("an address on "+name, func(e netlink.Event) bool { return e.Lease.Interface == name })
	}
	on("eth0")
	// Each address is probed three times, and announced then, for which others may say
	// that they have it. The later of both interfaces is through when the first is left.
	isptest.Eventually(t, "both have routes", func() bool { return strings.Count(isptest.IP(t, "route", "show", "default"), "default") == 2 })
	probed := time.Now()
	isptest.Eventually(t, "all probes are sent", func() bool { return time.Since(probed) > time.Second })
	if len(lost) > 0 || strings.Contains(wire.Logged(), "DHCPDECLINE") {
		t.Fatalf("%d addresses were given up, and the server says\n%s", len(lost), wire.Logged())
	}
	wire.Inside("ip", "link", "set", "plug0", "down")
	on("wlan0")
	wire.Inside("ip", "link", "set", "plug0", "up")
	on("eth0")
	if strings.Contains(wire.Logged(), "DHCPDECLINE") {
		t.Errorf("an address was given up:\n%s", wire.Logged())
	}
}
