package testbed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/testbed/wire"
)

// An attacker sits at the provider, where all that two phones say to each other goes by,
// and can send what he likes from whomever he likes, before what he has seen goes on. He
// also has a host of his own.
type attacker struct {
	raw   int            // sends packets with their IP headers
	own   *net.UDPConn   // of his own host
	place netip.AddrPort // its address
	peer  netip.Addr     // whose packets he takes
	phone netip.Addr     // the one that is attacked

	mu     sync.Mutex
	how    trick
	struck int      // packets sent by that
	taken  [][]byte // of the peer's sound
	heard  int      // packets of sound that came to his own host
}

type trick int

const (
	nothing trick = iota
	forge         // changes a bit of each packet
	replay        // sends each once more, and one of long ago from his own host
	reflect       // sends each back to who has said it, as if it were the answer
	lead          // sends each from his own host, before it comes from the peer
)

// see takes what goes by.
func (a *attacker) see(_ time.Time, packet []byte) {
	from, to, ok := wire.Voice(packet)
	if !ok || from.Addr() != a.peer || to.Addr() != a.phone {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken = append(a.taken, slices.Clone(packet))
	switch a.how {
	case nothing:
		return
	case forge:
		forged := slices.Clone(packet)
		forged[len(forged)-1] ^= 1
		a.send(forged, from, to)
	case replay:
		a.send(slices.Clone(packet), from, to)
		a.send(slices.Clone(a.taken[0]), a.place, to)
	case reflect:
		a.send(slices.Clone(packet), to, from)
	case lead:
		a.send(slices.Clone(packet), a.place, to)
	}
	a.struck++
}

// send sends a packet of IPv4 and UDP, which it may change, as from there.
func (a *attacker) send(packet []byte, from, to netip.AddrPort) {
	head := int(packet[0]&15) * 4
	copy(packet[12:], from.Addr().AsSlice())
	copy(packet[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(packet[head:], from.Port())
	binary.BigEndian.PutUint16(packet[head+2:], to.Port())
	binary.BigEndian.PutUint16(packet[head+6:], 0)                                // no checksum (RFC 768); that of IP is the kernel's
	_ = unix.Sendto(a.raw, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}) // lost like any packet may be
}

// listen takes what comes to his own host, and answers questions there as well as he
// can: with the question.
func (a *attacker) listen() {
	b := make([]byte, 2048)
	for {
		n, from, err := a.own.ReadFromUDPAddrPort(b)
		switch {
		case err != nil:
			return
		case n > 2 && b[0] == 0 && b[1] == 1: // a STUN Binding (RFC 8489)
			b[0], b[1] = 1, 1
			_, _ = a.own.WriteToUDPAddrPort(b[:n], from)
		case n > 2 && b[0]>>6 == 2:
			a.mu.Lock()
			a.heard++
			a.mu.Unlock()
		}
	}
}

// tries sets about the next trick, and returns when he has done it n times.
func (a *attacker) tries(ctx context.Context, t *testing.T, how trick, n int) {
	t.Helper()
	a.mu.Lock()
	a.how, a.struck = how, 0
	a.mu.Unlock()
	for a.done() < n {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

func (a *attacker) done() int  { a.mu.Lock(); defer a.mu.Unlock(); return a.struck }
func (a *attacker) hears() int { a.mu.Lock(); defer a.mu.Unlock(); return a.heard }

// addAttacker puts an attacker on the wire, who takes what peer says to phone.
func addAttacker(t *testing.T, bed *Bed, w *wire.Wire, peer, phone netip.Addr) *attacker {
	crowd, err := bed.AddCrowd(1)
	must(t, err)
	a := &attacker{place: netip.AddrPortFrom(crowd.Addrs[0], 40000), peer: peer, phone: phone}
	a.own, err = crowd.Listen(a.place)
	must(t, err)
	must(t, bed.ISP.host.within(func() (err error) {
		a.raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}))
	var listener sync.WaitGroup
	listener.Go(a.listen)
	w.Watch(a.see)
	t.Cleanup(func() {
		w.Watch(nil)
		a.own.Close()
		listener.Wait()
		unix.Close(a.raw)
	})
	return a
}

// TestAttackerBetweenPhones: who sits on the path of a call and forges, replays,
// reflects and re-sources its packets cannot lead it away, but that the sound of one
// end, which he cannot open, goes to him for a second; and both hear each other
// afterwards.
func TestAttackerBetweenPhones(t *testing.T) {
	if board() != hostBoard {
		t.Skip("whom a path believes is the program's doing, and the same on every board")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	bed := newTown(ctx, t, Config{})
	w, err := bed.Lay(wire.Config{Delay: 5 * time.Millisecond})
	must(t, err)
	var phones []*Phone
	for i, at := range []netip.Addr{East.Address(0), West.Address(0)} {
		p, err := bed.AddPhone(ctx, PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 101+i), MAC: MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(1 + i)},
			Speech: speak(t, words[i]), StoringServer: ServerAddr().String(), Addr: at,
		})
		must(t, err)
		must(t, p.PowerOn(ctx))
		must(t, p.Plug())
		await(ctx, t, p, "registered")
		must(t, bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(101+i)))
		phones = append(phones, p)
	}
	a, b := phones[0], phones[1]
	him := addAttacker(t, bed, w, East.Address(0), West.Address(0))
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	understood := func() {
		t.Helper()
		for _, p := range phones {
			must(t, p.Understands(ctx, 50))
		}
	}
	understood()
	before := unopened(ctx, t, a) + unopened(ctx, t, b)
	for _, how := range []trick{forge, replay, reflect} {
		him.tries(ctx, t, how, 50)
		understood()
	}
	if n := him.hears(); n > 0 {
		t.Errorf("%d packets went to the attacker, who has only changed, repeated and reflected some", n)
	}
	if n := unopened(ctx, t, a) + unopened(ctx, t, b) - before; n < 150 {
		t.Errorf("%d packets did not open; the attacker has sent 200, and each twice that he has repeated", n)
	}
	// The newest of each, from his own host: what is said to him is what is said in a
	// second, and a is not left without it while he goes on.
	him.tries(ctx, t, lead, 50)
	must(t, a.Understands(ctx, 50))
	switch n := him.hears(); {
	case n == 0:
		t.Error("the attacker is not followed, whose packets are the newest: he has not tried")
	case n > 100:
		t.Errorf("%d packets went to the attacker; 50 are a second", n)
	default:
		t.Logf("%d packets went to the attacker", n)
	}
	him.tries(ctx, t, nothing, 0)
	hearEachOther(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))
}

