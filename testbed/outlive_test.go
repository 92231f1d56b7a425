package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// everything has TestCallsOutliveTheirNetworks walk through all that can happen, to
// everybody and at every time; without, through some of each. `make moves` sets it.
var everything = os.Getenv("FLEXPHONE_MOVES") == "all"

// chosen reports whether one of the mishaps is walked through: for who and when, by
// their numbers.
func chosen(who, when int, what mishap, number int) bool {
	const both, talking = 2, 2
	switch {
	case what.over != "" && board() != hostBoard: // which have one interface
		return false
	case board() != hostBoard: // which takes long, and its program is the same
		return who == both && slices.Contains([][]int{{1}, {3}, {0, 2}, {0}}[when], number)
	case everything:
		return true
	case what.six: // and each has a town of its own
		return who == 0 && when == 3
	case what.alone: // and takes half a minute
		return who == both && when == 1
	case what.over != "":
		return who == both && when == talking
	case what.out > 10*time.Second:
		return who == both && what.pool != nil && when > 0
	}
	return (number+who+when)%4 == 0
}

// A mishap is what happens to the network of one phone or two in a call.
type mishap struct {
	name string
	pool *Pool         // whence it has another address afterwards; nil: it has the same
	out  time.Duration // for how long the cable is out
	// alone: nor is there a storing server, until the networks have been there again
	// for as long.
	alone bool
	six   bool // it has an IPv6 address afterwards, and no other
	// over is the interface by which it goes on, of two that it has; empty: it has one.
	over string
}

var mishaps = []mishap{
	{name: "another address of the same network", pool: &East},
	{name: "another network", pool: &West},
	{name: "a second without a cable", out: time.Second},
	{name: "five seconds without a cable", out: 5 * time.Second},
	{name: "30 seconds without a cable", out: 30 * time.Second},
	{name: "30 seconds without a cable, and another network", pool: &West, out: 30 * time.Second},
	{name: "two seconds without a cable, another network, and no storing server for longer", pool: &West, out: 2 * time.Second, alone: true},
	{name: "from IPv4 to IPv6", six: true},
	{name: "from Ethernet to Wi-Fi", over: wifi},
	{name: "from Wi-Fi to Ethernet", over: "eth0"}, // after the one before
}

// TestCallsOutliveTheirNetworks: a call goes on, whoever of the two moves, or both at
// once, or has no cable for a while, and whether it rings, is being answered, is
// talked in, or one has the other wait. Afterwards both ends hear each other.
func TestCallsOutliveTheirNetworks(t *testing.T) {
	moments := []string{"ringing", "being answered", "talking", "held"}
	movers := func(who string, phones []*Phone) []*Phone {
		return map[string][]*Phone{"caller": phones[:1], "called": phones[1:], "both": phones}[who]
	}
	for w, who := range []string{"caller", "called", "both"} {
		for m, when := range moments {
			if i := slices.IndexFunc(mishaps, func(what mishap) bool { return what.six }); chosen(w, m, mishaps[i], i) {
				t.Run(who+", "+when+", "+mishaps[i].name, func(t *testing.T) {
					ctx, bed, phones := bilingual(t, who)
					outlives(ctx, t, bed, phones, movers(who, phones), when, mishaps[i], 0)
				})
			}
			if i := slices.IndexFunc(mishaps, func(what mishap) bool { return what.over != "" }); chosen(w, m, mishaps[i], i) {
				t.Run(who+", "+when+", Ethernet and Wi-Fi", func(t *testing.T) {
					ctx, bed, phones := wireless(t)
					for _, what := range mishaps[i:] {
						if !t.Run(what.name, func(t *testing.T) { outlives(ctx, t, bed, phones, movers(who, phones), when, what, 0) }) {
							return
						}
					}
				})
			}
			ordinary := func(what mishap) bool { return !what.six && what.over == "" }
			if !slices.ContainsFunc(mishaps, func(what mishap) bool { return ordinary(what) && chosen(w, m, what, slices.Index(mishaps, what)) }) {
				continue
			}
			t.Run(who+", "+when, func(t *testing.T) {
				ctx, bed, phones := town(t, Config{}, 2)
				must(t, bed.ISP.ChangePool(ctx, East, West))
				movers := movers(who, phones)
				next := 0 // address of a pool
				for i, what := range mishaps {
					if !ordinary(what) || !chosen(w, m, what, i) {
						continue
					}
					first := 30 + next
					next += len(movers)
					if !t.Run(what.name, func(t *testing.T) { outlives(ctx, t, bed, phones, movers, when, what, first) }) {
						return // nobody knows what the phones do now
					}
				}
			})
		}
	}
}

