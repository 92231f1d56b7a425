package netlink

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/steptest"
)

// messagesPerMinute is the most that a client may send, whatever servers do.
// A lease of one second alone is worth 120, half of them REQUESTs that renew it.
const messagesPerMinute = 150

// TestWhateverHappens gives the machine any sequence of packets, timers,
// carrier, address and kernel events, and checks after each that what must
// always hold does.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &whatever{simulation: newSimulation(t), t: t}
		w.m.fullCheck = rapid.Bool().Draw(t, "full conflict detection")
		w.m.onlySix = rapid.Bool().Draw(t, "IPv6 too")
		t.Repeat(map[string]func(*rapid.T){
			"":         w.check,
			"carrier":  w.carrier,
			"time":     func(t *rapid.T) { w.pass(time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "by"))) },
			"moment":   func(t *rapid.T) { w.pass(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "by"))) },
			"suspend":  w.suspend,
			"packet":   w.packet,
			"server":   w.changeServer,
			"arp":      w.conflict,
			"tampered": w.tamper,
			"kernel":   w.kernelFails,
			"doubt":    func(*rapid.T) { w.give(doubted{}) },
			"proxy":    func(t *rapid.T) { w.proxy = rapid.SampledFrom([]MAC{{}, otherMAC}).Draw(t, "proxy") },
		})
		w.recovers()
	})
}

type whatever struct {
	*simulation
	t       *rapid.T
	plugged []time.Time
	seen    int // messages looked at
	times   []time.Time
	known   Lease // by the reader of the events
}

var anyAddr = rapid.SampledFrom([]netip.Addr{
	simAddr, simNext, simServer, netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("198.51.100.7"),
	netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("127.0.0.1"), netip.IPv4Unspecified(), {},
})

func anyReply(t *rapid.T) reply {
	life := rapid.SampledFrom([]time.Duration{0, time.Second, 2 * time.Second, 30 * time.Second, time.Hour, 24 * time.Hour, forever})
	return reply{
		kind: rapid.SampledFrom([]dhcpv4.MessageType{
			dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak,
		}).Draw(t, "kind"),
		server:  rapid.SampledFrom([]netip.Addr{simServer, netip.MustParseAddr("192.0.2.66")}).Draw(t, "server"),
		yours:   anyAddr.Draw(t, "yours"),
		bits:    rapid.SampledFrom([]int{0, 8, 24, 31, 32}).Draw(t, "bits"),
		with:    Lease{Router: simServer},
		time:    life.Draw(t, "time"),
		t1:      life.Draw(t, "t1"),
		t2:      life.Draw(t, "t2"),
		onlySix: rapid.SampledFrom([]time.Duration{0, 0, 0, minOnlySix}).Draw(t, "IPv6 only"),
		rapid:   rapid.Bool().Draw(t, "rapid"),
	}
}

func (w *whatever) carrier(t *rapid.T) {
	if w.m.up {
		w.unplug()
		return
	}
	w.plugged = append(w.plugged, w.now)
	w.plug()
}

func (w *whatever) pass(d time.Duration) {
	steptest.Elapse(w.t, &w.now, d, w.m.deadline, func() {
		w.give(tick{})
		w.check(w.t)
	})
}

// suspend lets time pass that nobody notices until it is over.
func (w *whatever) suspend(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "for")))
	w.give(tick{})
	w.pass(0)
}

func (w *whatever) packet(t *rapid.T) {
	r := anyReply(t)
	if r.xid = w.m.xid; rapid.IntRange(0, 9).Draw(t, "xid") == 0 {
		r.xid[0]++
	}
	w.give(received{r})
}

func (w *whatever) changeServer(t *rapid.T) {
	switch rapid.IntRange(0, 3).Draw(t, "which") {
	case 0:
		w.server = nil
	case 1:
		w.server = pool(simAddr)
	case 2:
		w.server = pool(simNext)
	default:
		r := anyReply(t)
		w.server = func(d *dhcpv4.DHCPv4) []reply {
			offer, ack := r, r
			offer.kind, ack.kind = dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck
			return []reply{r, offer, ack}
		}
	}
}

func (w *whatever) conflict(t *rapid.T) {
	a := w.m.watched()
	if rapid.Bool().Draw(t, "any") {
		a = anyAddr.Draw(t, "address")
	}
	if rapid.Bool().Draw(t, "router") {
		w.router = otherMAC
	}
	w.give(arp.Claim{Addr: a, From: otherMAC, Probe: rapid.Bool().Draw(t, "probe")})
}

func (w *whatever) tamper(*rapid.T) {
	if w.m.using() {
		delete(w.kernel, w.m.held.Prefix)
		w.give(tampered{})
	}
}

func (w *whatever) kernelFails(t *rapid.T) {
	w.failing = nil
	if rapid.Bool().Draw(t, "fails") {
		w.failing = errors.New("no memory")
	}
}

