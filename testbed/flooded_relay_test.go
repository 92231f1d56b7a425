package testbed

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/testbed/nat"
)

// floodOfTheRelay is how many datagrams there are: ten seconds of 11,000.
const floodOfTheRelay = 110_000

// Ports of the storing server for sound.
const stunPort, relayPort = 3478, 3480

// The storing server that relays a call gets thousands of datagrams of strangers a second: STUN
// questions, passes that are guessed, a pass that was overheard and is shown again, and what
// looks like sound. A phone of nobody's asks for one pass after the other, and has more forwarded
// than it may. The call has no gap, nothing of it reaches a stranger, and the next one rings.
func TestFloodOfTheRelayInACall(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it puts programs behind routers")
	}
	ctx, bed, _ := townAlone(t, Config{}, 0)
	all := homesIn(t, bed, 2, nat.Config{Symmetric: true, Filter: nat.Port})
	overhears := overhear(t, bed)
	a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
	b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
	talk := talking(ctx, t, a, b, "relayed")
	shown := overhears(ctx)
	strangers, err := bed.AddCrowd(20)
	must(t, err)
	pace, err := startPace()
	must(t, err)
	flooding, stop := context.WithCancel(ctx)
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	var sent, challenged, stolen atomic.Int64
	for i := range 8 {
		conn, err := strangers.Listen(netip.AddrPortFrom(strangers.Addrs[i], 0))
		must(t, err)
		flood.Go(func() { countAnswers(conn, &challenged, &stolen) })
		flood.Go(func() {
			defer conn.Close()
			floodTheRelay(flooding, conn, shown, &sent)
		})
	}
	var given, refused atomic.Int64
	flood.Go(func() { asksForMore(flooding, t, strangers, &given, &refused) })

	before := map[*Phone]soundOf{a: soundAt(ctx, t, a), b: soundAt(ctx, t, b)}
	began := time.Now()
	for sent.Load() < floodOfTheRelay {
		heardOf(ctx, t, a, b)
	}
	took := time.Since(began)
	got, err := pace.stop()
	must(t, err)
	heardInAFlood(ctx, t, before, took, got)
	goes(ctx, t, "relayed", a, b)
	stop()
	flood.Wait()
	m, err := bed.Server.Metrics(ctx)
	must(t, err)
	became := verdicts(m)
	t.Logf("%d datagrams, %.0f a second; of the relay's %v; %d passes given, %d refused; %v", sent.Load(), float64(sent.Load())/took.Seconds(), became, given.Load(), refused.Load(), got)
	if challenged.Load() == 0 || stolen.Load() > 0 {
		t.Errorf("who shows a pass that was overheard is asked %d times for what only its owner can sign, and gets %d datagrams of sound", challenged.Load(), stolen.Load())
	}
	if became["stranger"] == 0 || became["bytes"] == 0 {
		t.Errorf("the relay says of the flood: %v; want strangers, and too many bytes", became)
	}
	if given.Load() == 0 || refused.Load() == 0 {
		t.Errorf("who asks for one pass after the other is given %d, and refused %d times", given.Load(), refused.Load())
	}
	hearEachOtherAgain(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))
	must(t, talking(ctx, t, a, b, "relayed").HangUp(ctx, b))
}

// overhear is somebody at the provider who waits for a pass to be shown as the relay takes it, and
// returns that request.
func overhear(t *testing.T, bed *Bed) func(context.Context) []byte {
	t.Helper()
	socket, err := bed.ISP.host.listenToAll()
	must(t, err)
	heard := make(chan []byte, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 4096)
		for {
			n, err := socket.Read(packet)
			if err != nil {
				return
			}
			if n < 28 || packet[0] != 0x45 || packet[9] != nat.UDP || packet[22] != relayPort>>8 || packet[23] != relayPort&0xff {
				continue
			}
			m := stun.Message{Raw: bytes.Clone(packet[28:n])}
			if m.Decode() == nil && m.Type == stun.BindingRequest && m.Contains(stun.AttrNonce) {
				select {
				case heard <- m.Raw:
				default:
				}
			}
		}
	}()
	bed.onClose(func() error {
		err := socket.Close()
		<-done
		return err
	})
	return func(ctx context.Context) []byte {
		select {
		case b := <-heard:
			return b
		case <-ctx.Done():
			t.Fatal("no pass was shown")
			return nil
		}
	}
}

