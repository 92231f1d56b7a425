package netlink

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
)

// serve answers DHCP messages at the ISP with raw payloads of our making, for
// what no decent server says. It returns a function that ends it.
func serve(t testing.TB, i *isptest.ISP, answer func(*dhcpv4.DHCPv4) [][]byte) (stop func()) {
	t.Helper()
	var conn net.PacketConn
	i.Do(func() (err error) {
		c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
				_ = unix.BindToDevice(int(fd), "isp0")
			})
		}}
		conn, err = c.ListenPacket(context.Background(), "udp4", ":67")
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			d, err := dhcpv4.FromBytes(b[:n])
			if err != nil {
				continue
			}
			for _, reply := range answer(d) {
				conn.WriteTo(reply, &net.UDPAddr{IP: net.IPv4bcast, Port: portClient})
			}
		}
	}()
	stop = func() {
		conn.Close()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// answers makes a server of a simulation's one.
func answers(server func(*dhcpv4.DHCPv4) []reply) func(*dhcpv4.DHCPv4) [][]byte {
	return func(d *dhcpv4.DHCPv4) (out [][]byte) {
		for _, r := range server(d) {
			r.xid = d.TransactionID
			out = append(out, encodeReply(r, MAC(d.ClientHWAddr)))
		}
		return out
	}
}

func TestClientLosesALeaseThatNobodyRenews(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, "192.0.2.1/24")
	var short atomic.Bool // else the test might not get to look at the address
	stop := serve(t, i, answers(func(d *dhcpv4.DHCPv4) []reply {
		out := pool(simAddr)(d)
		for n := range out {
			out[n].t1, out[n].time = time.Second, time.Minute
			if short.Load() {
				out[n].time = 2 * time.Second
			}
		}
		return out
	}))
	c := startClient(t, testConfig(t))
	l := c.want(Bound).Lease
	assertInstalled(t, l)
	short.Store(true)
	for l.Expiry.Sub(l.Start) > 10*time.Second {
		l = c.want(Renewed).Lease
	}
	stop()
	e := c.Any()
	for ; e.Kind == Renewed; e = c.Any() { // before the server was gone
		l = e.Lease
	}
	if e.Kind != Lost || e.Reason != "expired" || e.At.Before(l.Expiry) {
		t.Errorf("lost because %q, %v before the end", e.Reason, l.Expiry.Sub(e.At))
	}
	if addrs := isptest.IP(t, "-4", "address", "show", "dev", "eth0"); addrs != "" {
		t.Errorf("the address is still there: %s", addrs)
	}
}

// An address that another host has is declined. By the full form of RFC 5227 it
// is never used; by the fast form, which goes on when no answer has come within
// a millisecond, it is given up as soon as one comes.
func TestClientDeclinesAnAddressInUse(t *testing.T) {
	for name, full := range map[string]bool{"fast": false, "full": true} {
		t.Run(name, func(t *testing.T) {
			if !isptest.InNamespace(t) {
				return
			}
			i := isptest.New(t, isptest.Addr)
			i.Inside("ip", "address", "add", "10.77.0.50/32", "dev", "lo") // answers ARP
			i.StartDNS("10.77.0.60,10.77.0.60,2m", "--dhcp-host="+isptest.MAC+",10.77.0.50", "--dhcp-broadcast")
			config := testConfig(t)
			config.FullCheck = full
			c := startClient(t, config)
			l := c.want(Bound).Lease
			if !full && l.Prefix.String() == "10.77.0.50/24" {
				if e := c.want(Lost); e.Reason != "conflict" {
					t.Errorf("lost: %q; want it for the conflict", e.Reason)
				}
				l = c.want(Bound).Lease
			}
			if l.Prefix.String() != "10.77.0.60/24" {
				t.Errorf("bound to %v", l.Prefix)
			}
			assertInstalled(t, l)
			i.WaitLog("DHCPDECLINE", "10.77.0.50")
		})
	}
}

// BenchmarkLease measures from the start of a client to its Bound event, with
// the address and the route in the kernel, against dnsmasq.
func BenchmarkLease(b *testing.B) {
	if !isptest.InNamespace(b) {
		return
	}
	i := isptest.New(b, isptest.Addr)
	i.StartDNS("10.77.0.50,10.77.0.99,2m")
	isptest.IP(b, "link", "set", "eth0", "up")
	cfg := Config{Interface: "eth0"}
	for b.Loop() {
		c := startClient(b, cfg)
		c.want(Bound)
		b.StopTimer()
		c.Stop()
		b.StartTimer()
	}
}
