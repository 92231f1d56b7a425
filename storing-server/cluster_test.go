package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"flexphone/registry-client/wire"
	"flexphone/testbed/natsnode"
)

// A natsCluster is three NATS nodes, each a process of its own.
type natsCluster struct {
	url   string
	nodes []*exec.Cmd
}

func startCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := startNodes(t, "rows", func(int) string { return "" })
	c.await(t)
	return c
}

// startNodes starts a cluster of that name, and does not wait for it. more is what else the
// configuration of a node says.
func startNodes(t *testing.T, name string, more func(node int) string) *natsCluster {
	t.Helper()
	var clients, routes []string
	for range 3 {
		clients, routes = append(clients, ownAddress()), append(routes, ownAddress())
	}
	c := &natsCluster{url: natsnode.URL(clients)}
	for i := range clients {
		dir := t.TempDir()
		node, err := natsnode.Node{
			Cluster: name, Index: i, Clients: clients, Routes: routes, Dir: dir, Log: filepath.Join(dir, "log"), Sync: true, More: more(i),
		}.Environment()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), node)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, cmd)
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says that it was killed
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Logf("node %d: %s%s", i, said.String(), log[max(0, len(log)-3000):])
			}
		})
	}
	return c
}

// await waits until the cluster has a leader that answers.
func (c *natsCluster) await(t *testing.T) {
	t.Helper()
	conn, err := nats.Connect(c.url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-retry.C {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "probe", Replicas: 3})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("cluster did not form: %v", err)
		}
	}
	if err := js.DeleteStream(t.Context(), "probe"); err != nil {
		t.Fatal(err)
	}
}

