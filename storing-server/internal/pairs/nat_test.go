package pairs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5/vnet"

	"flexphone/audio"
	"flexphone/audio/seek"
	"flexphone/audio/srtp"
	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

// Between two phones are 20 ms each way, and the storing server's host is in the middle.
const wayThere = 20 * time.Millisecond

// A nat is what is between a phone and the Internet.
type nat struct {
	name string
	kind vnet.NATType
	none bool
}

var (
	noNAT          = nat{name: "none", none: true}
	fullCone       = nat{name: "full cone", kind: vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: vnet.EndpointIndependent}}
	addressLimited = nat{name: "address-restricted", kind: vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: vnet.EndpointAddrDependent}}
	portLimited    = nat{name: "port-restricted", kind: vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: vnet.EndpointAddrPortDependent}}
	symmetric      = nat{name: "symmetric", kind: vnet.NATType{MappingBehavior: vnet.EndpointAddrPortDependent, FilteringBehavior: vnet.EndpointAddrPortDependent}}
	allNATs        = []nat{noNAT, fullCone, addressLimited, portLimited, symmetric}
)

// A socket is vnet's as a path wants one.
type socket struct {
	mu sync.Mutex
	net.PacketConn
	deadline time.Time
}

func (s *socket) Read([]byte) (int, error)  { return 0, errors.ErrUnsupported }
func (s *socket) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (s *socket) RemoteAddr() net.Addr      { return nil }
func (s *socket) inner() net.PacketConn     { s.mu.Lock(); defer s.mu.Unlock(); return s.PacketConn }
func (s *socket) Close() error              { return s.inner().Close() }

// swap goes on with another socket, as if the NAT had forgotten everything.
func (s *socket) swap(with net.PacketConn) {
	s.mu.Lock()
	old := s.PacketConn
	s.PacketConn = with
	_ = with.SetReadDeadline(s.deadline)
	s.mu.Unlock()
	old.Close()
}
func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return s.PacketConn.SetReadDeadline(t)
}

func (s *socket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c := s.inner()
	n, from, err := c.ReadFrom(b)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	case err != nil && c == s.inner():
		return 0, netip.AddrPort{}, net.ErrClosed
	case err != nil: // it was swapped
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
	return n, from.(*net.UDPAddr).AddrPort(), nil
}

func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if !to.Addr().Unmap().Is4() {
		return 0, errors.New("no route")
	}
	return s.inner().WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr().Unmap(), to.Port())))
}

// An internet is a network with a storing server in it.
type internet struct {
	*testing.T
	wan   *vnet.Router
	relay atomic.Pointer[Relay] // nil: it is down
	stun  []netip.AddrPort
	at    netip.AddrPort // of the relay
	lans  int
	ends  []func()
}

func (in *internet) must(err error) {
	in.Helper()
	if err != nil {
		in.Fatal(err)
	}
}

func newInternet(t *testing.T) *internet {
	in := &internet{T: t}
	in.startRelay()
	var err error
	in.wan, err = vnet.NewRouter(&vnet.RouterConfig{CIDR: "203.0.113.0/24", MinDelay: wayThere, LoggerFactory: quiet()})
	in.must(err)
	server, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{"203.0.113.200"}})
	in.must(err)
	in.must(in.wan.AddNet(server))
	for _, port := range []int{3478, 3479, 3480} {
		c, err := server.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(203, 0, 113, 200), Port: port})
		in.must(err)
		at := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.200"), uint16(port))
		answer := in.forward
		if port == 3480 {
			in.at = at
		} else {
			in.stun = append(in.stun, at)
			answer = mirror
		}
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				if out, to := answer(b[:n], from.(*net.UDPAddr).AddrPort()); out != nil {
					_, _ = c.WriteTo(out, net.UDPAddrFromAddrPort(to))
				}
			}
		}()
		in.ends = append(in.ends, func() { c.Close() })
	}
	return in
}

func (in *internet) forward(b []byte, from netip.AddrPort) ([]byte, netip.AddrPort) {
	relay := in.relay.Load()
	if relay == nil {
		return nil, from
	}
	var d Draft
	out, to, _ := relay.Take(&d, b, Place{At: from}, time.Now())
	return bytes.Clone(out), to.At
}

// startRelay starts the relay, which remembers no pair.
func (in *internet) startRelay() {
	in.relay.Store(New(DefaultLimits()).Keyed([]byte("the server's")))
}

func mirror(b []byte, from netip.AddrPort) ([]byte, netip.AddrPort) {
	m := stun.Message{Raw: bytes.Clone(b)}
	if m.Decode() != nil {
		return nil, from
	}
	return stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		stun.XORMappedAddress{IP: from.Addr().AsSlice(), Port: int(from.Port())}).Raw, from
}

func (in *internet) close() {
	for _, end := range in.ends {
		end()
	}
	in.must(in.wan.Stop())
}

func quiet() logging.LoggerFactory {
	f := logging.NewDefaultLoggerFactory()
	f.DefaultLogLevel = logging.LogLevelDisabled
	return f
}

// lan is a network behind a NAT of above's; nil: above itself.
func (in *internet) lan(above *vnet.Router, n nat) *vnet.Router {
	if n.none {
		return above
	}
	in.lans++
	kind := n.kind
	r, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: fmt.Sprintf("10.%d.0.0/24", in.lans), NATType: &kind, LoggerFactory: quiet()})
	in.must(err)
	in.must(above.AddRouter(r))
	return r
}

