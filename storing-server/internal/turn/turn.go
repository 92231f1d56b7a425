// Package turn forwards what a browser and a phone say to each other, where they have no
// other way: TURN (RFC 8656), over UDP and TCP, which is what browsers speak. The protocol
// is pion/turn's.
//
// It knows who may have a port and for how long, whom it forwards to, and how much. It
// refuses to know who calls, and what is forwarded, which page and phone have encrypted.
//
// # Why
//
// Phones have the relay of package pairs, which needs one port in all and a third less of the
// processor. A browser speaks TURN alone.
//
// A page gets a name and a password for its call, which no one else can make: the name is when
// they end, whom the page calls, and where another server of the cluster sees that; the
// password is their HMAC with a key of this run. What it then asks for is forwarded to that
// phone alone, as far as its row says where it is, and its session shows it: so nobody reaches
// by it what is behind this server, or has it send to somebody who does not expect it. What the
// session shows comes first: a phone behind a NAT is there, and its row does not have that.
package turn

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	pion "github.com/pion/turn/v5"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/trust"
)

const (
	realm = "storing-server"
	// lasts is for how long a page's password is good: as long as a page stays open for a
	// call, and a call lasts.
	lasts = 24 * time.Hour
	// connectionsMost and connectionsEach bound connections by TCP, in all and of a network.
	connectionsMost = 4096
	connectionsEach = 64
	// eachMost is how many ports the pages of one call may have: a browser asks for one over
	// UDP and one over TCP from each of its addresses.
	eachMost = 12
	// most is how many ports there may be in all.
	most = 2000
	// rate and burst bound what is forwarded by a port, in bytes a second, either way: a
	// voice takes eight thousand.
	rate  = 32 << 10
	burst = 4 * rate
)

// Options say how a Server works.
type Options struct {
	Listen string // UDP and TCP address
	// Where returns where the phone with a MAC may be, the likeliest first.
	Where func(wire.MAC) []netip.Addr
	// Away returns where it may be besides, as the page's name says that gets one now: it may
	// ask other servers. nil, or zero: nowhere.
	Away   func(wire.MAC) netip.Addr
	Exempt trust.Exempt     // networks that may have all connections
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger
}

// A callee is whom a page calls.
type callee struct {
	mac  wire.MAC
	away netip.Addr // where it is besides; zero: nowhere
}

// A Server forwards.
type Server struct {
	o    Options
	key  [32]byte // of passwords
	port int
	conn net.PacketConn
	tcp  net.Listener

	mu    sync.Mutex
	users map[string]callee // by the address of a client: whom it calls
	ports map[string]int    // that a name has
	all   int
}

// Listen opens the port, over UDP and TCP.
func Listen(ctx context.Context, o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, users: map[string]callee{}, ports: map[string]int{}}
	rand.Read(s.key[:]) // never fails
	var lc net.ListenConfig
	var err error
	if s.tcp, err = lc.Listen(ctx, "tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("turn: listen on %s: %w", o.Listen, err)
	}
	s.port = s.tcp.Addr().(*net.TCPAddr).Port
	s.tcp = trust.NewConnections(connectionsMost, connectionsEach, o.Exempt).Listener(s.tcp, nil)
	host, _, err := net.SplitHostPort(o.Listen)
	var udp net.PacketConn
	if err == nil {
		udp, err = lc.ListenPacket(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(s.port)))
	}
	if err == nil {
		if s.conn, err = answering(udp.(*net.UDPConn)); err != nil {
			udp.Close()
		}
	}
	if err != nil {
		s.tcp.Close()
		return nil, fmt.Errorf("turn: listen on %s: %w", o.Listen, err)
	}
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Port is its port, of UDP and of TCP.
func (s *Server) Port() int { return s.port }