// leader returns the index of the node that leads a partition.
func (c *natsCluster) leader(t *testing.T, stream string) int {
	t.Helper()
	conn, err := nats.Connect(c.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config.Replicas; got != 3 {
		t.Errorf("stream %s has %d replicas; want 3", stream, got)
	}
	var i int
	if _, err := fmt.Sscanf(s.CachedInfo().Cluster.Leader, "rows-%d", &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// startMember starts a storing server on the cluster. All members have the
// same key.
func (c *natsCluster) startMember(t *testing.T, key []byte, args ...string) *process {
	t.Helper()
	return c.startMemberTelling(t, func(string) {}, key, args...)
}

func (c *natsCluster) startMemberTelling(t *testing.T, tell func(string), key []byte, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	if key != nil {
		if err := os.WriteFile(filepath.Join(dir, keyName), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startTelling(t, tell, dir, "127.0.0.1:0", append([]string{"--nats", c.url, "--partitions", "2"}, args...)...)
	t.Cleanup(p.kill)
	return p
}

// Any server of a cluster answers for any phone, and a phone that moves from
// one to another loses nothing. Then, under load, a NATS node and a storing
// server are killed: no acknowledged row is lost, and the service is back
// within seconds.
func TestCluster(t *testing.T) {
	const phones = 8
	nodes := startCluster(t)
	keyDir := t.TempDir()
	if _, err := serverCertificate(keyDir); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(keyDir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	a, b := nodes.startMember(t, key), nodes.startMember(t, key)

	// A phone announces itself to a, moves to b, and goes on there.
	first, _ := newHastyPhone(t, t.TempDir(), a.listen, phoneMAC(100), time.Second)
	receipt, err := first.Register(t.Context(), announcement(phoneMAC(100), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.SetServer(b.listen); err != nil {
		t.Fatal(err)
	}
	moved, err := first.Register(t.Context(), announcement(phoneMAC(100), 2, "192.0.2.2"))
	if err != nil || moved.Number != receipt.Number || receipt.Number == "" {
		t.Fatalf("after the move to another server: %+v, %v; want number %q kept", moved, err, receipt.Number)
	}
	other, _ := newHastyPhone(t, t.TempDir(), a.listen, phoneMAC(101), time.Second)
	if _, err := other.Register(t.Context(), announcement(phoneMAC(101), 1, "192.0.2.3")); err != nil {
		t.Fatal(err)
	}
	awaitRow(t, "the move through the other server", func() bool {
		row, err := other.Resolve(t.Context(), wire.Query{Number: receipt.Number})
		return err == nil && row.Sequence == 2 && row.Addrs[0] == netip.MustParseAddr("192.0.2.2")
	})

	// Each has its session with another server; a link between them is passed on, once
	// both servers have both rows.
	awaitRow(t, "the row of the other at the other server", func() bool {
		_, err := first.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(101))})
		return err == nil
	})
	taken := make(chan net.Conn, 1)
	go func() {
		c, err := other.AcceptRelayed(t.Context())
		if err != nil {
			t.Error(err)
		}
		taken <- c
	}()
	here, err := first.DialRelayed(t.Context(), wire.MAC(phoneMAC(101)))
	if err != nil {
		t.Fatal(err)
	}
	there := <-taken
	exchanged(t, here, there, 10000)
	here.Close()
	there.Close()

	// Load, with half of the phones at each server first.
	var acknowledged [phones]atomic.Uint64
	var longest, total atomic.Int64
	var load sync.WaitGroup
	stop := make(chan struct{})
	for i := range phones {
		servers := a.listen + "," + b.listen
		if i%2 == 1 {
			servers = b.listen + "," + a.listen
		}
		c, _ := newHastyPhone(t, t.TempDir(), servers, phoneMAC(byte(i+1)), 200*time.Millisecond)
		load.Go(func() {
			last := time.Now()
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := c.Register(t.Context(), announcement(phoneMAC(byte(i+1)), n, netip.AddrFrom4([4]byte{10, byte(i), byte(n >> 8), byte(n)}).String()))
				if err != nil {
					continue // nothing was promised
				}
				acknowledged[i].Store(r.Sequence)
				total.Add(1)
				now := time.Now()
				if gap := int64(now.Sub(last)); gap > longest.Load() {
					longest.Store(gap)
				}
				last = now
			}
		})
	}
	each := func(what string, more uint64) time.Duration {
		t.Helper()
		start := time.Now()
		var from [phones]uint64
		for i := range from {
			from[i] = acknowledged[i].Load()
		}
		awaitRow(t, what, func() bool {
			for i := range from {
				if acknowledged[i].Load() < from[i]+more {
					return false
				}
			}
			return true
		})
		return time.Since(start)
	}
	each("load", 20)
	longest.Store(0)
	lead := nodes.leader(t, "FLEXPHONE-0")
	if err := nodes.nodes[lead].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	node := each("every phone to be served after a NATS node was killed", 2)
	nodeGap := time.Duration(longest.Swap(0))
	each("load", 10)
	longest.Store(0)
	a.kill()
	serverBack := each("every phone to be served after a storing server was killed", 2)
	serverGap := time.Duration(longest.Load())
	close(stop)
	load.Wait()
	t.Logf("%d registrations acknowledged; killed NATS node (leader): every phone served again after %v, longest wait %v; killed storing server: %v, %v",
		total.Load(), node.Round(time.Millisecond), nodeGap.Round(time.Millisecond), serverBack.Round(time.Millisecond), serverGap.Round(time.Millisecond))

	// A new server, which has to wait until one of the two nodes that are left
	// answers again, has every row.
	pausing := nodes.nodes[(lead+1)%len(nodes.nodes)].Process
	if err := pausing.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var waited atomic.Bool
	resume := func() {
		waited.Store(true)
		_ = pausing.Signal(syscall.SIGCONT)
	}
	// A leader that has not noticed yet still names itself; then the server waits,
	// without a word, for the rows.
	late := time.AfterFunc(30*time.Second, resume)
	fresh := nodes.startMemberTelling(t, func(message string) {
		if message == "waiting for the NATS cluster to choose a leader" {
			resume()
		}
	}, key, "--http", "127.0.0.1:0")
	late.Stop()
	if !waited.Load() {
		t.Error("a server started on one node of three")
	}
	reader, _ := newHastyPhone(t, t.TempDir(), fresh.listen, phoneMAC(102), time.Second)
	if _, err := reader.Register(t.Context(), announcement(phoneMAC(102), 1, "192.0.2.4")); err != nil {
		t.Fatal(err)
	}
	numbers := map[string]bool{}
	for i := range phones {
		row, err := reader.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(byte(i + 1)))})
		if err != nil || row.Sequence < acknowledged[i].Load() || row.Number == "" || numbers[row.Number] {
			t.Errorf("row %d is %+v, %v; acknowledged was %d, and the number must be its own", i+1, row, err, acknowledged[i].Load())
		}
		numbers[row.Number] = true
	}

	// The rows cannot be divided in another way.
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"run", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--nats", nodes.url, "--partitions", "3"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "made with --partitions 2") {
		t.Errorf("another number of partitions: exit %d, %s", code, errs.String())
	}

	// Without a cluster a server lives, and says that it is of no use.
	if got := statusOf(t, fresh.http+"/readyz"); got != http.StatusOK {
		t.Errorf("/readyz is %d; want 200", got)
	}
	for _, n := range nodes.nodes {
		_ = n.Process.Kill() // one is dead already
	}
	awaitRow(t, "the server to know that it has no cluster", func() bool {
		return statusOf(t, fresh.http+"/readyz") == http.StatusServiceUnavailable
	})
	if got := statusOf(t, fresh.http+"/healthz"); got != http.StatusOK {
		t.Errorf("/healthz without a cluster is %d; want 200", got)
	}
}

// statusOf asks a server of this machine, by HTTP.
func statusOf(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// awaitRow asks until ok, for a minute at the most.
func awaitRow(t *testing.T, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
