package testbed

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"flexphone/testbed/nat"
)

// restartsAtOnce is how often a storing server is restarted in a call: each of two once, or
// FLEXPHONE_RESTARTS times in all. `make restarts` sets that.
func restartsAtOnce(t *testing.T) int {
	text := os.Getenv("FLEXPHONE_RESTARTS")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// A call whose link and whose sound are both relayed goes on while the storing servers
// of its cluster are restarted one after the other: the relay knows its passes
// again, and both phones hear. Afterwards it is hung up, and the next call rings.
func TestRelayedCallOutlivesServers(t *testing.T) {
	outlivesServers(t, func(ctx context.Context, t *testing.T, s *Server) {
		must(t, s.Stop())
		must(t, s.Start(ctx))
	})
}

// It goes on as well when they are killed, who keep no session then, and come back three
// seconds later.
func TestRelayedCallOutlivesKilledServers(t *testing.T) {
	outlivesServers(t, func(ctx context.Context, t *testing.T, s *Server) {
		s.Kill9()
		wait(ctx, 3*time.Second)
		must(t, s.Start(ctx))
	})
}

// outlivesServers has both servers of a cluster restarted in a call.
func outlivesServers(t *testing.T, restart func(context.Context, *testing.T, *Server)) {
	t.Helper()
	ctx, bed, all := homes(t, 2, nat.Config{Symmetric: true, Filter: nat.Port})
	nats := startNATS(t, bed)
	one := addMember(ctx, t, bed, "one", nats, 5694, nil)
	two := addMember(ctx, t, bed, "two", nats, 5704, one)
	a := addBehindAt(ctx, t, bed, one, all[0], 101, "192.168.77.2")
	b := addBehindAt(ctx, t, bed, two, all[1], 102, "192.168.77.2")
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	relayed := func() {
		t.Helper()
		for _, p := range []*Phone{a, b} {
			if got := wayOf(ctx, t, p, "relayed"); got != "relayed" {
				t.Errorf("sound is %q at %s, want relayed", got, p.Name)
			}
		}
	}
	relayed()
	hearEachOther(ctx, t, a, b)
	for i := range restartsAtOnce(t) {
		t.Run(fmt.Sprintf("restart %d", i+1), func(t *testing.T) {
			s := []*Server{one, two}[i%2]
			restart(ctx, t, s)
			for _, p := range []*Phone{a, b} {
				must(t, p.Understands(ctx, 50))
			}
			hearEachOther(ctx, t, a, b)
		})
	}
	relayed()
	must(t, talk.HangUp(ctx, b))
	talk, err = Call(ctx, b, a, "101")
	must(t, err)
	must(t, talk.HangUp(ctx, a))
}
