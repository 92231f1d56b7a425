package testbed

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"flexphone/internal/mac"
)

// A Pool is a subnet of the provider's, and the addresses in it that it leases.
type Pool struct {
	Router      netip.Prefix // the provider's own address in it
	First, Last netip.Addr
}

// The provider's pools, of the blocks that are set aside for examples
// (RFC 5737). A phone that moves from one to the other moves to another subnet.
var (
	East = Pool{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("192.0.2.199")}
	West = Pool{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParseAddr("198.51.100.100"), netip.MustParseAddr("198.51.100.199")}
)

// The fixed addresses: the provider's router, the storing server, and the
// first of the telephones that never move.
var (
	fixedRouter   = netip.MustParsePrefix("203.0.113.1/24")
	serverAddress = netip.MustParsePrefix("203.0.113.10/24")
	fixedPhones   = netip.MustParsePrefix("203.0.113.20/24")
)

// routerMAC is the hardware address of the provider's router.
var routerMAC = net.HardwareAddr{0x02, 0x00, 0x5e, 0x00, 0x53, 0xff}

// LeaseTime is how long a lease lasts: the shortest that dnsmasq gives.
const LeaseTime = 2 * time.Minute

// street is the bridge into which every host is plugged.
const street = "street"

// An ISP is the Internet service provider: a router between its subnets, and
// the real dnsmasq, which leases their addresses and tells where the storing
// server is (option 66).
type ISP struct {
	host    *host
	dir     string
	dnsmasq string // path of the program

	mu    sync.Mutex
	pools []Pool
	renew time.Duration      // T1
	says  []string           // options beside those of every lease; nil: a name server, and where the storing server is
	fixed map[MAC]netip.Addr // whose next lease is settled
	proc  *process
}

// newISP builds the provider's house and starts to lease addresses from East.
// renew is T1, after which a phone asks for its lease again; 0: half of LeaseTime.
func newISP(ctx context.Context, dir string, renew time.Duration) (*ISP, error) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path = "/usr/sbin/dnsmasq" // not in an ordinary user's PATH
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("testbed: find the provider's dnsmasq: %w (Debian's package dnsmasq-base)", err)
		}
	}
	h, err := newHost("isp")
	if err != nil {
		return nil, err
	}
	isp := &ISP{host: h, dir: dir, dnsmasq: path, pools: []Pool{East}, renew: cmp.Or(renew, LeaseTime/2), fixed: make(map[MAC]netip.Addr)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = street
	attrs.HardwareAddr = routerMAC // else the bridge takes another with each new port
	if err := h.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("testbed: make the provider's bridge: %w", err)
	}
	for _, router := range []netip.Prefix{East.Router, West.Router, fixedRouter} {
		if err := h.address(street, router, netip.Addr{}); err != nil {
			return nil, err
		}
	}
	// It routes between its subnets. They share a wire, which a real provider's
	// do not, so nobody is told of the short way.
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                         "1",
		"net/ipv4/conf/all/send_redirects":            "0",
		"net/ipv4/conf/" + street + "/send_redirects": "0",
	} {
		if err := h.sysctl(name, value); err != nil {
			return nil, err
		}
	}
	if err := h.up(street); err != nil {
		return nil, err
	}
	return isp, isp.start(ctx)
}

func (isp *ISP) leaseFile() string { return filepath.Join(isp.dir, "leases") }
func (isp *ISP) hostsFile() string { return filepath.Join(isp.dir, "dhcp-hosts") }

// start runs dnsmasq and waits until it serves.
func (isp *ISP) start(ctx context.Context) error {
	if err := isp.writeHosts(); err != nil {
		return err
	}
	args := []string{
		"--no-daemon", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file=",
		"--port=0", // no DNS
		"--interface=" + street, "--bind-interfaces",
		"--dhcp-authoritative", // it says NAK to a lease that it does not know
		"--no-ping",            // an offer comes at once
		"--log-facility=-",
		"--dhcp-leasefile=" + isp.leaseFile(),
		"--dhcp-hostsfile=" + isp.hostsFile(),
		fmt.Sprintf("--dhcp-option=option:T1,%d", isp.renew/time.Second),
	}
	says := isp.says
	if says == nil {
		says = []string{"option:dns-server," + fixedRouter.Addr().String(), "66," + serverAddress.Addr().String()}
	}
	for _, option := range says {
		args = append(args, "--dhcp-option="+option)
	}
	for _, pool := range isp.pools {
		args = append(args, fmt.Sprintf("--dhcp-range=tag:!none,%s,%s,%d", pool.First, pool.Last, LeaseTime/time.Second))
	}
	p, err := isp.host.run(isp.dir, command{name: "dnsmasq", path: isp.dnsmasq, args: args})
	if err != nil {
		return err
	}
	isp.proc = p
	if _, _, err := p.await(ctx, 0, func(line string) bool { return strings.Contains(line, "read "+isp.hostsFile()) }); err != nil {
		return fmt.Errorf("testbed: start the provider's dnsmasq: %w", err)
	}
	return nil
}

func (isp *ISP) writeHosts() error {
	var b strings.Builder
	for _, mac := range slices.SortedFunc(maps.Keys(isp.fixed), func(a, b MAC) int { return slices.Compare(a[:], b[:]) }) {
		what := isp.fixed[mac].String()
		if isp.fixed[mac] == none {
			what = "set:none"
		}
		fmt.Fprintf(&b, "%s,%s\n", mac, what)
	}
	if err := os.WriteFile(isp.hostsFile(), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("testbed: settle leases: %w", err)
	}
	return nil
}

