package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"flexphone/netlink"
	"flexphone/testbed/lab"
)

// oursName is what our client is called in the tables.
const oursName = "flexphone"

// A client is one that can be started on a cable, with its state in dir.
type client struct {
	name  string
	start func(ctx context.Context, c *lab.Cable, dir string) (running, error)
}

// A running client is ended by stop. Renew has it renew its lease now, when it
// would not do so at the T1 that it is given; else it does nothing.
type running struct {
	stop, renew func() error
	began       time.Time
}

// clients returns ours and the others that are installed, and says which are
// not.
func clients(quick bool) (list []client, missing []string) {
	list = []client{{oursName, func(ctx context.Context, c *lab.Cable, dir string) (running, error) {
		began := time.Now()
		o, err := startOurs(ctx, c, dir, nil)
		if err != nil {
			return running{}, err
		}
		return running{o.stop, func() error { return nil }, began}, nil
	}}}
	for _, p := range append(lab.Peers(), lab.Networkd()) {
		if quick {
			p = p.Quick()
		}
		if why := p.Missing(); why != "" {
			missing = append(missing, why)
			continue
		}
		list = append(list, client{filepath.Base(p.Name), func(_ context.Context, c *lab.Cable, dir string) (running, error) {
			process, err := p.Start(c.Near, dir)
			if err != nil {
				return running{}, err
			}
			stop := func() error {
				select {
				case <-process.Done():
					return fmt.Errorf("%s ended by itself: %s", p.Name, lastLine(filepath.Join(dir, "log")))
				default:
					process.Kill()
					return nil
				}
			}
			renew := func() error {
				if p.Renew == nil {
					return nil
				}
				return p.Renew(process)
			}
			return running{stop, renew, process.Began}, nil
		}})
	}
	return list, missing
}

func lastLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-200):])
}

// An ours is our client, running.
type ours struct {
	netlink.Source
	cancel context.CancelFunc
	ended  chan error
}

// startOurs runs our client at the near end of c.
func startOurs(ctx context.Context, c *lab.Cable, dir string, log *slog.Logger) (*ours, error) {
	source, err := netlink.NewClient(netlink.Config{Interface: lab.NearName, LeaseFile: filepath.Join(dir, "lease"), Log: log})
	if err != nil {
		return nil, err
	}
	return runSource(ctx, c, source), nil
}

func runSource(ctx context.Context, c *lab.Cable, s netlink.Source) *ours {
	ctx, cancel := context.WithCancel(ctx)
	o := &ours{Source: s, cancel: cancel, ended: make(chan error, 1)}
	// A thread of the namespace is what Run's sockets come from.
	go func() { o.ended <- c.Near.Do(func() error { return s.Run(ctx) }) }()
	return o
}

// stop has the client give its address back.
func (o *ours) stop() error {
	o.cancel()
	return <-o.ended
}
