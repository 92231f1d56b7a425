package testbed

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// tap makes the interface tap0, to which QEMU plugs a guest, and joins it to
// the host's cable eth0 by a bridge. The host itself says nothing on either.
func (h *host) tap() error {
	for _, name := range []string{"default", "all", "eth0"} {
		if err := h.sysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	board := netlink.NewLinkAttrs()
	board.Name = "board"
	if err := h.link.LinkAdd(&netlink.Bridge{LinkAttrs: board}); err != nil {
		return fmt.Errorf("testbed: make bridge of %s: %w", h.name, err)
	}
	bridge, err := h.find("board")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "tap0"
	err = h.within(func() error { // the device file counts, not the handle
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR})
	})
	if err != nil {
		return fmt.Errorf("testbed: make tap of %s: %w (needs to open /dev/net/tun, which is for everybody where udev runs; else be root, or BOARD=host)", h.name, err)
	}
	for _, name := range []string{"eth0", "tap0"} {
		l, err := h.find(name)
		if err != nil {
			return err
		}
		if err := h.link.LinkSetMaster(l, bridge); err != nil {
			return fmt.Errorf("testbed: join %s to the bridge of %s: %w", name, h.name, err)
		}
		if err := h.up(name); err != nil {
			return err
		}
	}
	return h.up("board")
}
