package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flexphone/testbed/nat"
)

// A phone behind a home's router, which lets nobody in who was not spoken to, is called by a
// browser that has an address of its own, and calls it: it speaks to the browser first.
func TestBrowserAndAPhoneAtHome(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, _ := town(t, Config{Pages: true}, 0)
	home, err := bed.AddHome("home-1", West.Address(2), closed)
	must(t, err)
	p := addBehind(ctx, t, bed, home, 101, "192.168.77.11")
	w, err := bed.AddBrowser(ctx, speak(t, words[1]))
	if errors.Is(err, ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	callsBothWays(ctx, t, bed, w, p, called(ctx, t, bed))
}

// callsBothWays has p call the page at /phone, which a link opens, and the page at /call call p, and
// both be heard. The sound goes one of the ways that are given.
func callsBothWays(ctx context.Context, t *testing.T, bed *Bed, w *Browser, p *Phone, link string, ways ...string) {
	t.Helper()
	number := openCalled(ctx, t, w, link)
	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#answer"))
	await(ctx, t, p, "established", "security", "private")
	heardBoth(ctx, t, w, p)
	goesBy(ctx, t, w, ways)
	must(t, w.Click(ctx, "#hangup"))
	ends(ctx, t, p, "hangup")

	opens(ctx, t, bed, w, strings.TrimPrefix(p.Name, "phone-"))
	t.Logf("from the click to ringing: %v", callByPage(ctx, t, w, p))
	heardBoth(ctx, t, w, p)
	goesBy(ctx, t, w, ways)
	must(t, p.OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Call ended"))
}

// called is a link by which a browser is called.
func called(ctx context.Context, t *testing.T, bed *Bed) string {
	t.Helper()
	link, err := bed.Server.Link(ctx, "Ada", "--called")
	must(t, err)
	return link
}

// opens opens a page that calls a number.
func opens(ctx context.Context, t *testing.T, bed *Bed, w *Browser, number string) {
	t.Helper()
	link, err := bed.Server.Link(ctx, "Ada", "--number="+number)
	must(t, err)
	must(t, w.Load(ctx, link))
	must(t, w.PlainVoice(ctx))
}

// inTwoHomes are a browser and phones, from 101 on, each in a home of its own.
// The browser's home is the first.
func inTwoHomes(t *testing.T, c Config, browser nat.Config, phones ...nat.Config) (ctx context.Context, bed *Bed, w *Browser, all []*Phone, homes []*Home) {
	t.Helper()
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, _ = town(t, c, 0)
	homes = make([]*Home, 1+len(phones))
	for i, kind := range append([]nat.Config{browser}, phones...) {
		var err error
		homes[i], err = bed.AddHome(fmt.Sprintf("home-%d", i+1), West.Address(2*i), kind)
		must(t, err)
	}
	for i, home := range homes[1:] {
		all = append(all, addBehind(ctx, t, bed, home, 101+i, "192.168.77.11"))
	}
	w, err := bed.AddBrowserAt(ctx, homes[0], netip.MustParseAddr("192.168.77.21"), speak(t, words[1]))
	if errors.Is(err, ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	return ctx, bed, w, all, homes
}

// again checks that a page and a phone hear each other again, in the call in which a NAT has just
// forgotten both, or one has moved to where nothing has led yet.
func again(ctx context.Context, t *testing.T, w *Browser, p *Phone, what string) {
	t.Helper()
	began := time.Now()
	must(t, p.Understands(ctx, 50))
	t.Logf("%s: the phone understands a second of sound %v later", what, time.Since(began).Round(10*time.Millisecond))
	_, err := w.AwaitAny(ctx, "#state", "Connected", "Connected with "+strings.TrimPrefix(p.Name, "phone-"))
	must(t, err)
	heardBoth(ctx, t, w, p)
}

var (
	restricted = nat.Config{Filter: nat.Port, Arbitrary: true} // no port is the one that its inner end has
	symmetric  = nat.Config{Filter: nat.Port, Symmetric: true}
)

// A browser and a phone in two homes, whose routers let nobody in who was not spoken to, call each
// other, and their sound goes directly, in a call in which either router is restarted, and has
// other ports, as well. Where one of the routers gives each destination another
// port as well, and the server has no TURN, the page says what to do, and the phone does not ring.
func TestBrowserAndAPhoneInTwoHomes(t *testing.T) {
	ctx, bed, w, phones, homes := inTwoHomes(t, Config{Pages: true}, restricted, restricted, symmetric)
	callsBothWays(ctx, t, bed, w, phones[0], called(ctx, t, bed), "srflx", "prflx")

	opens(ctx, t, bed, w, "101")
	callByPage(ctx, t, w, phones[0])
	heardBoth(ctx, t, w, phones[0])
	homes[1].NAT.Restart()
	again(ctx, t, w, phones[0], "the phone's router is restarted")
	homes[0].NAT.Restart()
	again(ctx, t, w, phones[0], "the page's router is restarted")
	goesBy(ctx, t, w, []string{"srflx", "prflx"})
	must(t, phones[0].OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Call ended"))

	opens(ctx, t, bed, w, "102")
	mark := len(phones[1].Events())
	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "Call ended"))
	if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "cannot be reached directly") || !strings.Contains(text, "--turn") {
		t.Errorf("the page says %q, %v", text, err)
	}
	silent(t, phones[1], mark)
}

// Where no way leads from one home to the other, the sound goes by TURN, and directly where one
// does.
func TestBrowserAndAPhoneInTwoHomesByTURN(t *testing.T) {
	for _, tt := range []struct {
		name    string
		browser nat.Config
		ways    [2][]string // to a phone behind a NAT of the same two kinds
	}{
		{"port-restricted", restricted, [2][]string{{"srflx", "prflx"}, {"relay"}}},
		{"symmetric", symmetric, [2][]string{{"relay"}, {"relay"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, bed, w, phones, homes := inTwoHomes(t, Config{Pages: true, TURN: 3482}, tt.browser, restricted, symmetric)
			link := called(ctx, t, bed)
			for i, p := range phones {
				callsBothWays(ctx, t, bed, w, p, link, tt.ways[i]...)
			}
			p := phones[1]
			number := openCalled(ctx, t, w, link)
			rings(ctx, t, w, p, number)
			must(t, w.Click(ctx, "#answer"))
			await(ctx, t, p, "established", "security", "private")
			heardBoth(ctx, t, w, p)
			homes[2].NAT.Restart()
			again(ctx, t, w, p, "the phone's router is restarted")
			must(t, w.Click(ctx, "#hangup"))
			ends(ctx, t, p, "hangup")
		})
	}
}
