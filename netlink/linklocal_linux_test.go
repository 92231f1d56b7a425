package netlink

import (
	"strings"
	"testing"
)

func TestLinkLocalUntilAServerComes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	i := newISP(t, ispAddr)
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
	if l := s.any().Lease; !l.Addr().IsLinkLocalUnicast() {
		t.Fatalf("bound to %v", l.Prefix)
	}
	i.startDNS(firstPool)
	e := s.any()
	if e.Kind != Bound || e.Lease.Addr().IsLinkLocalUnicast() {
		t.Fatalf("%v of %v", e.Kind, e.Lease.Prefix)
	}
	eventually(t, "the address of our own is gone", func() bool {
		addrs := ip(t, "-4", "-o", "address", "show", "dev", "eth0")
		return len(addrs) > 0 && !strings.Contains(addrs, "169.254.")
	})
	assertInstalled(t, e.Lease)
}
