package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flexphone/storing-server/internal/trust"
)

// Defaults follow the memory, and a flag is what it says.
func TestLimitFlags(t *testing.T) {
	f := LimitFlags{Requests: 50, Enrolments: 1000}
	for memory, want := range map[uint64][3]int{
		256 << 20: {21845, 256, 65536}, 2 << 30: {174762, 655, 524288}, 64 << 30: {4000000, 4096, 16777216},
	} {
		l, err := f.limits(memory)
		var p trust.Policy
		if bad := f.policy(&p, memory); err != nil || bad != nil || l.Sessions != want[0] || l.Handshakes != want[1] || p.MostRows != want[2] {
			t.Errorf("with %d MiB: %d sessions, %d handshakes, %d rows, %v, %v; want %v", memory>>20, l.Sessions, l.Handshakes, p.MostRows, err, bad, want)
		}
	}
	f = LimitFlags{Sessions: 10, Handshakes: 20, Requests: 0.1, MostRows: 30, Exempt: []string{"192.0.2.1", "2001:db8::/32"}}
	l, err := f.limits(1 << 30)
	var p trust.Policy
	if bad := f.policy(&p, 1<<30); err != nil || bad != nil || l.Sessions != 10 || l.Handshakes != 20 || l.Rate != 0.1 || l.Burst != 1 || p.MostRows != 30 || p.Enrolments != nil || len(p.Exempt) != 2 {
		t.Errorf("limits %+v, policy %+v, %v, %v", l, p, err, bad)
	}
	for _, bad := range []LimitFlags{
		{Sessions: -1, Requests: 1}, {Handshakes: -1, Requests: 1}, {MostRows: -1, Requests: 1}, {Requests: 0}, {Requests: -1}, {Requests: 1e9},
	} {
		var usage *usageError
		if _, err := bad.limits(1 << 30); !errors.As(err, &usage) {
			t.Errorf("limits of %+v: %v; want a usage error", bad, err)
		}
	}
	for _, bad := range []LimitFlags{{Enrolments: -1}, {Exempt: []string{"x"}}, {Exempt: []string{"2001:db8::/65"}}} {
		var usage *usageError
		if err := bad.policy(&p, 1<<30); !errors.As(err, &usage) {
			t.Errorf("policy of %+v: %v; want a usage error", bad, err)
		}
	}
	p = trust.Policy{}
	if err := (LimitFlags{Enrolments: 1}).policy(&p, 1<<30); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"127.0.0.9": true, "::1": true, "192.0.2.1": false} {
		at, now := trust.NetworkOf(netip.MustParseAddr(host)), time.Unix(1e9, 0)
		p.MayEnrol(at, 0, now)
		if err := p.MayEnrol(at, 0, now); (err == nil) != want {
			t.Errorf("the second of one an hour, from %s: %v", host, err)
		}
	}
}

func TestMemory(t *testing.T) {
	if m := memory(); m < 64<<20 || m > 1<<50 {
		t.Errorf("memory() = %d", m)
	}
	root := t.TempDir()
	for path, text := range map[string]string{"": "max\n", "a": "3000\n", "a/b": "max\n", "a/b/c": "5000\n", "d": "x\n"} {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for own, want := range map[string]uint64{
		"0::/a/b/c\n": 3000, "0::/a/b\n": 3000, "0::/\n": 1<<64 - 1, "0::/d\n": 1<<64 - 1, "": 1<<64 - 1, "1:memory:/a\n0::/nowhere/a\n": 1<<64 - 1, "0::/../a\n": 3000,
	} {
		if got := groupLimit(root, own); got != want {
			t.Errorf("groupLimit(%q) = %d; want %d", own, got, want)
		}
	}
}