// Serve forwards until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	ports := &generator{s}
	server, err := pion.NewServer(pion.ServerConfig{
		Realm: realm, LoggerFactory: quiet{s.o.Log}, AuthHandler: s.authenticate, QuotaHandler: s.room,
		PacketConnConfigs: []pion.PacketConnConfig{{PacketConn: s.conn, RelayAddressGenerator: ports, PermissionHandler: s.permits}},
		ListenerConfigs:   []pion.ListenerConfig{{Listener: s.tcp, RelayAddressGenerator: ports, PermissionHandler: s.permits}},
		EventHandler:      pion.EventHandler{OnAllocationCreated: s.came, OnAllocationDeleted: s.left},
	})
	if err != nil {
		return fmt.Errorf("turn: serve: %w", err)
	}
	<-ctx.Done()
	if err := server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("turn: close: %w", err)
	}
	return nil
}

// Close gives up a server that does not serve.
func (s *Server) Close() {
	s.tcp.Close()
	s.conn.Close()
}

// Pass returns the name and the password by which a page has what it says forwarded to the
// phone with that MAC.
func (s *Server) Pass(to wire.MAC) (name, password string) {
	n := make([]byte, nonceLength, nonceLength+16)
	rand.Read(n) // never fails
	if s.o.Away != nil {
		n = append(n, s.o.Away(to).AsSlice()...)
	}
	name = strconv.FormatInt(s.o.Now().Add(lasts).Unix(), 10) + ":" + to.Digits() + ":" + base64.RawURLEncoding.EncodeToString(n)
	return name, s.password(name)
}

// nonceLength is of what makes a name one of its own, in bytes; an address may follow.
const nonceLength = 6

func (s *Server) password(name string) string {
	h := hmac.New(sha256.New, s.key[:])
	h.Write([]byte(name))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// calls is whom a page with that name calls, if its time is not over. Whether the name is
// ours, its password says.
func (s *Server) calls(name string) (to callee, ok bool) {
	until, rest, _ := strings.Cut(name, ":")
	digits, nonce, _ := strings.Cut(rest, ":")
	t, err := strconv.ParseInt(until, 10, 64)
	if err != nil || s.o.Now().Unix() >= t {
		return to, false
	}
	n, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(n) < nonceLength {
		return to, false
	}
	to.away, _ = netip.AddrFromSlice(n[nonceLength:])
	to.mac, err = wire.ParseDigits(digits)
	return to, err == nil
}

// places are where a callee may be, the likeliest first.
func (s *Server) places(of callee) []netip.Addr {
	all := s.o.Where(of.mac)
	if of.away.IsValid() {
		all = append([]netip.Addr{of.away}, all...)
	}
	return all
}

// authenticate returns what a client has to have signed with.
func (s *Server) authenticate(r *pion.RequestAttributes) (user string, key []byte, ok bool) {
	if _, ok := s.calls(r.Username); !ok {
		return "", nil, false
	}
	return r.Username, pion.GenerateAuthKey(r.Username, r.Realm, s.password(r.Username)), true
}

// room reports whether a client, which has shown its password, may have a port.
func (s *Server) room(name, _ string, _ net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all < most && s.ports[name] < eachMost
}

// came is that a client has a port, and left that it has it no more.
func (s *Server) came(from, _ net.Addr, _, name, _ string, _ net.Addr, _ int) {
	to, ok := s.calls(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.users[place(from)]; twice || !ok {
		return // it is permitted nothing
	}
	s.users[place(from)] = to
	s.ports[name]++
	s.all++
}

func (s *Server) left(from, _ net.Addr, _, name, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.users[place(from)]; !known {
		return
	}
	delete(s.users, place(from))
	s.all--
	if s.ports[name]--; s.ports[name] <= 0 {
		delete(s.ports, name)
	}
}

// Open is how many ports there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func place(a net.Addr) string { return a.Network() + " " + a.String() }

// permits reports whether something is forwarded between a client and an address.
func (s *Server) permits(client net.Addr, peer net.IP) bool {
	s.mu.Lock()
	to, ok := s.users[place(client)]
	s.mu.Unlock()
	at, valid := netip.AddrFromSlice(peer)
	if !ok || !valid {
		return false
	}
	for _, a := range s.places(to) {
		if a == at.Unmap() {
			return true
		}
	}
	return false
}
