package netlink

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMissingCapability: what a process without any may not do, and what it is told
// that it needs.
func TestMissingCapability(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newISP(t, ispAddr)
	ip(t, "address", "add", "192.0.2.50/24", "dev", "eth0")
	eth0, err := readLink("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("1024"), 0o644); err != nil {
		t.Skip("cannot set which ports are anybody's: ", err)
	}
	runtime.LockOSThread() // and never unlocked: this thread is of no more use
	none := [2]unix.CapUserData{}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
	l := Lease{Prefix: netip.MustParsePrefix("192.0.2.50/24")}
	six := &six{link: eth0, clock: newClock(bootTime)}
	for name, tt := range map[string]struct {
		do    func() error
		needs string
	}{
		"packet socket": {func() error { _, err := openTap(eth0.index, unix.ETH_P_ARP, routerFilter(), nil); return err }, capRaw},
		"set link up":   {func() error { return enable(eth0.index) }, capAdmin},
		"install":       {func() error { return (&site{ifname: "eth0", index: eth0.index}).install(l, Lease{}, time.Now()) }, capAdmin},
		"remove":        {func() error { return removeLease(eth0.index, l) }, capAdmin},
		"VLAN":          {func() error { _, err := makeVLAN("eth0", 42); return err }, capAdmin},
		"IPv6":          {func() error { return six.install(install6{lease: lease6{addr: simAddr6}}) }, capAdmin},
		"server": {func() error {
			_, err := dialServer(context.Background(), "eth0", l.Addr(), simServer)
			return err
		}, capPorts},
	} {
		if err := tt.do(); err == nil || !strings.Contains(err.Error(), "needs "+tt.needs) || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v; want it to name %s", name, err, tt.needs)
		}
	}
	if err := needs(capRaw, unix.ENODEV); err != unix.ENODEV {
		t.Errorf("another error became %v", err)
	}
}
