package testbed

import (
	"slices"
	"testing"
	"time"
)

// A network that gives an address and leads nowhere, as a captive one does: the
// storing server does not answer, and the display says so until it does.
func TestNetworkThatLeadsNowhere(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 1)
	p := phones[0]
	awaitDisplay := func(what string, ok func(display []string) bool) {
		t.Helper()
		look := time.NewTicker(p.look()) // the display tells nothing unasked
		defer look.Stop()
		for {
			s, err := p.Status(ctx)
			if err == nil && ok(s.Display) {
				return
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				t.Fatalf("the display never says %s: %q, %v", what, s.Display, err)
			}
		}
	}
	const away = "storing server away"
	bed.Server.Kill9()
	awaitDisplay(away, func(d []string) bool { return slices.Contains(d, away) })
	if s, err := p.Status(ctx); err != nil || s.State != "standby" || s.Registered || !s.Addr().IsValid() {
		t.Errorf("meanwhile the phone is %+v, %v", s, err)
	}
	p.Mark()
	must(t, bed.Server.Start(ctx))
	await(ctx, t, p, "registered")
	awaitDisplay("that it is back", func(d []string) bool { return !slices.Contains(d, away) })
}
