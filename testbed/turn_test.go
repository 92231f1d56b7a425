package testbed

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// wayOfPage is by which kind of candidate (RFC 8445, section 4) the page speaks to the phone, and,
// to TURN, over what.
func wayOfPage(ctx context.Context, t *testing.T, w *Browser) (kind, transport string) {
	t.Helper()
	var way []string
	must(t, w.RunAsync(ctx, `
const [done] = arguments;
connection.getStats().then(all => {
  const transport = [...all.values()].find(s => s.type === "transport");
  const local = all.get(all.get(transport.selectedCandidatePairId).localCandidateId);
  done([local.candidateType, local.relayProtocol ?? ""]);
}).catch(e => done([String(e), ""]));`, &way))
	return way[0], way[1]
}

// goesBy checks that the page speaks to the phone by one of the kinds of candidates; none: by any.
func goesBy(ctx context.Context, t *testing.T, w *Browser, kinds []string) {
	t.Helper()
	if kind, _ := wayOfPage(ctx, t, w); len(kinds) > 0 && !slices.Contains(kinds, kind) {
		t.Errorf("the sound goes by %q; want one of %q", kind, kinds)
	}
}

// relayedBy checks that what a page and a phone say to each other goes by TURN, and over what
// the page speaks to the server.
func relayedBy(ctx context.Context, t *testing.T, w *Browser, transport string) {
	t.Helper()
	if kind, over := wayOfPage(ctx, t, w); kind != "relay" || over != transport {
		t.Errorf("the sound goes by %q over %q; want relay over %s", kind, over, transport)
	}
}

// A browser and a phone that reach the server, and not each other, call each other by TURN:
// the page at /call and the one at /phone, over UDP and over TCP, and both are heard. Without
// TURN the page says that it does not reach the phone. A phone that moves in the call is found again.
func TestBrowserByTURN(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true, TURN: 3482}, 1)
	p := phones[0]
	w, number := calledPage(ctx, t, bed)
	must(t, bed.Apart(w))

	must(t, w.Relayed(ctx, "udp"))
	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#answer"))
	await(ctx, t, p, "established", "security", "private")
	heardBoth(ctx, t, w, p)
	relayedBy(ctx, t, w, "udp")
	must(t, w.Click(ctx, "#hangup"))
	ends(ctx, t, p, "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))

	link, err := bed.Server.Link(ctx, "Ada", "--number=101")
	must(t, err)
	open := func() {
		t.Helper()
		must(t, w.Load(ctx, link))
		must(t, w.PlainVoice(ctx))
	}
	for _, transport := range []string{"tcp", "udp"} {
		open()
		must(t, w.Relayed(ctx, transport))
		callByPage(ctx, t, w, p)
		heardBoth(ctx, t, w, p)
		relayedBy(ctx, t, w, transport)
		must(t, w.Click(ctx, "#hangup"))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, w.Await(ctx, "#state", "Call ended"))
		must(t, p.OnHook(ctx))
	}

	// What the page tries by itself: both, and its own address. The phone moves in the call.
	open()
	callByPage(ctx, t, w, p)
	heardBoth(ctx, t, w, p)
	must(t, bed.ISP.ChangePool(ctx, East, West))
	moveInCall(ctx, t, bed, p, West.Address(60))
	again(ctx, t, w, p, "the phone has moved")
	must(t, p.OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Call ended"))

	open()
	must(t, w.Relayed(ctx, "none"))
	mark := len(p.Events())
	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "Call ended"))
	if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "not by way of the storing server either") {
		t.Errorf("without TURN the page says %q, %v", text, err)
	}
	silent(t, p, mark)
}
