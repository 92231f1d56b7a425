package netlink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/resolvconf"
)

// WithIPv6 returns a Source that tells the interface's IPv6 addresses beside
// the events of four; without four, or on a link without IPv4, they alone are
// told. The kernel makes the addresses that routers advertise; where routers ask
// for DHCPv6 (RFC 8415), stateful or stateless, it is done here.
func WithIPv6(cfg Config, four Source) (Source, error) { return newSix(cfg, four, true) }

// WatchIPv6 is as WithIPv6 for an interface whose addresses are another's
// business: it changes and asks nothing.
func WatchIPv6(cfg Config, four Source) (Source, error) { return newSix(cfg, four, false) }

func newSix(cfg Config, four Source, manage bool) (Source, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	return &six{
		cfg: cfg, four: four, events: NewQueue(), names: resolvconf.File{Path: cfg.ResolvConf},
		agent: agent6{
			ifname: cfg.Interface, metric: cfg.Metric, manage: manage, pair: pair{ifname: cfg.Interface, alone: four == nil},
			dhcp: machine6{rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))},
		},
		hints: make(chan struct{}, 1), doubts: make(chan struct{}, 1), shuns: make(chan struct{}, 1), advice: make(chan advice, 8), fours: make(chan Event),
		routers: make(chan []byte, 16), packets: make(chan []byte, 16),
		fourEnded: make(chan struct{}),
	}, nil
}

// A six is the one goroutine that owns an interface's IPv6: it runs an agent6.
type six struct {
	cfg    Config
	four   Source // may be nil
	events *Queue
	agent  agent6
	clock  clock // the agent's
	alarm  *alarm
	names  resolvconf.File

	conn    *net.UDPConn // of DHCPv6; nil: closed
	tap     *link.Tap    // hears the routers; nil: closed
	readers sync.WaitGroup
	hints   chan struct{}
	doubts  chan struct{}
	shun    atomic.Bool
	shuns   chan struct{} // shun is another
	advice  chan advice
	fours   chan Event
	routers chan []byte
	packets chan []byte

	fourEnded chan struct{}
	fourErr   error // once fourEnded is closed
}

// Next implements Source.
func (s *six) Next(ctx context.Context) (Event, error) { return s.events.Next(ctx) }

// Doubt passes a doubt on to IPv4, and has an address of DHCPv6 confirmed.
func (s *six) Doubt() {
	if s.four != nil {
		Doubt(s.four)
	}
	wake(s.doubts)
}

// Shun has the routes of both families come after others'.
func (s *six) Shun(yes bool) bool {
	if !s.agent.manage || s.four != nil && !Shun(s.four, yes) {
		return false
	}
	s.shun.Store(yes)
	wake(s.shuns)
	return true
}

// Run implements Source.
func (s *six) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer s.readers.Wait()
	defer cancel()
	if err := s.start(inner); err != nil {
		return err
	}
	defer s.close()
	if err := s.loop(ctx); err != nil || ctx.Err() == nil {
		return err
	}
	// IPv6 first: its RELEASE needs no IPv4. What IPv4 tells while it ends is not
	// passed on; the end is told once.
	err := s.step(ctx, stopped{})
	cancel()
	if s.four != nil {
		<-s.fourEnded
		err = errors.Join(err, s.fourErr)
	}
	return errors.Join(err, s.step(ctx, gone{}))
}

// start runs IPv4, and what tells of changes, until ctx is done.
func (s *six) start(ctx context.Context) error {
	if s.four != nil { // it asks first: its server answers at once, a router in seconds
		s.readers.Go(func() {
			s.fourErr = s.four.Run(ctx)
			close(s.fourEnded)
		})
		s.readers.Go(func() { s.passOn(ctx) })
		runtime.Gosched()
	}
	h, err := link.OpenHinter(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_IFINFO)
	if err != nil {
		return err
	}
	a, err := openAdvisor()
	if err != nil {
		h.Close()
		return err
	}
	s.clock = newClock(bootTime)
	if s.alarm, err = newAlarm(); err != nil {
		h.Close()
		a.socket.Close()
		return err
	}
	s.readers.Go(s.alarm.run)
	s.readers.Go(func() { h.Run(ctx, s.hints) })
	s.readers.Go(func() { a.run(ctx, s.advice) })
	return nil
}

