package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A host is a network namespace: a machine with an IP stack of its own.
type host struct {
	name string
	ns   *os.File        // keeps the namespace alive
	link *netlink.Handle // speaks to the namespace's kernel
}

// newHost makes a machine that has nothing but a loopback interface.
func newHost(name string) (*host, error) {
	h := &host{name: name}
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		h.ns = ns
		h.link, err = netlink.NewHandle(unix.NETLINK_ROUTE) // of this thread's namespace
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: make host %s: %w", name, err)
	}
	if err := h.up("lo"); err != nil {
		return nil, err
	}
	return h, nil
}

// apart runs f on a thread that is thrown away afterwards, so that f may move
// it into another namespace.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// within runs f as if on the host: what it opens and starts is there.
func (h *host) within(f func() error) error {
	return apart(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("testbed: enter host %s: %w", h.name, err)
		}
		return f()
	})
}

// start runs a command on the host, with an /etc/resolv.conf of its own, which
// is named after the host in the command's folder.
func (h *host) start(cmd *exec.Cmd) error {
	names := filepath.Join(cmd.Dir, h.name+".resolv.conf")
	if err := os.WriteFile(names, nil, 0o600); err != nil {
		return fmt.Errorf("testbed: start on host %s: %w", h.name, err)
	}
	return h.within(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("testbed: start on host %s: %w", h.name, err)
		}
		err := unix.Mount(names, "/etc/resolv.conf", "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) { // a machine without one needs no protection
			return fmt.Errorf("testbed: start on host %s: mount its resolv.conf: %w", h.name, err)
		}
		return cmd.Start()
	})
}

// dial connects from the host.
func (h *host) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.within(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// sysctl sets one of the host's kernel switches, such as net/ipv4/ip_forward.
func (h *host) sysctl(name, value string) error {
	return h.within(func() error {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("testbed: set %s on %s: %w", name, h.name, err)
		}
		return nil
	})
}

func (h *host) find(name string) (netlink.Link, error) {
	l, err := h.link.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("testbed: find interface %s of %s: %w", name, h.name, err)
	}
	return l, nil
}

func (h *host) up(name string) error {
	l, err := h.find(name)
	if err != nil {
		return err
	}
	if err := h.link.LinkSetUp(l); err != nil {
		return fmt.Errorf("testbed: set interface %s of %s up: %w", name, h.name, err)
	}
	return nil
}

func (h *host) down(name string) error {
	l, err := h.find(name)
	if err != nil {
		return err
	}
	if err := h.link.LinkSetDown(l); err != nil {
		return fmt.Errorf("testbed: set interface %s of %s down: %w", name, h.name, err)
	}
	return nil
}

// address gives an interface a fixed address, and the host a default router
// unless that is zero. One of IPv6 nobody doubts: until the kernel is through with that,
// which is later even where it is told not to look (accept_dad), nothing can be bound to it.
func (h *host) address(name string, prefix netip.Prefix, router netip.Addr) error {
	l, err := h.find(name)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.link.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("testbed: give %s the address %s: %w", h.name, prefix, err)
	}
	if !router.IsValid() {
		return nil
	}
	if err := h.link.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router.AsSlice()}); err != nil {
		return fmt.Errorf("testbed: give %s the router %s: %w", h.name, router, err)
	}
	return nil
}

// withdraw takes an address from an interface.
func (h *host) withdraw(name string, prefix netip.Prefix) error {
	l, err := h.find(name)
	if err != nil {
		return err
	}
	if err := h.link.AddrDel(l, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
		return fmt.Errorf("testbed: take the address %s from %s: %w", prefix, h.name, err)
	}
	return nil
}

// cable joins interface eth0 of h, which it makes, to the bridge of sw; the
// other end of the cable is named after h.
func (h *host) cable(sw *host, bridge string, mac net.HardwareAddr) error {
	return h.join(sw, bridge, h.name, "eth0", mac)
}

// join joins an interface of h, which it makes, to the bridge of sw, where the other end
// is called plug.
func (h *host) join(sw *host, bridge, plug, ifname string, mac net.HardwareAddr) error {
	br, err := sw.find(bridge)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = plug
	attrs.MasterIndex = br.Attrs().Index
	pair := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         ifname,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(h.ns.Fd()),
	}
	if err := sw.link.LinkAdd(pair); err != nil {
		return fmt.Errorf("testbed: cable %s: %w", h.name, err)
	}
	return sw.up(plug)
}

// close gives the host up; it ends with the last of its processes.
func (h *host) close() {
	h.link.Close()
	h.ns.Close()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
