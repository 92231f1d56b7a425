package sip_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"flexphone/firmware/internal/sip"
)

// TestAbsent: a host on the link that answers nothing is absent, whether the
// kernel knows it from before or not; a router's other side, a host that answers
// and one that somebody has written down for good are not known to be.
func TestAbsent(t *testing.T) {
	t.Parallel() // it waits most of the time
	if !inNamespace(t) {
		return
	}
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "here", "type", "veth", "peer", "name", "there")
	ip(t, "link", "set", "here", "up")
	ip(t, "link", "set", "there", "up")
	ip(t, "addr", "add", "10.3.0.1/24", "dev", "here")
	ip(t, "addr", "add", "2001:db8:3::1/64", "dev", "here", "nodad")
	const nobody = "02:00:5e:00:53:01"
	ip(t, "neigh", "add", "10.3.0.3", "lladdr", nobody, "dev", "here", "nud", "stale")
	ip(t, "neigh", "add", "10.3.0.4", "lladdr", nobody, "dev", "here", "nud", "reachable")
	ip(t, "neigh", "add", "10.3.0.5", "lladdr", nobody, "dev", "here", "nud", "permanent")
	ip(t, "neigh", "add", "2001:db8:3::3", "lladdr", nobody, "dev", "here", "nud", "stale")
	ip(t, "route", "add", "10.4.0.0/24", "via", "10.3.0.3")
	a := newPhone(t, userA, func(c *sip.Config) { c.Listen = netip.Addr{} })

	var asked sync.WaitGroup
	for to, want := range map[string]error{
		"10.3.0.3": sip.ErrAbsent, "10.3.0.4": sip.ErrAbsent, "2001:db8:3::3": sip.ErrAbsent,
		"10.3.0.5": nil, "10.4.0.2": nil, "10.3.0.1": nil, "127.0.0.1": nil, "198.51.100.1": nil,
	} {
		asked.Go(func() {
			if err := sip.Absent(patience(t), netip.MustParseAddr(to)); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", to, err, want)
			}
		})
	}
	// One that is not known at all is asked for by whoever sends to it.
	for _, pin := range [][32]byte{{}, {1}} {
		asked.Go(func() {
			c := a.dials(sip.Target{User: userB, Addr: netip.MustParseAddrPort("10.3.0.2:5061"), Pin: pin})
			expect(t, c, sip.Ended, sip.ReasonUnreachable)
		})
	}
	asked.Wait()
}