// outlives makes one call in which what happens to movers at that time. Who gets
// another address gets the pool's from the first on.
func outlives(ctx context.Context, t *testing.T, bed *Bed, phones, movers []*Phone, when string, what mishap, first int) {
	a, b := phones[0], phones[1]
	b.Mark()
	dial(ctx, t, a, "102")
	if at := reaches(ctx, t, a, "resolved").Field("address"); what.six && !netip.MustParseAddrPort(at).Addr().Is4() {
		t.Fatalf("the call begins at %s, and not over IPv4", at)
	}
	await(ctx, t, b, "ringing")
	answer := func() { must(t, b.OffHook(ctx)) }
	established := func() {
		t.Helper()
		for _, p := range phones {
			reaches(ctx, t, p, "established")
		}
	}
	switch when {
	case "ringing":
		befalls(ctx, t, bed, movers, what, first, func() {})
		answer()
		established()
	case "being answered":
		befalls(ctx, t, bed, movers, what, first, answer)
		established()
	case "talking":
		answer()
		established()
		hearEachOther(ctx, t, a, b)
		befalls(ctx, t, bed, movers, what, first, func() {})
	case "held":
		answer()
		established()
		hearEachOther(ctx, t, a, b)
		waits(ctx, t, a, b, "hold", "held")
		befalls(ctx, t, bed, movers, what, first, func() {})
		waits(ctx, t, a, b, "retrieve", "retrieved")
	}
	hearEachOther(ctx, t, a, b)
	must(t, a.OnHook(ctx))
	reaches(ctx, t, b, "ended")
	must(t, b.OnHook(ctx))
	for _, p := range phones {
		await(ctx, t, p, "state", "state", "standby")
	}
}

// waits has a put b on hold, or take it up again, and both know it.
func waits(ctx context.Context, t testing.TB, a, b *Phone, command, event string) {
	t.Helper()
	_, err := a.Ctl(ctx, command)
	must(t, err)
	for p, who := range map[*Phone]string{a: "local", b: "peer"} {
		if e := reaches(ctx, t, p, event); e.Field("who") != who {
			t.Errorf("%s: %v; want it of %s", p.Name, e, who)
		}
	}
}

// TestACallerThatIsCutOff: who has called, and has no cable any more, is rung for as long
// as it may come back, and no longer, over TCP and by way of the storing server alike.
func TestACallerThatIsCutOff(t *testing.T) {
	t.Run("direct", func(t *testing.T) {
		ctx, _, phones := town(t, Config{}, 2)
		isCutOff(ctx, t, phones[0], phones[1], "direct")
	})
	t.Run("relayed", func(t *testing.T) {
		ctx, bed, all := homes(t, 1, closed)
		caller := addPhone(ctx, t, bed, 101)
		isCutOff(ctx, t, caller, addBehind(ctx, t, bed, all[0], 102, "192.168.77.2"), "relayed")
	})
}

// isCutOff has a call b by such a link, and pulls its cable while it rings.
func isCutOff(ctx context.Context, t *testing.T, a, b *Phone, link string) {
	dial(ctx, t, a, "102")
	await(ctx, t, b, "ringing")
	if got := linkOf(ctx, t, b); got != link {
		t.Fatalf("the link is %q; want %s", got, link)
	}
	must(t, a.Pull(ctx))
	at := time.Now()
	ended := await(ctx, t, b, "ended")
	rang := time.Since(at)
	t.Logf("rings for %v: %v", rang, ended)
	if rang < 33*time.Second || rang > 75*time.Second { // 34 to 39 s, and some for a machine that is busy
		t.Errorf("it has rung for %v after the caller was cut off", rang)
	}
	must(t, a.Plug())
	must(t, a.OnHook(ctx))
}

const noIPv6 = "net/ipv6/conf/eth0/disable_ipv6"

