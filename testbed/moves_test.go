package testbed

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// move makes the provider give p another address at its next asking, and p ask
// at once by pulling its plug and putting it back. It returns once the storing
// server has acknowledged the new address.
func move(ctx context.Context, t testing.TB, bed *Bed, p *Phone, to netip.Addr) {
	t.Helper()
	p.Mark()
	must(t, bed.ISP.GiveNext(ctx, p.MAC, to))
	must(t, p.Replug(ctx))
	awaitAddress(ctx, t, p, to)
}

// moveInCall is move, of a phone that talks: it tells the peer, before or after the
// storing server.
func moveInCall(ctx context.Context, t testing.TB, bed *Bed, p *Phone, to netip.Addr) {
	t.Helper()
	before := len(p.Events())
	move(ctx, t, bed, p, to)
	for _, e := range p.Events()[before:] {
		if e.Name == "moved" && e.Field("who") == "local" {
			return
		}
	}
	await(ctx, t, p, "moved", "who", "local")
}

// awaitAddress waits until p has leased and registered that address.
func awaitAddress(ctx context.Context, t testing.TB, p *Phone, want netip.Addr) (registered Event) {
	t.Helper()
	for {
		if e := await(ctx, t, p, "lease.bound"); e.Addr() == want {
			break
		}
	}
	return await(ctx, t, p, "registered")
}

// callWithSound has the caller call number, which must reach the callee at the
// address, checks what each hears of the other, and ends the call.
func callWithSound(ctx context.Context, t testing.TB, caller, callee *Phone, number string, at netip.Addr) {
	t.Helper()
	talk, err := Call(ctx, caller, callee, number)
	if err != nil {
		t.Fatal(err)
	}
	if talk.Address.Addr() != at {
		t.Errorf("%s reached %s at %s; its lease is %s", caller.Name, number, talk.Address, at)
	}
	hearEachOther(ctx, t, caller, callee)
	must(t, talk.HangUp(ctx, callee))
}

// silent fails the test if p has rung since the mark.
func silent(t testing.TB, p *Phone, mark int) {
	t.Helper()
	for _, e := range p.Events()[mark:] {
		if e.Name == "ringing" {
			t.Errorf("%s was rung by mistake: %v", p.Name, e)
		}
	}
}

// A lease that is refused when the phone asks for it again changes the phone's
// address without anybody touching the phone.
func TestLeaseChangesAtRenewal(t *testing.T) {
	ctx, bed, phones := town(t, Config{Renew: 3 * time.Second}, 2)
	a, b := phones[0], phones[1]
	await(ctx, t, b, "lease.renewed")
	to := East.Address(77)
	b.Mark()
	must(t, bed.ISP.GiveNext(ctx, b.MAC, to))
	awaitAddress(ctx, t, b, to)
	callWithSound(ctx, t, a, b, "102", to)
}

// The leases of both ends of a call are refused while it lasts (DHCPNAK): it goes on at
// other addresses.
func TestLeasesAreRefusedInACall(t *testing.T) {
	ctx, bed, phones := town(t, Config{Renew: 3 * time.Second}, 2)
	talk, err := Call(ctx, phones[0], phones[1], "102")
	must(t, err)
	hearEachOther(ctx, t, phones[0], phones[1])
	for i, p := range phones {
		p.Mark()
		must(t, bed.ISP.GiveNext(ctx, p.MAC, East.Address(78+i)))
	}
	for i, p := range phones {
		awaitAddress(ctx, t, p, East.Address(78+i))
	}
	hearEachOther(ctx, t, phones[0], phones[1])
	must(t, talk.HangUp(ctx, phones[1]))
}

// The provider gives the address of an absent phone to another. Who calls the
// absent phone does not ring the other; as soon as the phone is back it is
// reached at its new address.
func TestOldAddressOfAPhoneIsGivenToAnother(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 3)
	a, b, c := phones[0], phones[1], phones[2]
	old := addressOf(ctx, t, b)
	callWithSound(ctx, t, a, b, "102", old) // a knows b's address, and the way to it

	must(t, b.Unplug())
	must(t, bed.ISP.Forget(ctx, b.MAC))
	move(ctx, t, bed, c, old)
	mark := len(c.Events())

	// The row still says old. c is there, and says that it is not b.
	dial(ctx, t, a, "102")
	ended := await(ctx, t, a, "ended")
	t.Logf("called while away: %v", ended)
	must(t, a.OnHook(ctx))
	silent(t, c, mark)

	// And the other way: a caller that is on its way to the old address when
	// the row changes finds the new one by asking again.
	must(t, c.Unplug())
	b.Mark()
	dial(ctx, t, a, "102")
	if at := await(ctx, t, a, "resolved").Field("address"); netip.MustParseAddrPort(at).Addr() != old {
		t.Errorf("resolved to %s before the move; want %s", at, old)
	}
	to := East.Address(60)
	must(t, bed.ISP.GiveNext(ctx, b.MAC, to))
	must(t, b.Plug())
	registered := awaitAddress(ctx, t, b, to)
	must(t, c.Plug())
	next := await(ctx, t, a, "")
	for next.Name != "resolved" && next.Name != "ended" {
		next = await(ctx, t, a, "")
	}
	if next.Name == "ended" && next.Time.Before(registered.Time) {
		t.Run("on the way to the old address", func(t *testing.T) {
			t.Skipf("this machine is too slow: 102 was registered %v after 101 had given it up", registered.Time.Sub(next.Time))
		})
		must(t, a.OnHook(ctx))
		silent(t, c, mark)
		return
	}
	if at := next.Field("address"); next.Name != "resolved" || netip.MustParseAddrPort(at).Addr() != to {
		t.Fatalf("after the move: %v; want resolved to %s", next, to)
	}
	await(ctx, t, b, "ringing")
	must(t, b.OffHook(ctx))
	await(ctx, t, a, "established")
	hearEachOther(ctx, t, a, b)
	must(t, a.OnHook(ctx))
	must(t, b.OnHook(ctx))
	silent(t, c, mark)
}

// An INVITE for another phone's MAC is refused with 404 by the phone that got
// its address, whoever sends it.
func TestStrangersInviteForAnotherMACIsRefused(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 1)
	p := phones[0]
	foreign := MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0xfe}
	mark := len(p.Events())
	s, err := bed.StartSipp("uac", foreign.Hex(), addressOf(ctx, t, p))
	must(t, err)
	if err := s.Wait(ctx); err == nil {
		t.Error("sipp's call for another MAC was taken")
	}
	if got, err := s.Answer(); got != "404" {
		t.Errorf("answered %q, %v; want 404", got, err)
	}
	silent(t, p, mark)
}

func addressOf(ctx context.Context, t testing.TB, p *Phone) netip.Addr {
	t.Helper()
	s, err := p.Status(ctx)
	must(t, err)
	return s.Addr()
}