// check looks at what must hold between any two steps.
func (w *whatever) check(t *rapid.T) {
	m := &w.m
	past := func(d time.Time) bool { return !d.IsZero() && !w.now.Before(d) }
	held := m.held.Prefix.IsValid()
	switch m.state {
	case stateBound, stateRenewing, stateRebinding:
		if !held {
			t.Fatalf("%v without an address", m.state)
		}
		if past(m.held.Expiry) {
			t.Fatalf("%v at %v, past the expiry at %v", m.state, w.now, m.held.Expiry)
		}
	}
	// One timer for one duty.
	switch m.state {
	case stateInit:
		if m.up == m.retry.IsZero() {
			t.Fatalf("in %v with carrier %v the next beginning is at %v", m.state, m.up, m.retry)
		}
		if !m.probeAt.IsZero() {
			t.Fatalf("%v probes", m.state)
		}
	case stateRebooting, stateSelecting, stateRequesting, stateRenewing, stateRebinding:
		if m.retry.IsZero() {
			t.Fatalf("%v would wait for ever", m.state)
		}
	case stateChecking:
		if !m.retry.IsZero() || m.probeAt.IsZero() {
			t.Fatalf("%v: retry at %v, probe at %v", m.state, m.retry, m.probeAt)
		}
	case stateBound:
		if !m.retry.IsZero() {
			t.Fatalf("%v sends at %v", m.state, m.retry)
		}
		if m.held.Expiry.IsZero() != m.held.Renew.IsZero() {
			t.Fatalf("%v until %v renews at %v", m.state, m.held.Expiry, m.held.Renew)
		}
	}
	if !m.up && m.state != stateInit {
		t.Fatalf("%v without a carrier", m.state)
	}
	// The kernel has what the machine believes, and nothing else.
	for p := range w.kernel {
		if !held || p != m.held.Prefix {
			t.Fatalf("in %v the kernel has %v; held is %v", m.state, p, m.held.Prefix)
		}
	}
	w.followEvents(t)
	w.countMessages(t)
}

// followEvents is a reader of the events who believes them.
func (w *whatever) followEvents(t *rapid.T) {
	for _, e := range w.events {
		if !e.Lease.Prefix.IsValid() || !isHost(e.Lease.Addr()) {
			t.Fatalf("%v of %v", e.Kind, e.Lease.Prefix)
		}
		switch e.Kind {
		case Bound:
			if e.Lease.Prefix == w.known.Prefix {
				t.Fatalf("bound to %v twice", e.Lease.Prefix)
			}
			w.known = e.Lease
		case Renewed:
			if e.Lease.Prefix != w.known.Prefix {
				t.Fatalf("renewed %v; knew %v", e.Lease.Prefix, w.known.Prefix)
			}
			w.known = e.Lease
		case Lost:
			if e.Lease.Prefix != w.known.Prefix || e.Reason == "" {
				t.Fatalf("lost %v because %q; knew %v", e.Lease.Prefix, e.Reason, w.known.Prefix)
			}
			w.known = Lease{}
		}
	}
	w.events = nil
	if w.known.Prefix.IsValid() && w.m.lose.IsZero() && w.known.Prefix != w.m.held.Prefix {
		t.Fatalf("the reader knows %v, and will not learn that %v is held", w.known.Prefix, w.m.held.Prefix)
	}
}

// countMessages allows a handful more for each time the cable was plugged in.
func (w *whatever) countMessages(t *rapid.T) {
	for ; w.seen < len(w.sent); w.seen++ {
		w.times = append(w.times, w.now)
	}
	recent := func(list []time.Time) []time.Time {
		for len(list) > 0 && w.now.Sub(list[0]) > time.Minute {
			list = list[1:]
		}
		return list
	}
	w.times, w.plugged = recent(w.times), recent(w.plugged)
	if n := len(w.times); n > messagesPerMinute+8*len(w.plugged) {
		t.Fatalf("%d messages in a minute, the last ones %v", n, w.kinds()[max(0, len(w.sent)-10):])
	}
}

// recovers checks that there is a way back to BOUND once the world is in order.
func (w *whatever) recovers() {
	w.failing = nil
	w.server = pool(simAddr)
	if !w.m.up {
		w.carrier(w.t)
	}
	w.pass(minOnlySix + 3*maxRetry)
	w.check(w.t)
	if a := w.known.Addr(); a != simAddr && a != w.m.held.Addr() || !a.IsValid() {
		w.t.Fatalf("in %v the reader knows %v, held is %v", w.m.state, w.known.Prefix, w.m.held.Prefix)
	}
	if !w.kernel[w.m.held.Prefix] {
		w.t.Fatalf("the kernel has %v", w.kernel)
	}
}
