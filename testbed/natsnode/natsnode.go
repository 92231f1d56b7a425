// Package natsnode makes a program a node of a NATS cluster, for tests of storing servers
// that keep their rows in one.
//
// It knows a node's configuration. It refuses to know where its process runs, and how long.
package natsnode

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// environment has the path of the configuration of the node that a program is to be.
const environment = "FLEXPHONE_NATS_NODE"

// RunIfAsked makes the program a node, if its environment is that of Environment, until it is
// ended; otherwise it returns at once. A TestMain calls it first.
func RunIfAsked() {
	config := os.Getenv(environment)
	if config == "" {
		return
	}
	if err := run(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(config string) error {
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	ns.ConfigureLogger()
	ns.Start()
	ns.WaitForShutdown()
	return nil
}

// A Node is one of a cluster.
type Node struct {
	Cluster string   // its name
	Index   int      // of the node
	Clients []string // HOST:PORT of each node, for clients
	Routes  []string // likewise, for each other
	Dir     string   // of its files
	Log     string   // file; empty: standard error
	Sync    bool     // each write is on the disk before it is answered
	More    string   // else of its configuration
}

// Environment writes the node's configuration into its folder, and returns what the
// environment of a program that is to be this node has more than ours.
func (n Node) Environment() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: \"%s-%d\"\nlisten: %q\n", n.Cluster, n.Index, n.Clients[n.Index])
	always := ""
	if n.Sync {
		always = "sync_interval: always, "
	}
	fmt.Fprintf(&b, "jetstream { store_dir: %q, %smax_file_store: 1G }\n", n.Dir, always)
	fmt.Fprintf(&b, "cluster { name: %q, listen: %q, routes: [\"nats://%s\"] }\n", n.Cluster, n.Routes[n.Index], strings.Join(n.Routes, `", "nats://`))
	if n.Log != "" {
		fmt.Fprintf(&b, "log_file: %q\n", n.Log)
	}
	b.WriteString(n.More)
	config := filepath.Join(n.Dir, "nats.conf")
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		return "", fmt.Errorf("natsnode: write configuration: %w", err)
	}
	return environment + "=" + config, nil
}

// URL is where clients find the cluster.
func URL(clients []string) string { return "nats://" + strings.Join(clients, ",nats://") }
