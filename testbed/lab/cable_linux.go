package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Names of the two ends of a cable.
const (
	NearName = "eth0"
	FarName  = "isp0"
)

// NearMAC is the hardware address of who wants an address.
var NearMAC = net.HardwareAddr{2, 0, 0x5e, 0, 0x53, 1}

// A Cable joins two namespaces: Near, where a client runs on eth0, and Far,
// where its provider's end is called isp0 and is up.
type Cable struct {
	Near, Far *Namespace
	Watch     *Watch // of eth0
}

// NewCable lays a cable whose far end has these addresses.
func NewCable(addrs ...netip.Prefix) (_ *Cable, err error) {
	c := &Cable{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.Far, err = newNamespace(); err != nil {
		return nil, err
	}
	if c.Near, err = newNamespace(); err != nil {
		return nil, err
	}
	err = c.Near.Do(func() error {
		pair := &rtnl.Veth{
			LinkAttrs: rtnl.LinkAttrs{Name: NearName, HardwareAddr: NearMAC, TxQLen: -1},
			PeerName:  FarName, PeerNamespace: rtnl.NsFd(c.Far.file.Fd()),
		}
		if err := rtnl.LinkAdd(pair); err != nil {
			return fmt.Errorf("lab: lay cable: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.SetFar(addrs...); err != nil {
		return nil, err
	}
	if err := c.Plug(); err != nil {
		return nil, err
	}
	c.Watch, err = newWatch(c.Near)
	return c, err
}

// SetFar replaces the addresses of the far end.
func (c *Cable) SetFar(addrs ...netip.Prefix) error {
	return c.Far.Do(func() error {
		l, err := rtnl.LinkByName(FarName)
		if err != nil {
			return fmt.Errorf("lab: set far end: %w", err)
		}
		old, err := rtnl.AddrList(l, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("lab: set far end: %w", err)
		}
		for _, a := range old {
			if err := rtnl.AddrDel(l, &a); err != nil {
				return fmt.Errorf("lab: set far end: %w", err)
			}
		}
		for _, p := range addrs {
			n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
			if err := rtnl.AddrAdd(l, &rtnl.Addr{IPNet: n}); err != nil {
				return fmt.Errorf("lab: set far end to %v: %w", p, err)
			}
		}
		return nil
	})
}

// Plug puts the cable in at the far end.
func (c *Cable) Plug() error { return c.Far.Do(func() error { return setUp(FarName) }) }

// Unplug takes it out, and waits until the near end has lost its carrier: the
// kernel sees it a moment later, and tells nobody of a cable that is back
// before.
func (c *Cable) Unplug() error {
	err := c.Far.Do(func() error {
		l, err := rtnl.LinkByName(FarName)
		if err == nil {
			err = rtnl.LinkSetDown(l)
		}
		if err != nil {
			return fmt.Errorf("lab: unplug: %w", err)
		}
		return nil
	})
	for again := time.NewTicker(time.Millisecond); err == nil; <-again.C {
		has, carrierErr := c.HasCarrier()
		if carrierErr != nil || !has {
			again.Stop()
			return carrierErr
		}
	}
	return err
}

// Blink takes the cable out and puts it in again at once.
func (c *Cable) Blink() error {
	return c.Far.Do(func() error {
		l, err := rtnl.LinkByName(FarName)
		if err == nil {
			err = errors.Join(rtnl.LinkSetDown(l), rtnl.LinkSetUp(l))
		}
		if err != nil {
			return fmt.Errorf("lab: blink: %w", err)
		}
		return nil
	})
}

// Associate has the near end lose and gain its link as Wi-Fi does when it
// roams: without the delay that the kernel puts before a lost carrier.
func (c *Cable) Associate(on bool) error {
	const dormant, up = 5, 6 // RFC 2863's operational states, from linux/if.h
	state := byte(dormant)
	if on {
		state = up
	}
	return c.Near.Do(func() error {
		l, err := rtnl.LinkByName(NearName)
		if err != nil {
			return fmt.Errorf("lab: associate: %w", err)
		}
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(l.Attrs().Index)
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.IFLA_OPERSTATE, []byte{state}))
		if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
			return fmt.Errorf("lab: associate: %w", err)
		}
		return nil
	})
}

// Close takes the cable away. Who runs at its ends must have ended.
func (c *Cable) Close() {
	if c.Watch != nil {
		c.Watch.close()
	}
	if c.Near != nil && c.Near.file != nil {
		// Now, rather than when the kernel gets to it.
		_ = c.Near.Do(func() error {
			if l, err := rtnl.LinkByName(NearName); err == nil {
				return rtnl.LinkDel(l)
			}
			return nil
		})
	}
	for _, n := range []*Namespace{c.Near, c.Far} {
		if n != nil && n.file != nil {
			n.close()
		}
	}
}

func setUp(name string) error {
	l, err := rtnl.LinkByName(name)
	if err == nil {
		err = rtnl.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("lab: set %s up: %w", name, err)
	}
	return nil
}

// A Change is what the kernel said about eth0.
type Change struct {
	At     time.Time
	Prefix netip.Prefix // the zero Prefix: the default route
	Gone   bool
}

// A Watch remembers what happened to the addresses and the default route of
// eth0, as the kernel tells it.
type Watch struct {
	socket  *nl.NetlinkSocket
	done    chan struct{}
	mu      sync.Mutex
	changes []Change
	held    map[netip.Prefix]time.Time
	routed  time.Time // zero: no default route
	news    chan struct{}
}

func newWatch(n *Namespace) (*Watch, error) {
	w := &Watch{done: make(chan struct{}), held: map[netip.Prefix]time.Time{}, news: make(chan struct{})}
	err := n.Do(func() (err error) {
		w.socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
		if err != nil {
			return fmt.Errorf("lab: watch: %w", err)
		}
		// As much as this kernel grants: a test of many changes wants them all.
		_ = w.socket.SetReceiveBufferSize(4<<20, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

func (w *Watch) run() {
	defer close(w.done)
	for {
		msgs, _, err := w.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		now := time.Now()
		w.mu.Lock()
		for _, m := range msgs {
			w.note(now, m.Header.Type, m.Data)
		}
		close(w.news)
		w.news = make(chan struct{})
		w.mu.Unlock()
	}
}

func (w *Watch) note(now time.Time, kind uint16, data []byte) {
	switch kind {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(data) < unix.SizeofIfAddrmsg {
			return
		}
		msg := nl.DeserializeIfAddrmsg(data)
		attrs, err := nl.ParseRouteAttr(data[msg.Len():])
		if err != nil || msg.Scope != unix.RT_SCOPE_UNIVERSE && msg.Scope != unix.RT_SCOPE_LINK {
			return
		}
		for _, a := range attrs {
			if a.Attr.Type != unix.IFA_LOCAL {
				continue
			}
			addr, _ := netip.AddrFromSlice(a.Value)
			p := netip.PrefixFrom(addr, int(msg.Prefixlen))
			gone := kind == unix.RTM_DELADDR
			if gone {
				delete(w.held, p)
			} else if w.held[p].IsZero() {
				w.held[p] = now
			}
			w.changes = append(w.changes, Change{At: now, Prefix: p, Gone: gone})
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(data) < unix.SizeofRtMsg || nl.DeserializeRtMsg(data).Dst_len != 0 {
			return
		}
		w.routed = now
		gone := kind == unix.RTM_DELROUTE
		if gone {
			w.routed = time.Time{}
		}
		w.changes = append(w.changes, Change{At: now, Gone: gone})
	}
}

// Forget drops what was remembered of the past, not of the present.
func (w *Watch) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = nil
}

// Changes returns all that happened, in order.
func (w *Watch) Changes() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Change(nil), w.changes...)
}

// A Holding is what eth0 holds at one moment.
type Holding struct {
	Addrs  map[netip.Prefix]time.Time // and since when
	Routed time.Time                  // since when there is a default route; zero: there is none
}

// Until waits until ok holds of what eth0 holds, at most so long. It reports
// whether it came to pass.
func (w *Watch) Until(within time.Duration, ok func(Holding) bool) (Holding, bool) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		h := Holding{Addrs: map[netip.Prefix]time.Time{}, Routed: w.routed}
		for p, t := range w.held {
			h.Addrs[p] = t
		}
		news := w.news
		w.mu.Unlock()
		if ok(h) {
			return h, true
		}
		select {
		case <-news:
		case <-w.done:
			return h, false
		case <-timeout.C:
			return h, false
		}
	}
}

func (w *Watch) close() {
	w.socket.Close()
	<-w.done
}

// Index returns the index of the interface of this name, in the namespace of
// the calling thread.
func Index(name string) (int, error) {
	l, err := rtnl.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("lab: find %s: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// Router returns the router of the near end's default route; the zero Addr:
// there is none, or none of this protocol.
func (c *Cable) Router() (via netip.Addr, err error) {
	err = c.Near.Do(func() error {
		list, err := rtnl.RouteListFiltered(unix.AF_INET, &rtnl.Route{Table: unix.RT_TABLE_MAIN}, rtnl.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("lab: list routes: %w", err)
		}
		for _, r := range list {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				via, _ = netip.AddrFromSlice(r.Gw.To4())
				break
			}
		}
		return nil
	})
	return via, err
}

// HasCarrier reports whether the near end is up and has a carrier.
func (c *Cable) HasCarrier() (has bool, err error) { return hasCarrier(c.Near, NearName) }

func hasCarrier(n *Namespace, name string) (has bool, err error) {
	err = n.Do(func() error {
		l, err := rtnl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("lab: find %s: %w", name, err)
		}
		has = l.Attrs().RawFlags&unix.IFF_RUNNING != 0
		return nil
	})
	return has, err
}

// Bare takes all addresses from the near end, sets it up, and waits until both
// ends know that they are joined: the kernel tells them in its own time.
func (c *Cable) Bare() error {
	err := c.Near.Do(func() error {
		l, err := rtnl.LinkByName(NearName)
		if err != nil {
			return fmt.Errorf("lab: find %s: %w", NearName, err)
		}
		list, err := rtnl.AddrList(l, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("lab: bare %s: %w", NearName, err)
		}
		for _, a := range list {
			if err := rtnl.AddrDel(l, &a); err != nil {
				return fmt.Errorf("lab: bare %s: %w", NearName, err)
			}
		}
		return setUp(NearName)
	})
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ; err == nil; <-again.C {
		var near, far bool
		if near, err = c.HasCarrier(); err == nil {
			far, err = hasCarrier(c.Far, FarName)
		}
		if near && far {
			break
		}
	}
	return err
}

// MTU returns the near end's.
func (c *Cable) MTU() (mtu int, err error) {
	err = c.Near.Do(func() error {
		l, err := rtnl.LinkByName(NearName)
		if err != nil {
			return fmt.Errorf("lab: find %s: %w", NearName, err)
		}
		mtu = l.Attrs().MTU
		return nil
	})
	return mtu, err
}