// passOn hands the events of IPv4 on until ctx is done.
func (s *six) passOn(ctx context.Context) {
	for {
		e, err := s.four.Next(ctx)
		if err != nil {
			return
		}
		select {
		case s.fours <- e:
		case <-ctx.Done():
			return
		}
	}
}

func (s *six) close() {
	s.shut()
	s.alarm.close()
	if err := s.names.Restore(); err != nil {
		s.cfg.Log.Error("cannot leave the name servers as they were", "error", err)
	}
}

// loop hands the agent what happens and what the kernel holds then, until ctx is done or
// IPv4 has ended.
func (s *six) loop(ctx context.Context) error {
	for {
		if err := s.look(ctx); err != nil {
			return err
		}
		if err := s.setAlarm(); err != nil {
			return err
		}
		var in any // nothing but a reason to look again
		select {
		case <-ctx.Done():
			return nil
		case <-s.fourEnded:
			if ctx.Err() != nil {
				return nil
			}
			return s.fourErr
		case <-s.alarm.c:
		case <-s.hints:
		case <-s.doubts:
			in = doubted{}
		case <-s.shuns:
			in = shunned{s.shun.Load()}
		case e := <-s.fours:
			e.Lease = s.clock.in(e.Lease)
			in = fourSays{e}
		case a := <-s.advice:
			in = a
		case b := <-s.routers:
			if says, err := parseRA(b); err == nil {
				in = says
			}
		case b := <-s.packets:
			s.cfg.trace(false, b)
			if d, err := dhcpv6.MessageFromBytes(b); err == nil {
				in = received6{d}
			}
		}
		if in != nil {
			if err := s.step(ctx, in); err != nil {
				return err
			}
		}
	}
}

func (s *six) setAlarm() error {
	now := s.clock.now()
	d := s.agent.deadline(now)
	if d.IsZero() {
		return s.alarm.stop()
	}
	return s.alarm.set(d.Sub(now))
}

// look reads the state again.
func (s *six) look(ctx context.Context) error {
	l, err := link.Read(s.cfg.Interface)
	if err != nil {
		return err
	}
	if err := s.step(ctx, linkSeen{l}); err != nil {
		return err
	}
	held, err := readHeld6(l)
	if err != nil {
		return err
	}
	return s.step(ctx, held)
}

// step runs the agent, and then what it wants done. That the socket is open is a further
// input.
func (s *six) step(ctx context.Context, in any) (failed error) {
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, a := range s.agent.step(s.clock.now(), inputs[0]) {
			switch a := a.(type) {
			case prepare6:
				s.prepare(a.state)
			case listen6:
				s.listen()
			case shut6:
				s.shut()
			case open6:
				if err := s.openConn(ctx, a.from); err != nil {
					s.cfg.Log.Warn("cannot ask for IPv6 addresses", "error", err)
				} else {
					inputs = append(inputs, opened6{})
				}
			case send6:
				s.send(a)
			case install6:
				failed = errors.Join(failed, s.install(a))
			case remove6:
				s.complain("cannot remove the address", removeAddr6(s.agent.link.Index, a.addr))
			case flush6:
				s.complain("cannot remove IPv6 addresses of another network", flushRouted(s.agent.link.Index, s.agent.dhcp.held.addr))
			case deprecate6:
				s.complain("cannot leave an address of a prefix that is gone", deprecate(s.agent.link.Index, a.addr))
			case metric6:
				s.set("ra_defrtr_metric", strconv.Itoa(a.metric))
				s.complain("cannot ask the routers", solicit(s.cfg.Interface))
			case tell:
				s.tell(a.event)
			case note:
				s.cfg.Log.Log(ctx, a.level, a.text, a.args...)
			}
		}
	}
	return failed
}

