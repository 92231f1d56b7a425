package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A race in simulated time: who is tried when, until everybody was.
func TestRace(t *testing.T) {
	type server struct {
		group  int
		found  time.Duration // when the look-up ends; negative: it was there before
		addrs  string
		fails  time.Duration // how long after its beginning a try fails; 0: never
		unseen bool          // the look-up finds nothing
	}
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		servers []server
		want    string
	}{
		{"a name with four addresses", []server{{addrs: "1 2 3 4"}}, "0:1 250:2 500:3 750:4"},
		{"each fails at once", []server{{addrs: "1 2 3", fails: 5 * ms}}, "0:1 5:2 10:3"},
		{"two servers", []server{{addrs: "1"}, {addrs: "2 3"}}, "0:1 250:2 500:3"},
		{"the second is found first", []server{{addrs: "1", found: 100 * ms}, {addrs: "2 3"}}, "0:2 250:1 500:3"},
		{"the first is never found", []server{{found: 5000 * ms, unseen: true}, {addrs: "2"}}, "0:2"},
		{"less certain", []server{{addrs: "1"}, {addrs: "2 3", group: 1}}, "0:1 1000:2 1250:3"},
		{"less certain, and the certain one refuses", []server{{addrs: "1", fails: 20 * ms}, {addrs: "2", group: 1}}, "0:1 20:2"},
		{"less certain, and the name of the certain one is not found", []server{{found: 5000 * ms, unseen: true}, {addrs: "2", group: 1}}, "1000:2"},
		{"less certain, and the certain one has no address", []server{{found: 30 * ms, unseen: true}, {addrs: "2", group: 1}}, "30:2"},
		{"the certain one comes late", []server{{addrs: "1", found: 1100 * ms}, {addrs: "2 3", group: 1}}, "1000:2 1250:1 2250:3"},
		{"nothing", []server{{unseen: true}}, ""},
	} {
		start := time.Now()
		r := race{begun: start}
		for i, s := range tt.servers {
			r.candidates = append(r.candidates, candidate{server: fmt.Sprint(i), group: s.group, looking: true})
		}
		var tried []string
		var failures []time.Duration
		for now := time.Duration(0); now < 6*time.Second; now += ms {
			for i, s := range tt.servers {
				if r.candidates[i].looking && now >= s.found {
					r.candidates[i].looking = false
					for _, a := range strings.Fields(s.addrs) {
						r.candidates[i].addrs = append(r.candidates[i].addrs, netip.AddrPortFrom(netip.MustParseAddr("192.0.2."+a), 5684))
					}
				}
			}
			for slices.Contains(failures, now) {
				failures[slices.Index(failures, now)] = -1
				r.failed()
			}
			for {
				target, ok, at := r.next(start.Add(now))
				if !ok {
					if !at.IsZero() && !at.After(start.Add(now)) {
						t.Fatalf("%s: at %v it asks to come back at %v", tt.name, now, at.Sub(start))
					}
					break
				}
				tried = append(tried, fmt.Sprintf("%d:%d", now.Milliseconds(), target.addr.Addr().As4()[3]))
				for i, s := range tt.servers {
					if target.server == fmt.Sprint(i) && s.fails > 0 {
						failures = append(failures, now+s.fails)
					}
				}
			}
		}
		if got := strings.Join(tried, " "); got != tt.want {
			t.Errorf("%s: tried %q; want %q", tt.name, got, tt.want)
		}
		if !r.over() {
			t.Errorf("%s: something is left", tt.name)
		}
	}
}

func TestLocalFor(t *testing.T) {
	for _, tt := range []struct{ remote, locals, want string }{
		{"127.0.0.1:5684", "127.0.0.1 192.0.2.9", "127.0.0.1"}, // what the kernel takes
		{"127.0.0.1:5684", "192.0.2.9 127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:5684", "192.0.2.9 2001:db8::9", "192.0.2.9"},
		{"[::1]:5684", "192.0.2.9 2001:db8::9", "2001:db8::9"},
		{"[::1]:5684", "192.0.2.9", ""},
		{"127.0.0.1:5684", "2001:db8::9", ""},
		{"127.0.0.1:5684", "", ""},
	} {
		var locals []netip.Addr
		for _, l := range strings.Fields(tt.locals) {
			locals = append(locals, netip.MustParseAddr(l))
		}
		got := localFor(netip.MustParseAddrPort(tt.remote), locals)
		if want, _ := netip.ParseAddr(tt.want); got != want {
			t.Errorf("localFor(%s, %v) = %v; want %q", tt.remote, locals, got, tt.want)
		}
	}
}

func TestSetServers(t *testing.T) {
	id, err := LoadIdentity(t.TempDir(), testMAC)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(Config{Identity: id, Pins: NewFilePins(t.TempDir() + "/p"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Resolve(t.Context(), wire.Query{Number: "101"}); !errors.Is(err, ErrNoServer) {
		t.Errorf("Resolve() without a server = %v", err)
	}
	for _, tt := range []struct {
		groups [][]string
		want   string // whose turn it is
		ok     bool
	}{
		{[][]string{{"a", "b"}, {"c"}}, "a:5684", true},
		{[][]string{{"b"}, {"a"}}, "a:5684", true}, // still among them
		{[][]string{nil, {"b", "c"}}, "b:5684", true},
		{[][]string{{"b:0"}}, "b:5684", false},
		{nil, "", true},
	} {
		if err := c.SetServers(tt.groups); (err == nil) != tt.ok || c.Server() != tt.want {
			t.Errorf("SetServers(%v) = %v, Server() = %q; want %q", tt.groups, err, c.Server(), tt.want)
		}
	}
}

// asked is a Resolver that knows no answer, and tells what it is asked.
type asked chan string

func (a asked) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	select {
	case a <- host:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Who is named while another is waited for is tried beside it, not after it.
func TestAServerIsNamedMeanwhile(t *testing.T) {
	id, err := LoadIdentity(t.TempDir(), testMAC)
	if err != nil {
		t.Fatal(err)
	}
	hosts := make(asked)
	c, err := NewClient(Config{Server: "mute.test", Identity: id, Pins: NewFilePins(t.TempDir() + "/p"), Log: slog.New(slog.DiscardHandler), Resolver: hosts})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := c.Resolve(ctx, wire.Query{Number: "101"})
		done <- err
	}()
	next := func() (host string) {
		select {
		case host = <-hosts:
		case err := <-done:
			t.Fatalf("Resolve() = %v, and has not asked for the other server", err)
		}
		return host
	}
	if host := next(); host != "mute.test" {
		t.Fatalf("asked for %q", host)
	}
	groups := [][]string{{"mute.test"}, {"ours.test"}}
	for range 2 { // the second time nothing is new
		if err := c.SetServers(groups); err != nil {
			t.Fatal(err)
		}
	}
	for next() != "ours.test" {
	}
	cancel()
	for err == nil {
		select {
		case <-hosts:
		case err = <-done:
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve() = %v", err)
	}
}
