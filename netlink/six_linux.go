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
	"slices"
	"strconv"
	"sync"
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
		cfg: cfg, four: four, manage: manage, events: NewQueue(), doubts: make(chan struct{}, 1), pair: pair{ifname: cfg.Interface, alone: four == nil},
		names:   resolvconf.File{Path: cfg.ResolvConf},
		machine: machine6{rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))},
	}, nil
}

// A six is the one goroutine that owns an interface's IPv6.
type six struct {
	cfg     Config
	four    Source // may be nil
	manage  bool
	events  *Queue
	doubts  chan struct{}
	pair    pair
	machine machine6
	clock   clock // the machine's
	alarm   *alarm
	names   resolvconf.File
	link    link.State
	down    time.Time // since when there is no carrier
	flushed bool      // what routers gave was removed since
	conn    *net.UDPConn
	readers sync.WaitGroup
	packets chan []byte
	tap     *link.Tap // hears the routers; nil: closed
	routers chan []byte

	router netip.Addr // in use; zero: none

	// What the routers of the link say.
	prefixes hearsay[netip.Prefix]
	dns      hearsay[netip.Addr]
	domains  hearsay[string]
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

// Run implements Source.
func (s *six) Run(ctx context.Context) error {
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
	defer s.readers.Wait()
	defer s.alarm.close()
	s.readers.Go(s.alarm.run)
	inner, cancel := context.WithCancel(ctx)
	hints, advice, fours := make(chan struct{}, 1), make(chan advice, 8), make(chan Event)
	s.packets, s.routers = make(chan []byte, 16), make(chan []byte, 16)
	fourEnded := make(chan error, 1)
	if s.four != nil {
		s.readers.Go(func() { fourEnded <- s.four.Run(inner) })
		s.readers.Go(func() { s.passOn(inner, fours) })
		runtime.Gosched() // IPv4 asks first: its server answers at once, a router in seconds
	}
	s.readers.Go(func() { h.Run(inner, hints) })
	s.readers.Go(func() { a.run(inner, advice) })
	defer cancel()
	defer func() {
		s.closeConn()
		s.closeTap()
		if err := s.names.Restore(); err != nil {
			s.cfg.Log.Error("cannot leave the name servers as they were", "error", err)
		}
	}()
	err = s.look(ctx)
	for {
		if err != nil {
			return err
		}
		if d, ok := s.deadline(); !ok {
			err = s.alarm.stop()
		} else {
			err = s.alarm.set(d)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return s.end(cancel, fourEnded)
		case err := <-fourEnded:
			if ctx.Err() != nil {
				fourEnded <- err
				return s.end(cancel, fourEnded)
			}
			return err
		case <-s.alarm.c:
			err = s.look(ctx)
		case <-hints:
			err = s.look(ctx)
		case e := <-fours:
			s.tell(s.pair.fourEvent(time.Now(), e))
			err = s.look(ctx)
		case <-s.doubts:
			err = s.step(doubted{})
		case a := <-advice:
			if a.index == s.link.Index {
				s.hear(a)
				err = s.look(ctx)
			}
		case b := <-s.routers:
			if says, parseErr := parseRA(b); parseErr == nil {
				for _, p := range says.prefixes {
					s.prefixes.say(s.clock.now(), says.router, p.valid, p.prefix)
				}
				err = s.look(ctx)
			}
		case b := <-s.packets:
			s.cfg.trace(false, b)
			if d, parseErr := dhcpv6.MessageFromBytes(b); parseErr == nil {
				if err = s.step(received6{d}); err == nil {
					err = s.look(ctx)
				}
			}
		}
	}
}

// passOn hands the events of IPv4 on until ctx is done.
func (s *six) passOn(ctx context.Context, out chan<- Event) {
	for {
		e, err := s.four.Next(ctx)
		if err != nil {
			return
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return
		}
	}
}

// deadline returns after how long to look again though nothing changed, if ever.
func (s *six) deadline() (least time.Duration, ok bool) {
	earlier := func(t, now time.Time) {
		if d := t.Sub(now); !t.IsZero() && (!ok || d < least) {
			least, ok = d, true
		}
	}
	now := s.clock.now()
	earlier(s.machine.deadline(), now)
	earlier(s.prefixes.deadline(now), now)
	earlier(s.dns.deadline(now), now)
	earlier(s.domains.deadline(now), now)
	earlier(s.pair.deadline(), time.Now())
	earlier(s.flushAt(), time.Now())
	return least, ok
}

// flushAt is when the addresses of routers that are gone are removed.
func (s *six) flushAt() time.Time {
	if s.down.IsZero() || s.flushed || !s.manage {
		return time.Time{}
	}
	return s.down.Add(link.Grace)
}

// look reads the state again, and tells what is new.
func (s *six) look(ctx context.Context) error {
	l, err := link.Read(s.cfg.Interface)
	if err != nil {
		return err
	}
	now := time.Now()
	if s.manage && l.Index != 0 && l.Index != s.link.Index {
		s.prepare(l)
	}
	if l.Index != s.link.Index {
		s.forget()
		s.closeConn()
		s.closeTap()
	}
	s.link = l
	s.listen()
	switch {
	case l.Running:
		s.down, s.flushed = time.Time{}, false
	case s.down.IsZero():
		s.down = now
	case s.manage && l.Index != 0 && !s.flushed && !now.Before(s.flushAt()):
		// The next cable may lead to other routers; these would be believed
		// for hours (RFC 4861 §6.3.4).
		s.flushed = true
		s.forget()
		if err := flushRouted(l.Index, s.machine.held.addr); err != nil {
			s.cfg.Log.Warn("cannot remove IPv6 addresses of another network", "error", err)
		}
	}
	seen := sight6{mac: l.MAC, running: l.Running}
	if l.Index != 0 {
		var local, doubled netip.Addr
		seen, local, doubled, err = see6(l)
		if err != nil {
			return err
		}
		if doubled.IsValid() {
			if err := s.step(duplicate{doubled}); err != nil {
				return err
			}
		}
		if s.manage {
			flags, err := routerFlags(l.Index)
			if err != nil {
				return err
			}
			says := linkSays{
				ready: l.Running && local.IsValid(), mac: l.MAC,
				managed: flags&ifRAManaged != 0, other: flags&ifRAOther != 0,
			}
			if says.ready && s.conn == nil && (says.managed || says.other) {
				if err := s.openConn(ctx, local); err != nil {
					s.cfg.Log.Warn("cannot ask for IPv6 addresses", "error", err)
				}
			}
			says.ready = says.ready && (s.conn != nil || !says.managed && !says.other)
			if says != s.machine.link {
				if err := s.step(says); err != nil {
					return err
				}
			}
			if err := s.step(tick{}); err != nil {
				return err
			}
		}
	}
	at := s.clock.now()
	seen.dns = appendNew(s.machine.dns, s.dns.known(at)...)
	seen.domains = appendDomains(slices.Clone(s.machine.domains), s.domains.known(at)...)
	if err := s.rank(at, seen); err != nil {
		s.cfg.Log.Warn("cannot leave an address of a prefix that is gone", "error", err)
	}
	s.tell(s.pair.sixSeen(now, seen))
	return nil
}

// forget is for another link.
func (s *six) forget() {
	s.prefixes, s.dns, s.domains = hearsay[netip.Prefix]{}, hearsay[netip.Addr]{}, hearsay[string]{}
}

// hear takes what a router says of name servers.
func (s *six) hear(a advice) {
	now := s.clock.now()
	for _, d := range a.dns {
		if d.IsLinkLocalUnicast() {
			d = d.WithZone(s.cfg.Interface)
		}
		s.dns.say(now, a.router, a.life, d)
	}
	s.domains.say(now, a.router, a.life, a.domains...)
}

// listen opens the tap that hears the routers. Without it, what the kernel was told
// last counts.
func (s *six) listen() {
	if s.tap != nil || !s.manage || s.link.Index == 0 || !s.link.Enabled || s.link.MAC == (MAC{}) {
		return
	}
	t, err := link.OpenTap(s.link.Index, unix.ETH_P_IPV6, routerFilter(), s.routers)
	if err != nil {
		s.cfg.Log.Debug("cannot hear the routers", "error", err)
		return
	}
	s.tap = t
	s.readers.Go(t.Read)
}

func (s *six) closeTap() {
	if s.tap != nil {
		s.tap.Close()
		s.tap = nil
	}
}

// rank says of each address how it stands, and has the kernel use those no more
// whose prefix is gone, when there is a better one.
func (s *six) rank(now time.Time, seen sight6) error {
	s.router = routerInUse(s.router, seen.routers, answering(s.link.Index, seen.routers))
	known := s.prefixes.known(now)
	better, gone := false, []netip.Addr(nil)
	for i, a := range seen.addrs {
		st := &seen.addrs[i].six
		if !s.manage && st.age < maxAdvertise {
			st.age = 0 // routers take turns, and cannot be told apart
		}
		at := slices.IndexFunc(known, func(p netip.Prefix) bool { return p.Contains(a.prefix.Addr()) })
		if at < 0 {
			continue
		}
		var left bool
		st.heard, st.inUse, st.leftOut, left = s.prefixes.standing(now, known[at], s.router)
		better = better || !st.leftOut
		if left && a.prefix.Addr() != s.machine.held.addr {
			gone = append(gone, a.prefix.Addr())
		}
	}
	if !s.manage || !better {
		return nil
	}
	var err error
	for _, a := range seen.addrs {
		if slices.Contains(gone, a.prefix.Addr()) {
			s.cfg.Log.Info("routers left out a prefix, not using it", "prefix", a.prefix.Masked())
			err = errors.Join(err, deprecate(s.link.Index, a))
		}
	}
	return err
}

func (s *six) tell(events []Event) {
	for _, e := range events {
		s.events.Push(e)
		s.cfg.Log.Debug(e.Kind.String(), "address", e.Lease.Prefix, "ipv6", e.Lease.IPv6, "router", e.Lease.Router, "reason", e.Reason)
		if s.manage && e.Kind != Lost {
			if err := s.names.Write(e.Lease.names()); err != nil {
				s.cfg.Log.Error("cannot use the name servers", "error", err)
			}
		}
	}
}

// step runs the DHCPv6 machine, and does what it wants.
func (s *six) step(in any) error {
	for _, a := range s.machine.step(s.clock.now(), in) {
		switch a := a.(type) {
		case send6:
			if s.conn == nil {
				continue
			}
			to := &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: dhcpv6.DefaultServerPort, Zone: s.cfg.Interface}
			b := a.msg.ToBytes()
			s.cfg.trace(true, b)
			if _, err := s.conn.WriteToUDP(b, to); err != nil {
				s.cfg.Log.Debug("cannot send", "message", a.msg.MessageType, "error", err)
			}
		case install6:
			if err := s.install(a); err != nil {
				return err
			}
		case remove6:
			if err := removeAddr6(s.link.Index, a.addr); err != nil {
				s.cfg.Log.Error("cannot remove the address", "error", err)
			}
		}
	}
	return nil
}

