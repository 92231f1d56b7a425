package voice

import (
	"errors"
	"fmt"
	"strconv"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
)

// makeVLAN makes the interface of a VLAN, or finds it, and returns its name.
func makeVLAN(ifname string, vlan int) (string, error) {
	name := ifname + "." + strconv.Itoa(vlan)
	l, err := link.Read(ifname)
	if err != nil {
		return "", err
	}
	if l.Index == 0 {
		return "", fmt.Errorf("netlink: make VLAN %d: there is no interface %s", vlan, ifname)
	}
	err = rtnl.LinkAdd(&rtnl.Vlan{LinkAttrs: rtnl.LinkAttrs{Name: name, ParentIndex: l.Index}, VlanId: vlan})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("netlink: make VLAN %d on %s: %w", vlan, ifname, link.Needs(link.CapAdmin, err))
	}
	return name, nil
}

// removeVLAN takes the interface away, if it is there.
func removeVLAN(name string) error {
	l, err := link.Read(name)
	if err != nil || l.Index == 0 {
		return err
	}
	if err := rtnl.LinkDel(link.Of(l.Index)); err != nil && !link.IsGone(err) {
		return fmt.Errorf("netlink: remove %s: %w", name, link.Needs(link.CapAdmin, err))
	}
	return nil
}
