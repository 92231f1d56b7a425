package testbed

import (
	"testing"
)

// Two regions are two storing servers. A phone of one calls one of the other by number
// and by MAC; and one that moves house announces itself in the other region, without
// anybody's help, and is called there.
func TestTwoRegions(t *testing.T) {
	if board() != hostBoard {
		t.Skip("where rows are is the servers' doing, and the same for every board")
	}
	ctx, bed, phones := town(t, Config{}, 1)
	west := bed.Server
	east, err := bed.AddServer(ctx, "east", 5685)
	must(t, err)
	eastern, err := bed.AddPhone(ctx, PhoneConfig{
		Name: "phone-201", MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 101}, Speech: speak(t, words[1]), StoringServer: east.Address(),
	})
	must(t, err)
	for _, at := range []*Server{west, east} {
		must(t, at.SetRegion(ctx, "1", west))
		must(t, at.SetRegion(ctx, "2", east))
		must(t, at.SetRegion(ctx, eastern.MAC.String(), east))
	}
	must(t, eastern.PowerOn(ctx))
	must(t, eastern.Plug())
	await(ctx, t, eastern, "registered")
	must(t, east.SetNumber(ctx, eastern.MAC, "201"))

	call := func(caller, callee *Phone, number string) {
		t.Helper()
		talk, err := Call(ctx, caller, callee, number)
		must(t, err)
		if talk.Security != "private" {
			t.Errorf("a call to %s is %s", number, talk.Security)
		}
		must(t, talk.HangUp(ctx, caller))
	}
	call(phones[0], eastern, "201")
	call(eastern, phones[0], "101")

	for _, at := range []*Server{west, east} {
		must(t, at.SetRegion(ctx, eastern.MAC.String(), west))
	}
	// The ISP gives it another address, which it has to announce.
	move(ctx, t, bed, eastern, East.Address(88))
	must(t, west.AwaitState(ctx, eastern.MAC, "online"))
	must(t, east.AwaitState(ctx, eastern.MAC, "offline"))
	call(phones[0], eastern, eastern.MAC.Digits())
}
