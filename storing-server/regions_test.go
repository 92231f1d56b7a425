package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// Two regions are two servers with rows of their own, and the same spans.
type twoRegions struct {
	west, east *testServer
}

const (
	westPhones = "02:00:5e:00:53:00-02:00:5e:00:53:7f"
	eastPhones = "02:00:5e:00:53:80-02:00:5e:00:53:ff"
)

func startRegions(t *testing.T) twoRegions {
	t.Helper()
	start := func() *testServer { // as the program does unless it is told
		return startUnder(t, t.TempDir(), "127.0.0.1:0", exchange.DefaultLimits(), trust.Policy{Resolve: trust.ResolveEnrolled})
	}
	r := twoRegions{start(), start()}
	r.set(t, westPhones, r.west.referral())
	r.set(t, eastPhones, r.east.referral())
	r.set(t, "2", r.east.referral())
	return r
}

func (s *testServer) referral() wire.Referral { return wire.Referral{Server: s.addr, Key: s.key} }

// set says at both servers who keeps a span.
func (r twoRegions) set(t *testing.T, span string, to wire.Referral) {
	t.Helper()
	s, err := store.ParseSpan(span)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []*testServer{r.west, r.east} {
		if err := at.rows.SetRegion(t.Context(), s, to); err != nil {
			t.Fatal(err)
		}
	}
}

// phone returns a phone that is told to use a server, and has announced itself.
func (r twoRegions) phone(t *testing.T, at *testServer, n byte, addr string) *registry.Client {
	t.Helper()
	c, _ := newPhone(t, t.TempDir(), at.addr, phoneMAC(n))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(n), 1, addr)); err != nil {
		t.Fatalf("phone %d: %v", n, err)
	}
	return c
}

func macQuery(n byte) wire.Query { return wire.Query{MAC: wire.MAC(phoneMAC(n))} }

func wantRow(t *testing.T, c *registry.Client, q wire.Query, addr string) {
	t.Helper()
	row, err := c.Resolve(t.Context(), q)
	if err != nil || row.State != wire.Online || row.Addrs[0] != netip.MustParseAddr(addr) {
		t.Errorf("Resolve(%v) = %+v, %v; want %s, online", q, row, err, addr)
	}
}

// A phone of one region finds those of the other, by MAC and by number, and remembers
// where they are: then its own server is not needed.
func TestCallToAnotherRegion(t *testing.T) {
	r := startRegions(t)
	r.phone(t, r.east, 0x81, "192.0.2.81")
	if err := r.east.rows.SetNumber(t.Context(), wire.MAC(phoneMAC(0x81)), "201"); err != nil {
		t.Fatal(err)
	}
	caller := r.phone(t, r.west, 1, "192.0.2.1")
	wantRow(t, caller, macQuery(0x81), "192.0.2.81")
	wantRow(t, caller, wire.Query{Number: "201"}, "192.0.2.81")
	wantRow(t, caller, macQuery(1), "192.0.2.1")
	for _, q := range []wire.Query{macQuery(0x99), {Number: "299"}, {Number: "399"}} {
		if row, err := caller.Resolve(t.Context(), q); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("Resolve(%v) = %+v, %v; want ErrUnknown", q, row, err)
		}
	}
	// Without the word of its own region's server nobody is answered.
	stranger, _ := newPhone(t, t.TempDir(), r.west.addr, phoneMAC(9))
	for _, at := range []*testServer{r.west, r.east} {
		if err := stranger.SetServer(at.addr); err != nil {
			t.Fatal(err)
		}
		if row, err := stranger.Resolve(t.Context(), macQuery(0x81)); !errors.Is(err, registry.ErrRefused) {
			t.Errorf("a stranger's Resolve() = %+v, %v; want ErrRefused", row, err)
		}
	}
	r.west.stop()
	wantRow(t, caller, macQuery(0x81), "192.0.2.81")
}