// complain logs what the agent can do without.
func (s *six) complain(text string, err error) {
	if err != nil {
		s.cfg.Log.Warn(text, "error", err)
	}
}

// send sends a message of DHCPv6, if there is a socket for it.
func (s *six) send(a send6) {
	if s.conn == nil {
		return
	}
	to := &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: dhcpv6.DefaultServerPort, Zone: s.cfg.Interface}
	b := a.msg.ToBytes()
	s.cfg.trace(true, b)
	if _, err := s.conn.WriteToUDP(b, to); err != nil {
		s.cfg.Log.Debug("cannot send", "message", a.msg.MessageType, "error", err)
	}
}

func (s *six) tell(e Event) {
	e.Lease, e.At = s.clock.out(e.Lease), time.Now()
	s.events.Push(e)
	s.cfg.Log.Debug(e.Kind.String(), "address", e.Lease.Prefix, "ipv6", e.Lease.IPv6, "router", e.Lease.Router, "reason", e.Reason)
	if s.agent.manage && e.Kind != Lost {
		if err := s.names.Write(e.Lease.names()); err != nil {
			s.cfg.Log.Error("cannot use the name servers", "error", err)
		}
	}
}

// listen opens the tap that hears the routers. Without it, what the kernel was told
// last counts.
func (s *six) listen() {
	if s.tap != nil {
		return
	}
	t, err := link.OpenTap(s.agent.link.Index, unix.ETH_P_IPV6, routerFilter(), s.routers)
	if err != nil {
		s.cfg.Log.Debug("cannot hear the routers", "error", err)
		return
	}
	s.tap = t
	s.readers.Go(t.Read)
}

// shut closes what is open on the interface.
func (s *six) shut() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	if s.tap != nil {
		s.tap.Close()
		s.tap = nil
	}
}

// set sets what the kernel does about IPv6 on the interface. What cannot be set stays as
// it is.
func (s *six) set(name, value string) {
	path := filepath.Join("/proc/sys/net/ipv6/conf", s.cfg.Interface, name)
	if b, err := os.ReadFile(path); err == nil && string(b) != value+"\n" {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			s.cfg.Log.Debug("cannot set", "file", path, "error", err)
		}
	}
}

// prepare has the kernel listen to routers on a new interface.
func (s *six) prepare(l link.State) {
	s.set("use_tempaddr", "0") // a phone wants to be found
	s.set("accept_ra", "2")    // even where something on the phone forwards
	s.set("disable_ipv6", "0")
	if s.cfg.Metric != 0 {
		s.set("ra_defrtr_metric", strconv.Itoa(s.agent.routeMetric()))
		s.set("ignore_routes_with_linkdown", "1")
	}
	if !l.Enabled {
		if err := link.Enable(l.Index); err != nil {
			s.cfg.Log.Warn("cannot enable the interface", "error", err)
		}
	}
}

// openConn opens the client's socket on the link-local address.
func (s *six) openConn(ctx context.Context, local netip.Addr) error {
	c := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			inner = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, dscpCS6),
				unix.BindToDevice(int(fd), s.cfg.Interface))
		})
		return errors.Join(err, inner)
	}}
	at := netip.AddrPortFrom(local.WithZone(s.cfg.Interface), dhcpv6.DefaultClientPort)
	conn, err := c.ListenPacket(ctx, "udp6", at.String())
	if err != nil {
		return fmt.Errorf("netlink: listen for DHCPv6: %w", link.Needs(link.CapPorts, err))
	}
	s.conn = conn.(*net.UDPConn)
	read, done := s.conn, ctx.Done()
	s.readers.Go(func() {
		b := make([]byte, 1<<16)
		for failed := 0; failed < 100; {
			n, err := read.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				failed++
				continue
			}
			failed = 0
			select {
			case s.packets <- append([]byte(nil), b[:n]...):
			case <-done:
				return
			}
		}
	})
	return nil
}
