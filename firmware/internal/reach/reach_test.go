package reach

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func addrs(text string) (out []netip.Addr) {
	for _, a := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// The cases are those of RFC 6724, section 10.2, as far as they concern a phone.
func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		from map[string]string // the source that the kernel takes for a destination
		in   string
		want string
	}{
		{"IPv6 before IPv4", map[string]string{"2001:db8:1::1": "2001:db8:1::2", "198.51.100.121": "198.51.100.117"},
			"198.51.100.121 2001:db8:1::1", "2001:db8:1::1 198.51.100.121"},
		{"no IPv6 here", map[string]string{"198.51.100.121": "198.51.100.117"},
			"2001:db8:1::1 198.51.100.121", "198.51.100.121"},
		{"only link-local IPv6 here", map[string]string{"2001:db8:1::1": "fe80::1", "198.51.100.121": "198.51.100.117"},
			"2001:db8:1::1 198.51.100.121", "198.51.100.121 2001:db8:1::1"},
		{"unique local from unique local is not before global", map[string]string{"fd11::1": "fd11::2", "2001:db8:1::1": "2001:db8:1::2"},
			"fd11::1 2001:db8:1::1", "2001:db8:1::1 fd11::1"},
		{"longest prefix", map[string]string{"2001:db8:3ffe::1": "2001:db8:3f44::2", "2001:db8:1::1": "2001:db8:1::2"},
			"2001:db8:3ffe::1 2001:db8:1::1", "2001:db8:1::1 2001:db8:3ffe::1"},
		{"6to4 behind IPv4", map[string]string{"2002:c633:6401::1": "2001:db8:1::2", "198.51.100.121": "198.51.100.117"},
			"2002:c633:6401::1 198.51.100.121", "198.51.100.121 2002:c633:6401::1"},
		{"else as they came", map[string]string{"192.0.2.2": "192.0.2.1", "192.0.2.3": "192.0.2.1"},
			"192.0.2.3 192.0.2.2", "192.0.2.3 192.0.2.2"},
		{"the router of another home before what is behind it", map[string]string{"192.168.77.2": "192.168.1.9", "198.51.100.121": "192.168.1.9"},
			"192.168.77.2 198.51.100.121", "198.51.100.121 192.168.77.2"},
		{"the same home before its router", map[string]string{"192.168.77.2": "192.168.77.9", "198.51.100.121": "192.168.77.9"},
			"192.168.77.2 198.51.100.121", "192.168.77.2 198.51.100.121"},
		{"another private network, where there is nothing else", map[string]string{"10.2.0.2": "10.1.0.9"}, "10.2.0.2", "10.2.0.2"},
		{"nothing is reachable", nil, "192.0.2.3", ""},
	} {
		got := Order(addrs(tt.in), func(dst netip.Addr) netip.Addr {
			a, _ := netip.ParseAddr(tt.from[dst.String()])
			return a
		})
		var texts []string
		for _, a := range got {
			texts = append(texts, a.String())
		}
		if strings.Join(texts, " ") != tt.want {
			t.Errorf("%s: %v; want %s", tt.name, texts, tt.want)
		}
	}
}

func TestFirst(t *testing.T) {
	const dead = time.Hour
	for _, tt := range []struct {
		name  string
		takes []time.Duration // until each answers; negative: until it refuses
		want  string
		after time.Duration
	}{
		{"the first answers", []time.Duration{10, 1}, "192.0.2.1", 10},
		{"the first is dead", []time.Duration{dead, 20}, "192.0.2.2", 270},
		{"the first refuses", []time.Duration{-5, 20}, "192.0.2.2", 25},
		{"the first is slow, but faster", []time.Duration{300, 100}, "192.0.2.1", 300},
		{"all refuse", []time.Duration{-5, -7}, "", 12},
		{"all are dead", []time.Duration{dead, dead}, "", 2000},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			start := time.Now()
			list := addrs("192.0.2.1 192.0.2.2")
			got, err := First(ctx, list, func(ctx context.Context, a netip.Addr) error {
				d := tt.takes[a.As4()[3]-1]
				if d < dead {
					d *= time.Millisecond
				}
				select {
				case <-time.After(max(d, -d)):
					if d < 0 {
						return errors.New("refused")
					}
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if took := time.Since(start); took != tt.after*time.Millisecond {
				t.Errorf("%s: took %v; want %v ms", tt.name, took, int64(tt.after))
			}
			if tt.want == "" {
				if err == nil || got != list[0] {
					t.Errorf("%s: First() = %v, %v; want an error, and the first", tt.name, got, err)
				}
			} else if err != nil || got.String() != tt.want {
				t.Errorf("%s: First() = %v, %v; want %s", tt.name, got, err, tt.want)
			}
		})
	}
}

func TestSourceOfLoopback(t *testing.T) {
	if got := Source(netip.MustParseAddr("127.0.0.1")); got.String() != "127.0.0.1" {
		t.Errorf("Source(127.0.0.1) = %v", got)
	}
}
