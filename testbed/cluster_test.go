package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/testbed/natsnode"
)

// startNATS starts the three nodes of a NATS cluster on the storing servers' host, and
// returns their URLs.
func startNATS(t testing.TB, bed *Bed) string {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	var clients, routes []string
	for i := range 3 {
		clients = append(clients, fmt.Sprintf("127.0.0.1:%d", 4222+i))
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", 6222+i))
	}
	for i := range clients {
		node, err := natsnode.Node{Cluster: "rows", Index: i, Clients: clients, Routes: routes, Dir: t.TempDir()}.Environment()
		must(t, err)
		p, err := bed.Server.host.run(bed.Dir, command{name: fmt.Sprintf("nats-%d", i), path: binary, env: []string{node}})
		must(t, err)
		t.Cleanup(p.kill)
		_, _, err = p.await(t.Context(), 0, func(line string) bool { return strings.Contains(line, "Listening for client connections") })
		must(t, err)
	}
	return natsnode.URL(clients)
}

// addMember starts a storing server of a cluster, with that one's key if of is not nil,
// and with its own ports that help sound.
func addMember(ctx context.Context, t testing.TB, bed *Bed, name, nats string, port int, of *Server) *Server {
	t.Helper()
	s := &Server{host: bed.Server.host, dir: bed.Dir, name: name, port: port, binary: bed.Server.binary, flags: []string{
		"--nats", nats, "--stun", fmt.Sprintf(":%d", port+1000), "--relay", fmt.Sprintf(":%d", port+2000),
	}}
	if of != nil {
		const key = "server.key"
		text, err := os.ReadFile(filepath.Join(of.data(), key))
		must(t, err)
		must(t, os.MkdirAll(s.data(), 0o700))
		must(t, os.WriteFile(filepath.Join(s.data(), key), text, 0o600))
	}
	must(t, s.Start(ctx))
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Phones behind NATs, each registered at another storing server of one cluster, call each
// other by a link that both servers carry, and hear each other.
func TestRelayedCallAcrossACluster(t *testing.T) {
	ctx, bed, all := homes(t, 2, closed)
	nats := startNATS(t, bed)
	one := addMember(ctx, t, bed, "one", nats, 5694, nil)
	two := addMember(ctx, t, bed, "two", nats, 5704, one)
	a := addBehindAt(ctx, t, bed, one, all[0], 101, "192.168.77.2")
	b := addBehindAt(ctx, t, bed, two, all[1], 102, "192.168.77.2")
	for _, ends := range [][2]*Phone{{a, b}, {b, a}} {
		number := "102"
		if ends[1] == a {
			number = "101"
		}
		talk, err := Call(ctx, ends[0], ends[1], number)
		must(t, err)
		for _, p := range ends {
			if link := linkOf(ctx, t, p); link != "relayed" {
				t.Errorf("%s calls %s: the link is %q at %s; want relayed", ends[0].Name, number, link, p.Name)
			}
		}
		hearEachOther(ctx, t, ends[0], ends[1])
		must(t, talk.HangUp(ctx, ends[1]))
	}
	for _, s := range []*Server{one, two} { // both have passed messages on
		m, err := s.Metrics(ctx)
		must(t, err)
		if !strings.Contains(m, `storing_server_link_messages_total{result="passed"}`) {
			t.Errorf("server %s has carried no link", s.name)
		}
	}
}
