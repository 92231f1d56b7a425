package netlink

import (
	"path/filepath"
	"testing"

	"flexphone/netlink/internal/isptest"
)

// A runningSource is a Source under test.
type runningSource struct{ *isptest.Running[Event] }

// start runs s until the test ends or stop is called.
func start(t testing.TB, s Source) *runningSource { return &runningSource{isptest.Start(t, s)} }

// want waits for the next event, which must be of this kind.
func (r *runningSource) want(kind EventKind) Event {
	r.T.Helper()
	e := r.Any()
	if e.Kind != kind {
		r.T.Fatalf("event %v of %v (%s); want %v", e.Kind, e.Lease.Prefix, e.Reason, kind)
	}
	return e
}

// moved waits for an event of another address than l's, past renewals of l. Others may
// hold this test up for longer than a refused address is kept: then its loss is told
// first. Tests under a clock of their own see to it that it is not when they do not.
func (r *runningSource) moved(l Lease) Event {
	r.T.Helper()
	for {
		e := r.Any()
		switch {
		case e.Kind == Bound && e.Lease.Prefix != l.Prefix:
			return e
		case e.Kind == Renewed && e.Lease.Prefix == l.Prefix, e.Kind == Lost && e.Reason == "nak":
		default:
			r.T.Fatalf("event %v of %v (%s); want another address than %v", e.Kind, e.Lease.Prefix, e.Reason, l.Prefix)
		}
	}
}

func testConfig(t testing.TB) Config {
	dir := t.TempDir()
	return Config{
		Interface: "eth0", LeaseFile: filepath.Join(dir, "lease"), ResolvConf: filepath.Join(dir, "resolv.conf"), Log: isptest.Log(t),
	}
}

func startClient(t testing.TB, cfg Config) *runningSource {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, c)
}

// assertInstalled checks that the kernel agrees with l.
func assertInstalled(t testing.TB, l Lease) {
	t.Helper()
	isptest.AssertAddress(t, l.Interface, l.Prefix, l.Router)
}