// Who is watched is followed into the other region.
func TestPhoneMovesHouse(t *testing.T) {
	r := startRegions(t)
	mover, watcher := r.phone(t, r.west, 2, "192.0.2.2"), r.phone(t, r.west, 1, "192.0.2.1")
	ctx, stop := context.WithCancel(t.Context())
	seen, ended := make(chan wire.Row, 16), make(chan error, 1)
	go func() {
		ended <- watcher.Observe(ctx, macQuery(2), func(row wire.Row, current bool) {
			if current {
				seen <- row
			}
		})
	}()
	await := func(addr string) {
		t.Helper()
		for {
			select {
			case row := <-seen:
				if row.State == wire.Online && row.Addrs[0] == netip.MustParseAddr(addr) {
					return
				}
			case err := <-ended:
				t.Fatalf("Observe() = %v; want %s to be told", err, addr)
			}
		}
	}
	await("192.0.2.2")

	r.set(t, "02:00:5e:00:53:02", r.east.referral())
	wantRow(t, watcher, macQuery(2), "192.0.2.2") // it has not moved yet
	if _, err := mover.Register(t.Context(), announcement(phoneMAC(2), 5, "192.0.2.22")); err != nil {
		t.Fatal(err)
	}
	await("192.0.2.22")
	wantRow(t, watcher, macQuery(2), "192.0.2.22")
	if row, ok := r.west.rows.Resolve(macQuery(2)); !ok || row.State != wire.Offline {
		t.Errorf("the row that was left is %+v, %v; want it offline", row, ok)
	}
	if got := mover.Server(); got != r.east.addr {
		t.Errorf("the phone's server is %s; want %s", got, r.east.addr)
	}

	// It goes on there, also when the same servers are named again, as with each lease.
	if err := mover.SetServer(r.west.addr); err != nil {
		t.Fatal(err)
	}
	if _, err := mover.Register(t.Context(), announcement(phoneMAC(2), 6, "192.0.2.23")); err != nil {
		t.Fatal(err)
	}
	await("192.0.2.23")
	if row, ok := r.west.rows.Resolve(macQuery(2)); !ok || row.State != wire.Offline {
		t.Errorf("the row that was left is %+v, %v; want it offline", row, ok)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Observe() = %v", err)
	}
}

// A new phone that asks the wrong region's server gets its row in the right one alone.
func TestNewPhoneOfAnotherRegion(t *testing.T) {
	r := startRegions(t)
	c := r.phone(t, r.west, 0x85, "192.0.2.85")
	if row, ok := r.west.rows.Resolve(macQuery(0x85)); ok {
		t.Errorf("the wrong region has %+v", row)
	}
	if row, ok := r.east.rows.Resolve(macQuery(0x85)); !ok || row.State != wire.Online {
		t.Errorf("the right region has %+v, %v", row, ok)
	}
	wantRow(t, c, macQuery(0x85), "192.0.2.85")
}

// Where the other region cannot be had, a phone stays where it is, and callable.
func TestRegionThatCannotBeHad(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0") // takes all, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, to := range map[string]func(r twoRegions) wire.Referral{
		"silent": func(r twoRegions) wire.Referral {
			return wire.Referral{Server: silent.LocalAddr().String(), Key: r.east.key}
		},
		"another key":   func(r twoRegions) wire.Referral { return wire.Referral{Server: r.east.addr, Key: wire.Fingerprint{7}} },
		"without a way": func(r twoRegions) wire.Referral { return wire.Referral{Server: "[2001:db8::1]:5684", Key: r.east.key} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRegions(t)
			c := r.phone(t, r.west, 3, "192.0.2.3")
			caller := r.phone(t, r.west, 1, "192.0.2.1")
			r.set(t, "02:00:5e:00:53:03-02:00:5e:00:53:04", to(r))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			receipt, err := c.Register(ctx, announcement(phoneMAC(3), 2, "192.0.2.33"))
			if err != nil || receipt.Sequence != 2 {
				t.Errorf("Register() = %+v, %v; want it taken here", receipt, err)
			}
			wantRow(t, caller, macQuery(3), "192.0.2.33")
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			fresh, _ := newPhone(t, t.TempDir(), r.west.addr, phoneMAC(4))
			if receipt, err := fresh.Register(ctx, announcement(phoneMAC(4), 1, "192.0.2.4")); err == nil || !strings.Contains(err.Error(), to(r).Server) {
				t.Errorf("Register() of a new phone = %+v, %v; want an error that names the server", receipt, err)
			}
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = caller.Resolve(ctx, macQuery(4))
			if want := registry.ErrUnreachable; name != "another key" && !errors.Is(err, want) {
				t.Errorf("Resolve() = %v; want %v", err, want)
			}
			if want := registry.ErrServerKey; name == "another key" && !errors.Is(err, want) {
				t.Errorf("Resolve() = %v; want %v", err, want)
			}
		})
	}
}