// bilingual is a town of two phones whose street has both kinds of addresses, and whose
// storing server has one of each. Who of them is to move knows no IPv6 yet.
func bilingual(t *testing.T, who string) (context.Context, *Bed, []*Phone) {
	ctx, bed := ownTown(t, Config{})
	server := netip.MustParsePrefix("2001:db8:77::10/64")
	must(t, bed.Server.host.address("eth0", server, netip.Addr{}))
	advertise(ctx, t, bed.ISP)
	var phones []*Phone
	for number := 101; number <= 102; number++ {
		p, err := bed.AddPhone(ctx, PhoneConfig{
			Name: fmt.Sprintf("phone-%d", number), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
			Speech: speak(t, words[number-101]), StoringServer: fmt.Sprintf("%s, [%s]", serverAddress.Addr(), server.Addr()),
		})
		must(t, err)
		must(t, p.PowerOn(ctx))
		must(t, p.Plug())
		await(ctx, t, p, "registered")
		has := 2
		if who == "both" || who == map[int]string{101: "caller", 102: "called"}[number] {
			must(t, p.machine.sysctl(noIPv6, "1")) // before it has made an address of its own
			has = 1
		}
		must(t, bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
		awaitRow(ctx, t, bed, p, func(addrs []string) bool { return len(addrs) == has })
		phones = append(phones, p)
	}
	return ctx, bed, phones
}

// wireless is a town of two phones that have Wi-Fi beside Ethernet, with addresses of
// another network.
func wireless(t *testing.T) (context.Context, *Bed, []*Phone) {
	ctx, bed := ownTown(t, Config{})
	must(t, bed.ISP.ChangePool(ctx, East, West))
	var phones []*Phone
	for number := 101; number <= 102; number++ {
		n := byte(number - 100)
		radio := MAC{0x02, 0x00, 0x5e, 0x00, 0x54, n}
		p, err := bed.AddPhone(ctx, PhoneConfig{
			Name: fmt.Sprintf("phone-%d", number), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, n}, WiFi: radio, Speech: speak(t, words[number-101]),
		})
		must(t, err)
		must(t, bed.ISP.GiveNext(ctx, p.MAC, addressOver("eth0", p)))
		must(t, bed.ISP.GiveNext(ctx, radio, addressOver(wifi, p)))
		must(t, p.PowerOn(ctx))
		must(t, p.Plug())
		await(ctx, t, p, "registered")
		must(t, bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(number)))
		awaitRow(ctx, t, bed, p, func(addrs []string) bool { return slices.Equal(addrs, []string{addressOver("eth0", p).String()}) })
		phones = append(phones, p)
	}
	return ctx, bed, phones
}

// addressOver is the address that a phone of a wireless town has over an interface.
func addressOver(ifname string, p *Phone) netip.Addr {
	pool := East
	if ifname == wifi {
		pool = West
	}
	return pool.Address(int(p.MAC[5]))
}

// befalls lets what happen to all of movers at once, and meanwhile, when their cables
// are out. It returns once the row of each that has another address tells it.
func befalls(ctx context.Context, t *testing.T, bed *Bed, movers []*Phone, what mishap, first int, meanwhile func()) {
	t.Helper()
	to := map[*Phone]netip.Addr{}
	for i, p := range movers {
		if what.six {
			to[p] = address6(p)
			must(t, bed.ISP.GiveNone(ctx, p.MAC))
		}
		if what.pool != nil {
			to[p] = what.pool.Address(first + i)
			must(t, bed.ISP.GiveNext(ctx, p.MAC, to[p]))
		}
	}
	if what.alone {
		bed.Server.Kill9()
	}
	if what.over != "eth0" { // whose cable is out
		for _, p := range movers {
			must(t, p.Pull(ctx))
		}
	}
	meanwhile()
	pause := func() {
		t.Helper()
		over := time.NewTimer(what.out)
		defer over.Stop()
		select {
		case <-over.C:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	pause()
	for _, p := range movers {
		if what.over != "" {
			to[p] = addressOver(what.over, p)
		}
		if what.over == wifi {
			continue
		}
		if what.six {
			must(t, p.machine.sysctl(noIPv6, "0"))
		}
		must(t, p.Plug())
	}
	if what.alone {
		pause()
		must(t, bed.Server.Start(ctx))
	}
	for p, addr := range to {
		awaitRow(ctx, t, bed, p, func(addrs []string) bool {
			return slices.Contains(addrs, addr.String()) && !(what.six && len(addrs) > 1)
		})
	}
}

// reaches waits for an event of a call of p, which must not end before.
func reaches(ctx context.Context, t testing.TB, p *Phone, name string) Event {
	t.Helper()
	for {
		switch e := await(ctx, t, p, ""); e.Name {
		case name:
			return e
		case "ended":
			t.Fatalf("%s before %s: %v", p.Name, name, e)
		}
	}
}