// end gives everything back, IPv6 first: its RELEASE needs no IPv4. What IPv4
// tells while it ends is not passed on; the end is told once.
func (s *six) end(cancel func(), fourEnded <-chan error) error {
	err := s.step(stopped{})
	cancel()
	if s.four != nil {
		err = errors.Join(err, <-fourEnded)
	}
	if told := s.pair.told; told.Prefix.IsValid() {
		s.events.Push(Event{Kind: Lost, Lease: told, Reason: "released", At: time.Now()})
	}
	return err
}

// prepare has the kernel listen to routers on a new interface. What cannot be
// set stays as it is.
func (s *six) prepare(l link.State) {
	set := func(name, value string) {
		path := filepath.Join("/proc/sys/net/ipv6/conf", s.cfg.Interface, name)
		if b, err := os.ReadFile(path); err == nil && string(b) != value+"\n" {
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				s.cfg.Log.Debug("cannot set", "file", path, "error", err)
			}
		}
	}
	set("use_tempaddr", "0") // a phone wants to be found
	set("accept_ra", "2")    // even where something on the phone forwards
	set("disable_ipv6", "0")
	if s.cfg.Metric != 0 {
		set("ra_defrtr_metric", strconv.Itoa(1024+s.cfg.Metric))
		set("ignore_routes_with_linkdown", "1")
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

func (s *six) closeConn() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