// Two servers that refer to each other lead nobody in circles.
func TestRegionsInACircle(t *testing.T) {
	r := startRegions(t)
	c := r.phone(t, r.west, 3, "192.0.2.3")
	span := store.Span{From: wire.MAC(phoneMAC(3)), To: wire.MAC(phoneMAC(4))}
	if err := r.west.rows.SetRegion(t.Context(), span, r.east.referral()); err != nil {
		t.Fatal(err)
	}
	if err := r.east.rows.SetRegion(t.Context(), span, r.west.referral()); err != nil {
		t.Fatal(err)
	}
	if receipt, err := c.Register(t.Context(), announcement(phoneMAC(3), 2, "192.0.2.33")); err != nil || receipt.Sequence != 2 {
		t.Errorf("Register() = %+v, %v; want it taken where it was", receipt, err)
	}
	wantRow(t, c, macQuery(3), "192.0.2.33")
	if row, err := c.Resolve(t.Context(), macQuery(4)); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("Resolve() = %+v, %v; want ErrUnknown", row, err)
	}
	fresh, _ := newPhone(t, t.TempDir(), r.west.addr, phoneMAC(4))
	if receipt, err := fresh.Register(t.Context(), announcement(phoneMAC(4), 1, "192.0.2.4")); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("Register() of a new phone = %+v, %v; want ErrRefused", receipt, err)
	}
}

// The operator's commands say who keeps what, with and without a running server.
func TestRegionCommands(t *testing.T) {
	dir := t.TempDir()
	key := strings.Repeat("ab", 32)
	startServer(t, dir, "127.0.0.1:0").stop() // makes the folder, and the server's key
	command(t, "region", "set", "49", "east.example", key, "--data", dir)
	command(t, "region", "set", "02:00:5e:00:53:00-02:00:5e:00:53:ff", "east.example:99", key, "--data", dir)
	command(t, "region", "set", "02:00:5e:00:53:07", "west.example", "--data", dir)
	command(t, "region", "set", "4", "south.example", key, "--data", dir)
	command(t, "region", "remove", "4", "--data", dir)
	got := command(t, "region", "list", "--json", "--data", dir)
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		want := []string{`"49","server":"east.example:5684"`, `"02:00:5e:00:53:07","server":"west.example:5684"`, `"02:00:5e:00:53:00-02:00:5e:00:53:ff","server":"east.example:99"`}
		if i >= len(want) || !strings.Contains(line, want[i]) {
			t.Errorf("line %d of the list is %s; want %q", i, line, want)
		}
	}
	command(t, "region", "set", "491", "west.example", "--data", dir) // this server's own
	command(t, "link", "new", "Ada", "--number", "4915,700", "--data", dir)
	var out, errs strings.Builder
	if code := runIn(&edges{ctx: t.Context(), stdout: &out, stderr: &errs}, []string{"link", "new", "Ada", "--number", "700,4925", "--data", dir}); code != exitFailed ||
		!strings.Contains(errs.String(), "number 4925 belongs to the region of east.example:5684: make the link there") {
		t.Errorf("a link to another region: exit code %d, %s%s", code, out.String(), errs.String())
	}
	for _, args := range []string{"region set 12345678901 a", "region set x a", "region set 49 a:b", "region set 49 a 12", "region set 02:00:5e:00:53:07-02:00:5e:00:53:06 a", "region remove 1-2"} {
		if code := runIn(&edges{ctx: t.Context(), stdout: &strings.Builder{}, stderr: &strings.Builder{}}, append(strings.Fields(args), "--data", dir)); code != exitUsage {
			t.Errorf("%s: exit code %d; want %d", args, code, exitUsage)
		}
	}
}
