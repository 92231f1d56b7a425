package netlink

import (
	"strings"
	"testing"

	"flexphone/netlink/internal/isptest"
)

func TestLinkLocalUntilAServerComes(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	cfg := testConfig(t)
	four, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	both, err := withLinkLocal(cfg, four, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, both)
	if l := s.Any().Lease; !l.Addr().IsLinkLocalUnicast() {
		t.Fatalf("bound to %v", l.Prefix)
	}
	i.StartDNS(isptest.FirstPool)
	e := s.Any()
	if e.Kind != Bound || e.Lease.Addr().IsLinkLocalUnicast() {
		t.Fatalf("%v of %v", e.Kind, e.Lease.Prefix)
	}
	isptest.Eventually(t, "the address of our own is gone", func() bool {
		addrs := isptest.IP(t, "-4", "-o", "address", "show", "dev", "eth0")
		return len(addrs) > 0 && !strings.Contains(addrs, "169.254.")
	})
	assertInstalled(t, e.Lease)
}
