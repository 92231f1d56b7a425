package faults_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/testbed/faults"
	"flexphone/testbed/lab"
	"flexphone/testbed/labtest"
)

// testWriter puts a client's log beside the test's own.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// startOurs returns how Case.Try starts our client.
func startOurs(t *testing.T) func(*lab.Cable) (func() error, error) {
	return func(c *lab.Cable) (func() error, error) {
		client, err := netlink.NewClient(netlink.Config{
			Interface: lab.NearName,
			Log:       slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Near.Do(func() error { return client.Run(ctx) }) }()
		return func() error {
			cancel()
			return <-ended
		}, nil
	}
}

// TestTable runs every case against our client.
func TestTable(t *testing.T) {
	if !labtest.Inside(t, 24) {
		return
	}
	for _, c := range faults.Table() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			err := c.Try(20*time.Second, startOurs(t))
			if errors.Is(err, faults.ErrStarved) {
				t.Skip(err)
			}
			if broken := (faults.Broken{}); errors.As(err, &broken) {
				t.Fatalf("cannot try: %v", err)
			}
			if err != nil {
				t.Errorf("%v\nthe server %s; the client should %s", err, c.Does, c.Wants)
			}
		})
	}
}

// TestTableIsWhole: what the table is made for, and that each row can be told
// from the others.
func TestTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range faults.Table() {
		if seen[c.Name] || c.Name == "" || c.Does == "" || c.Wants == "" {
			t.Errorf("row %q is twice there, or says too little", c.Name)
		}
		seen[c.Name] = true
	}
	if len(seen) < 45 {
		t.Errorf("%d cases", len(seen))
	}
}