// floodTheRelay sends a mixture of what a storing server's ports for sound are spoken to with.
func floodTheRelay(flooding context.Context, conn *net.UDPConn, shown []byte, sent *atomic.Int64) {
	server := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(serverAddress.Addr(), port) }
	question := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	sound, guess := make([]byte, 120), stun.Message{}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; {
		for range 7 {
			n++
			what, to := question, server(stunPort+uint16(n/4%2))
			switch n % 4 {
			case 1:
				what, to = shown, server(relayPort)
			case 2:
				if pass.New().Show(&guess, [12]byte{byte(n)}, pass.Guest, nil) != nil {
					return
				}
				what, to = guess.Raw, server(relayPort)
			case 3:
				rand.Read(sound) // never fails
				sound[0] = 0x80
				what, to = sound, server(relayPort)
			}
			if _, err := conn.WriteToUDPAddrPort(what, to); err == nil {
				sent.Add(1)
			}
		}
		select {
		case <-pace.C:
		case <-flooding.Done():
			return
		}
	}
}

// countAnswers reads what a stranger gets from the relay until its socket is closed.
func countAnswers(conn *net.UDPConn, challenged, stolen *atomic.Int64) {
	b := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		m := stun.Message{Raw: b[:n]}
		switch {
		case from.Port() != relayPort:
		case m.Decode() == nil && m.Type == stun.BindingError:
			challenged.Add(1)
		default:
			stolen.Add(1)
		}
	}
}

// asksForMore is a phone that asks for passes for as long as the flood lasts, and has much more
// forwarded from itself to itself than a call is.
func asksForMore(flooding context.Context, t *testing.T, at *Crowd, given, refused *atomic.Int64) {
	dir := t.TempDir()
	m := MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x77}
	id, err := registry.LoadIdentity(dir, m)
	if err != nil {
		t.Error(err)
		return
	}
	listen := func(ctx context.Context, _ netip.Addr) (net.PacketConn, error) {
		return at.Listen(netip.AddrPortFrom(at.Addrs[19], 0))
	}
	c, err := registry.NewClient(registry.Config{
		Server: netip.AddrPortFrom(serverAddress.Addr(), storingPort).String(), Identity: id,
		Pins: registry.NewFilePins(filepath.Join(dir, "servers.json")), Log: slog.New(slog.DiscardHandler), Listen: listen,
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if _, err := c.Register(flooding, wire.Registration{
		MAC: wire.MAC(m), Addrs: at.Addrs[19:], Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: 1, Lifetime: time.Hour,
	}); err != nil {
		t.Error(err)
		return
	}
	ticket, err := c.Pair(flooding)
	if err != nil {
		t.Error(err)
		return
	}
	var forwarding sync.WaitGroup
	defer forwarding.Wait()
	forwarding.Go(func() {
		if err := forwardsMuch(flooding, at, ticket); err != nil {
			t.Error(err)
		}
	})
	for flooding.Err() == nil {
		if _, err := c.Pair(flooding); err == nil {
			given.Add(1)
		} else if flooding.Err() == nil {
			refused.Add(1)
		}
		wait(flooding, time.Millisecond)
	}
}

// forwardsMuch shows both sides of a pass, and then has two megabytes a second forwarded.
func forwardsMuch(flooding context.Context, at *Crowd, ticket pass.Pass) error {
	relay := netip.AddrPortFrom(serverAddress.Addr(), relayPort)
	var ends [2]*net.UDPConn
	answer := make([]byte, 2048)
	for side := range ends {
		c, err := at.Listen(netip.AddrPortFrom(at.Addrs[19], 0))
		if err != nil {
			return err
		}
		defer c.Close()
		ends[side] = c
		var m stun.Message
		var nonce []byte
		for mapped := (netip.AddrPort{}); !mapped.IsValid() && flooding.Err() == nil; {
			if err := ticket.Show(&m, [12]byte{1}, pass.Side(side), nonce); err != nil {
				return err
			}
			if _, err := c.WriteToUDPAddrPort(m.Raw, relay); err != nil {
				return err
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			if n, err := c.Read(answer); err == nil {
				if nonce, mapped, err = ticket.Answer(&m, answer[:n], [12]byte{1}); err != nil {
					return err
				}
			}
		}
	}
	much := append([]byte{0x80}, make([]byte, 999)...)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		for range 10 {
			_, _ = ends[0].WriteToUDPAddrPort(much, relay) // what is lost is lost
		}
		select {
		case <-pace.C:
		case <-flooding.Done():
			return nil
		}
	}
}

var relayMetric = regexp.MustCompile(`storing_server_relay_datagrams_total\{result="(\w+)"\} (\S+)`)

// verdicts are what became of the relay's datagrams, by the server's metrics.
func verdicts(metrics string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(metrics) {
		if m := relayMetric.FindStringSubmatch(line); m != nil {
			all[m[1]], _ = strconv.ParseFloat(m[2], 64)
		}
	}
	return all
}