// GiveNext settles that the phone's next lease is addr. When the phone next
// asks for the lease that it holds, it is refused (DHCPNAK) and offered addr.
// The zero address gives the choice back to dnsmasq.
func (isp *ISP) GiveNext(ctx context.Context, mac MAC, addr netip.Addr) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	if addr.IsValid() {
		isp.fixed[mac] = addr
	} else {
		delete(isp.fixed, mac)
	}
	if err := isp.writeHosts(); err != nil {
		return err
	}
	from := isp.proc.log.length()
	if err := isp.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("testbed: settle leases: %w", err)
	}
	_, _, err := isp.proc.await(ctx, from, func(line string) bool { return strings.Contains(line, "read "+isp.hostsFile()) })
	if err != nil {
		return fmt.Errorf("testbed: settle leases: %w", err)
	}
	return nil
}

// GiveNone settles that the phone has no IPv4 address: when it next asks for the lease
// that it holds, it is refused, and offered nothing. GiveNext ends that.
func (isp *ISP) GiveNone(ctx context.Context, mac MAC) error { return isp.GiveNext(ctx, mac, none) }

// none stands for no address.
var none = netip.IPv4Unspecified()

// ChangePool makes the provider lease addresses of other pools from now on. A
// phone that asks for a lease of a pool that is given up is refused (DHCPNAK).
func (isp *ISP) ChangePool(ctx context.Context, pools ...Pool) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	if err := isp.proc.stop(); err != nil {
		return err
	}
	isp.pools = pools
	return isp.start(ctx)
}

// Say makes the provider send these options in its leases, in the form of dnsmasq's
// --dhcp-option, in place of a name server and the storing server's address. None:
// these two again.
func (isp *ISP) Say(ctx context.Context, options ...string) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	if err := isp.proc.stop(); err != nil {
		return err
	}
	isp.says = options
	return isp.start(ctx)
}

// AddDNS starts a name server on the provider's router, the real dnsmasq with these
// arguments, which knows of nothing else. It ends with the Bed.
func (b *Bed) AddDNS(ctx context.Context, args ...string) error {
	p, err := b.ISP.host.run(b.ISP.dir, command{name: "dns", path: b.ISP.dnsmasq, args: append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file=", "--no-resolv", "--no-hosts", "--log-facility=-",
		"--listen-address=" + fixedRouter.Addr().String(), "--bind-interfaces",
	}, args...)})
	if err != nil {
		return err
	}
	b.onClose(p.stop)
	if _, _, err := p.await(ctx, 0, func(line string) bool { return strings.Contains(line, "started") }); err != nil {
		return fmt.Errorf("testbed: start a name server: %w", err)
	}
	return nil
}

// Forget makes the provider forget the phone's lease, as if it had run out.
func (isp *ISP) Forget(ctx context.Context, mac MAC) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	if err := isp.proc.stop(); err != nil {
		return err
	}
	leases, err := os.ReadFile(isp.leaseFile())
	if err != nil {
		return fmt.Errorf("testbed: forget lease: %w", err)
	}
	kept := slices.DeleteFunc(strings.SplitAfter(string(leases), "\n"), func(line string) bool {
		return strings.Contains(line, " "+mac.String()+" ")
	})
	if err := os.WriteFile(isp.leaseFile(), []byte(strings.Join(kept, "")), 0o600); err != nil {
		return fmt.Errorf("testbed: forget lease: %w", err)
	}
	return isp.start(ctx)
}

// Restart has the provider begin anew: it leases addresses of East, remembers no
// lease, and gives these phones these addresses next.
func (isp *ISP) Restart(ctx context.Context, renew time.Duration, next map[MAC]netip.Addr) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	if err := isp.proc.stop(); err != nil {
		return err
	}
	if err := os.WriteFile(isp.leaseFile(), nil, 0o600); err != nil {
		return fmt.Errorf("testbed: forget leases: %w", err)
	}
	isp.pools, isp.renew, isp.says, isp.fixed = []Pool{East}, cmp.Or(renew, LeaseTime/2), nil, maps.Clone(next)
	return isp.start(ctx)
}

// AwaitRelease waits until the phone has given its address back.
func (isp *ISP) AwaitRelease(ctx context.Context, mac MAC) error {
	_, _, err := isp.proc.await(ctx, 0, func(line string) bool {
		return strings.Contains(line, "DHCPRELEASE") && strings.Contains(line, mac.String())
	})
	if err != nil {
		return fmt.Errorf("testbed: wait for the release of %s: %w", mac, err)
	}
	return nil
}

// Stop ends dnsmasq: the provider's DHCP server sleeps. Start wakes it.
func (isp *ISP) Stop() error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	return isp.proc.stop()
}

// Start wakes the provider's DHCP server after Stop.
func (isp *ISP) Start(ctx context.Context) error {
	isp.mu.Lock()
	defer isp.mu.Unlock()
	return isp.start(ctx)
}

// Address returns the n-th address of the pool, from 0.
func (p Pool) Address(n int) netip.Addr {
	a := p.First
	for range n {
		a = a.Next()
	}
	return a
}

// A MAC is a phone's hardware address, and so its permanent number.
type MAC = mac.Address
