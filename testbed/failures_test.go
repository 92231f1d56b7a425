package testbed

import (
	"testing"
	"time"
)

// The storing server is killed right after it has acknowledged an address. The
// row is there when it is started again, and both phones announce themselves
// without being asked, and at once when somebody lifts the handset.
func TestServerIsKilled(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 2)
	for round := range 3 {
		mover := phones[round%2]
		to := East.Address(30 + round)
		move(ctx, t, bed, mover, to)
		for _, p := range phones {
			p.Mark()
		}
		bed.Server.Kill9()
		must(t, bed.Server.Start(ctx))
		row, err := bed.Server.Row(ctx, mover.MAC)
		must(t, err)
		if len(row.Addrs) == 0 || row.Addrs[0] != to.String() || row.State != "online" {
			t.Errorf("round %d: acknowledged %s; after kill -9 the row is %+v", round, to, row)
		}
		for _, p := range phones {
			if round > 0 { // else within a minute, without being asked
				must(t, p.OffHook(ctx))
			}
			await(ctx, t, p, "registered")
			if round > 0 {
				must(t, p.OnHook(ctx))
			}
		}
		callWithSound(ctx, t, phones[1-round%2], mover, mover.MAC.Digits(), to)
	}
}

// A phone loses its link in a call: the call ends at both ends, the phone
// returns to initial, its row goes offline, and the phone comes back by itself.
func TestLinkIsCutInACall(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	_, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	a.Mark()
	b.Mark()
	must(t, b.Unplug())
	t.Logf("at the end without a link: %v", await(ctx, t, b, "ended"))
	await(ctx, t, b, "state", "state", "initial")
	t.Logf("at the other end: %v", await(ctx, t, a, "ended"))
	must(t, a.OnHook(ctx))
	must(t, b.OnHook(ctx))

	// Nobody could tell the storing server; the row ends with the lease.
	must(t, bed.Server.AwaitState(ctx, b.MAC, "offline"))
	dialFails(ctx, t, a, "102", "not connected", "special information", "not connected")

	b.Mark()
	must(t, b.Plug())
	await(ctx, t, b, "registered")
	await(ctx, t, b, "state", "state", "standby")
	callWithSound(ctx, t, a, b, "102", addressOf(ctx, t, b))
}

// A cable that is out in a call, for longer than the phone keeps its address, is
// no reason to hang up: the call waits, says so, and goes on.
func TestCableIsOutForAMomentInACall(t *testing.T) {
	ctx, _, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	a.Mark()
	b.Mark()
	must(t, b.Unplug())
	await(ctx, t, b, "lease.lost")
	s, err := b.Status(ctx)
	for err == nil && s.Display[1] != "no network, waiting" && s.State == "talking" {
		s, err = b.Status(ctx)
	}
	must(t, err)
	if s.State != "talking" {
		t.Errorf("without a link the phone is %s, and says %q; want talking", s.State, s.Display)
	}
	must(t, b.Plug())
	await(ctx, t, b, "lease.bound")
	hearEachOther(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))
	for _, p := range phones {
		await(ctx, t, p, "state", "state", "standby")
	}
}

// A phone that lost its power comes back as the same phone.
func TestPowerCut(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	before, err := bed.Server.Row(ctx, b.MAC)
	must(t, err)
	b.PowerCut()
	must(t, b.Unplug())
	b.Mark()
	must(t, b.PowerOn(ctx))
	must(t, b.Plug())
	await(ctx, t, b, "registered")
	after, err := bed.Server.Row(ctx, b.MAC)
	must(t, err)
	if after.Sequence <= before.Sequence || after.Number != "102" {
		t.Errorf("row before the power cut: %+v, after it: %+v", before, after)
	}
	callWithSound(ctx, t, a, b, "102", addressOf(ctx, t, b))
}

// The provider's DHCP server sleeps for longer than a renewal; nobody notices.
func TestProviderSleeps(t *testing.T) {
	ctx, bed, phones := town(t, Config{Renew: 3 * time.Second}, 2)
	a, b := phones[0], phones[1]
	at := addressOf(ctx, t, b)
	must(t, bed.ISP.Stop())
	callWithSound(ctx, t, a, b, "102", at)
	must(t, bed.ISP.Start(ctx))
	b.Mark()
	await(ctx, t, b, "lease.renewed")
	callWithSound(ctx, t, a, b, "102", at)
}
