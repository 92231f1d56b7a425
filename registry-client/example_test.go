package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// folder makes a data folder for an example.
func folder() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

// A phone has one identity, which is made when it is first asked for.
func ExampleLoadIdentity() {
	dir, remove := folder()
	defer remove()
	mac := netlink.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x01}
	first, err := registry.LoadIdentity(dir, mac)
	if err != nil {
		panic(err)
	}
	again, err := registry.LoadIdentity(dir, mac)
	if err != nil {
		panic(err)
	}
	fmt.Println(first.Certificate.Leaf.URIs[0])
	fmt.Println("the same key:", first.Fingerprint == again.Fingerprint)
	// Output:
	// urn:dev:mac:02005effff005301
	// the same key: true
}

// A server stands for a Client here, which is both a Registrar and a Link.
type server struct{}

func (server) Register(_ context.Context, r wire.Registration) (wire.Receipt, error) {
	fmt.Println("the server hears of", r.MAC, "at", r.Addrs[0])
	return wire.Receipt{Number: "101", Sequence: r.Sequence}, nil
}

func (server) Release(_ context.Context, mac wire.MAC, _ uint64) error {
	fmt.Println("the server hears that", mac, "leaves")
	return nil
}

func (server) Alive(context.Context) (uint64, error)     { return 1, nil }
func (server) Lost() <-chan struct{}                     { return nil }
func (server) Move(context.Context, ...netip.Addr) error { return nil }

func (server) Knock(time.Duration) (<-chan bool, error) { return nil, nil }

// An Announcer takes lease events, and has the server told of what is new.
func ExampleAnnouncer() {
	dir, remove := folder()
	defer remove()
	sequence, err := registry.OpenSequence(filepath.Join(dir, "sequence"))
	if err != nil {
		panic(err)
	}
	told := make(chan registry.Outcome, 1)
	announcer := registry.NewAnnouncer(registry.AnnouncerConfig{
		MAC:   wire.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x01},
		Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Registrar: server{}, Link: server{}, Sequence: sequence,
		Report: func(o registry.Outcome) { told <- o },
		Log:    slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { announcer.Run(ctx) })

	now := time.Now()
	announcer.Update(netlink.Event{Kind: netlink.Bound, At: now, Lease: netlink.Lease{
		Prefix: netip.MustParsePrefix("192.0.2.7/24"), Start: now, Expiry: now.Add(time.Hour),
	}})
	fmt.Println("this phone is", (<-told).Receipt.Number)
	if err := announcer.Release(ctx); err != nil {
		panic(err)
	}
	stop()
	running.Wait()
	// Output:
	// the server hears of 02:00:5e:00:53:01 at 192.0.2.7
	// this phone is 101
	// the server hears that 02:00:5e:00:53:01 leaves
}