// unopened returns how many packets of its call a phone could not open.
func unopened(ctx context.Context, t *testing.T, p *Phone) int {
	t.Helper()
	s, err := p.Status(ctx)
	must(t, err)
	var call struct {
		Statistics struct {
			Strangers int `json:"strangers"`
		} `json:"statistics"`
	}
	must(t, json.Unmarshal(s.Call, &call))
	return call.Statistics.Strangers
}

// TestThirdHostsRequests: a host that has read along in a plain call, and so knows all
// that a request in it has to bring, can neither end nor change it, nor have its sound.
func TestThirdHostsRequests(t *testing.T) {
	if board() != hostBoard {
		t.Skip("whom a call believes is the program's doing, and the same on every board")
	}
	ctx, bed, phones := town(t, Config{}, 1)
	p := phones[0]
	peer, err := bed.AddStranger()
	must(t, err)
	third, err := bed.AddStranger()
	must(t, err)
	must(t, p.Do(ctx, "dial", DialledAddr(peer.Addr.Addr())))
	invite, err := peer.Next(ctx, func(m Said) bool { return m.Method() == "INVITE" })
	must(t, err)
	describes := func(s *Stranger) string {
		return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 0\r\n", s.Media.Addr(), s.Media.Port())
	}
	contact := func(s *Stranger) string { return fmt.Sprintf("Contact: <sip:stranger@%s>", s.Addr) }
	must(t, peer.Say(invite.From, invite.Response(200, "s", describes(peer), contact(peer), "Content-Type: application/sdp")))
	await(ctx, t, p, "established")
	says := func(s *Stranger, seq int, method, body string, headers ...string) {
		t.Helper()
		lines := append([]string{
			fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%s%d;rport", s.Addr, method, seq), "Max-Forwards: 70",
			"From: " + invite.Header("To") + ";tag=s", "To: " + invite.Header("From"), "Call-ID: " + invite.Header("Call-ID"),
			fmt.Sprintf("CSeq: %d %s", seq, method), contact(s),
		}, headers...)
		must(t, s.Say(invite.From, string(assemble(fmt.Sprintf("%s sip:%s SIP/2.0", method, invite.From), lines, body))))
	}
	for i, method := range []string{"BYE", "INVITE", "UPDATE", "INFO", "REFER", "PRACK"} {
		body, headers := "", []string(nil)
		switch method {
		case "INVITE", "UPDATE":
			body = describes(third)
		case "REFER":
			headers = []string{"Refer-To: <sip:stranger@" + third.Addr.String() + ">"}
		}
		says(third, 100+i, method, body, headers...)
		asked, err := peer.Next(ctx, func(m Said) bool { return m.Method() == "OPTIONS" && m.Status() == 0 })
		must(t, err)
		must(t, peer.Say(asked.From, asked.Response(200, "s", "")))
		answer, err := third.Next(ctx, func(m Said) bool { return m.Status() >= 200 && m.Method() == method })
		must(t, err)
		if answer.Status() != 403 {
			t.Errorf("%s of a third host: %d; want 403", method, answer.Status())
		}
	}
	before := peer.Heard()
	for peer.Heard() < before+50 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("nothing is said to the peer any more")
		}
	}
	if n := third.Heard(); n > 0 {
		t.Errorf("%d packets of sound went to the third host", n)
	}
	if s, err := p.Status(ctx); err != nil || s.State != "talking" {
		t.Errorf("the phone is %s, %v; want talking", s.State, err)
	}
	says(peer, 1, "BYE", "")
	await(ctx, t, p, "ended", "reason", "hangup")
}
