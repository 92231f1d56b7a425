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

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
)

// TestMissingCapability: what a process without any may not do, and what it is told
// that it needs.
func TestMissingCapability(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr)
	isptest.IP(t, "address", "add", "192.0.2.50/24", "dev", "eth0")
	eth0, err := link.Read("eth0")
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
	six := &six{agent: agent6{link: eth0}, clock: newClock(bootTime)}
	for name, tt := range map[string]struct {
		do    func() error
		needs string
	}{
		"packet socket": {func() error { _, err := link.OpenTap(eth0.Index, unix.ETH_P_ARP, routerFilter(), nil); return err }, link.CapRaw},
		"set link up":   {func() error { return link.Enable(eth0.Index) }, link.CapAdmin},
		"install":       {func() error { return (&site{ifname: "eth0", index: eth0.Index}).install(l, Lease{}, time.Now()) }, link.CapAdmin},
		"remove":        {func() error { return removeLease(eth0.Index, l) }, link.CapAdmin},
		"IPv6":          {func() error { return six.install(install6{lease: lease6{addr: simAddr6}}) }, link.CapAdmin},
		"server": {func() error {
			_, err := dialServer(context.Background(), "eth0", l.Addr(), simServer)
			return err
		}, link.CapPorts},
	} {
		if err := tt.do(); err == nil || !strings.Contains(err.Error(), "needs "+tt.needs) || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v; want it to name %s", name, err, tt.needs)
		}
	}
	if err := link.Needs(link.CapRaw, unix.ENODEV); err != unix.ENODEV {
		t.Errorf("another error became %v", err)
	}
}
