package store

import (
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"flexphone/registry-client/wire"
)

// A natsServer is one with JetStream in a domain of its own.
type natsServer struct {
	*server.Server
	opts *server.Options
}

// startNATS runs a NATS server, which is the leaf of another if that is not nil.
func startNATS(t *testing.T, name string, of *natsServer) *natsServer {
	t.Helper()
	opts := &server.Options{
		ServerName: name, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, JetStreamDomain: name, StoreDir: t.TempDir(),
	}
	if of == nil {
		opts.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT}
	} else {
		at := &url.URL{Scheme: "nats-leaf", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(of.opts.LeafNode.Port))}
		opts.LeafNode = server.LeafNodeOpts{ReconnectInterval: 100 * time.Millisecond, Remotes: []*server.RemoteLeafOpts{{
			URLs: []*url.URL{at}, DenyImports: []string{subjectRoot + ">"}, DenyExports: []string{subjectRoot + ">"},
		}}}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS server is not ready")
	}
	return &natsServer{ns, opts}
}

// The clusters of two regions, joined by a leaf node, keep their rows apart and their
// regions together: whoever sets one, and also after they were parted for a while.
func TestRegionsOfTwoClusters(t *testing.T) {
	hub := startNATS(t, "west", nil)
	leaf := startNATS(t, "east", hub)
	openAt := func(ns *natsServer, changed func([]wire.Query)) *Store {
		s, err := Open(t.Context(), Options{
			Dir: t.TempDir(), NATS: ns.ClientURL(), Numbers: Numbers{First: 101, Last: 999}, Changed: changed, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	west, east := openAt(hub, nil), openAt(leaf, nil)
	defer west.Close()
	to := func(n byte) wire.Referral { return wire.Referral{Server: "r.example:5684", Key: wire.Fingerprint{n}} }
	set := func(s *Store, sp string, n byte) {
		t.Helper()
		if err := s.SetRegion(t.Context(), span(t, sp), to(n)); err != nil {
			t.Fatal(err)
		}
	}
	await := func(s *Store, q wire.Query, n byte) {
		t.Helper()
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for deadline := time.Now().Add(time.Minute); ; <-again.C {
			got, ok := s.RegionOf(q)
			if ok && got == to(n) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("RegionOf(%v) = %v, %v; want key %d", q, got, ok, n)
			}
		}
	}
	set(west, "1", 1)
	await(east, wire.Query{Number: "111"}, 1)
	set(east, "2", 2)
	await(west, wire.Query{Number: "222"}, 2)
	if _, _, err := west.Register(t.Context(), key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if row, ok := east.Resolve(wire.Query{MAC: mac(1)}); ok {
		t.Errorf("the other region has %+v", row)
	}
	east.Close()
	set(west, "1", 3)
	east = openAt(leaf, nil)
	defer east.Close()
	await(east, wire.Query{Number: "111"}, 3)
	await(east, wire.Query{Number: "222"}, 2)
}
