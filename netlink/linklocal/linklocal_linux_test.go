package linklocal

import (
	"strings"
	"testing"

	"flexphone/netlink"
	"flexphone/netlink/internal/isptest"
)

func TestLinkLocalUntilAServerComes(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	cfg := netlink.Config{Interface: "eth0", Log: isptest.Log(t)}
	four, err := netlink.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	both, err := beside(cfg, four, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := isptest.Start(t, both)
	if l := s.Any().Lease; !l.Addr().IsLinkLocalUnicast() {
		t.Fatalf("bound to %v", l.Prefix)
	}
	i.StartDNS(isptest.FirstPool)
	e := s.Any()
	if e.Kind != netlink.Bound || e.Lease.Addr().IsLinkLocalUnicast() {
		t.Fatalf("%v of %v", e.Kind, e.Lease.Prefix)
	}
	isptest.Eventually(t, "the address of our own is gone", func() bool {
		addrs := isptest.IP(t, "-4", "-o", "address", "show", "dev", "eth0")
		return len(addrs) > 0 && !strings.Contains(addrs, "169.254.")
	})
	isptest.AssertAddress(t, "eth0", e.Lease.Prefix, e.Lease.Router)
}