// host is a socket of a new host in a network, and its address.
func (in *internet) host(r *vnet.Router) (net.PacketConn, netip.Addr) {
	n, err := vnet.NewNet(&vnet.NetConfig{})
	in.must(err)
	in.must(r.AddNet(n))
	i, err := n.InterfaceByName("eth0")
	in.must(err)
	addrs, err := i.Addrs()
	in.must(err)
	ip := addrs[0].(*net.IPNet).IP
	c, err := n.ListenUDP("udp4", &net.UDPAddr{IP: ip, Port: 4000})
	in.must(err)
	a, _ := netip.AddrFromSlice(ip)
	return c, a.Unmap()
}

// A phone is one end of a call.
type phone struct {
	*srtp.Path
	in     *internet
	at     netip.AddrPort
	socket *socket
	pin    [32]byte
	pass   pass.Pass
	says   srtp.Agreement // of itself
	lost   atomic.Int32   // how often it was told that its way was

	mute  atomic.Bool // nothing is said, as on hold
	mu    sync.Mutex
	heard []time.Time
	quit  chan struct{}
	done  sync.WaitGroup
}

func (in *internet) phone(r *vnet.Router) *phone {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	in.must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, public, key)
	in.must(err)
	leaf, err := x509.ParseCertificate(der)
	in.must(err)
	c, a := in.host(r)
	p := &phone{in: in, at: netip.AddrPortFrom(a, 4000), socket: &socket{PacketConn: c}, pin: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), quit: make(chan struct{})}
	p.Path = srtp.New(in.Context(), p.socket, srtp.Config{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, Lost: func() { p.lost.Add(1) }, Log: slog.New(slog.DiscardHandler),
	})
	p.done.Go(func() {
		_ = p.Receive(func(d audio.Datagram) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.heard = append(p.heard, d.At)
		})
	})
	in.ends = append(in.ends, func() { close(p.quit); p.Close(); p.done.Wait() })
	return p
}

// describe is what p says of itself, having asked the server; relay: it may have a pass.
func (p *phone) describe(active, relay bool) srtp.Agreement {
	a := srtp.Agreement{Remote: p.at, Mux: true, Peer: p.Own(), DTLS: &srtp.DTLS{
		Active: active, Fingerprints: []srtp.Fingerprint{p.Fingerprint()}, Pin: p.pin,
	}}
	a.Candidates = p.candidates()
	if relay && len(a.Candidates) > 1 {
		var err error
		p.pass, err = p.in.relay.Load().Issue(wire.Fingerprint(p.pin), time.Now())
		p.in.must(err)
		p.Enter(srtp.Relay{At: p.in.at, Pass: p.pass}, pass.Owner)
	}
	return a
}

// candidates are where p may be, now that it has asked the server.
func (p *phone) candidates() []seek.Candidate {
	out := []seek.Candidate{{Addr: p.at, Kind: seek.Host}}
	for _, seen := range p.Reflexive(context.Background(), p.in.stun) {
		if seen.IsValid() && !slices.ContainsFunc(out, func(c seek.Candidate) bool { return c.Addr == seen }) {
			out = append(out, seek.Candidate{Addr: seen, Kind: seek.Reflexive})
		}
	}
	return out
}

// tell has p tell another where it may be now, and hear the same answer as before.
func (p *phone) tell(other *phone) {
	p.says.Candidates = p.candidates()
	time.Sleep(2 * wayThere)
	p.in.must(other.Start(p.says))
	time.Sleep(2 * wayThere)
	p.in.must(p.Start(other.says))
}

// talk sends a packet each 20 ms.
func (p *phone) talk() {
	p.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := uint16(0); ; n++ {
			b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: n, SSRC: 7}, Payload: make([]byte, 60)}).Marshal()
			if err != nil {
				return
			}
			if !p.mute.Load() {
				_ = p.Send(audio.RTP, b) // without keys it is not sent
			}
			select {
			case <-tick.C:
			case <-p.quit:
				return
			}
		}
	})
}

// first is when p first heard something after since.
func (p *phone) first(since time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.heard {
		if !at.Before(since) {
			return at.Sub(since), true
		}
	}
	return 0, false
}

// gap is the longest silence that p has heard from since until now.
func (p *phone) gap(since time.Time) (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := since
	for _, at := range append(slices.Clone(p.heard), time.Now()) {
		if at.After(since) {
			longest, last = max(longest, at.Sub(last)), at
		}
	}
	return longest
}

// call has a call b, which rings for two seconds, and returns when it was answered. Their
// signalling takes as long as by the storing server.
func (in *internet) call(a, b *phone, relay bool) (answered time.Time) {
	offer := a.describe(false, relay)
	a.Expect(b.at.Addr(), b.pin)
	time.Sleep(2 * wayThere)
	// The callee takes the caller's pass, if there is one, and has none of its own then.
	answer := b.describe(true, relay && a.pass == pass.Pass{})
	if a.pass != (pass.Pass{}) {
		b.Enter(srtp.Relay{At: in.at, Pass: a.pass}, pass.Guest)
	}
	offer.DTLS.Active, answer.DTLS.Active = true, false
	a.says, b.says = offer, answer
	in.must(b.Start(offer))
	time.Sleep(2 * time.Second)
	answered = time.Now()
	in.must(b.Start(offer))
	b.talk()
	time.Sleep(2 * wayThere)
	if b.pass != (pass.Pass{}) {
		a.Enter(srtp.Relay{At: in.at, Pass: b.pass}, pass.Guest)
	}
	in.must(a.Start(answer))
	a.talk()
	return answered
}
