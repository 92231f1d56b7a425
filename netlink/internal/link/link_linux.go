package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	rtnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flexphone/internal/mac"
)

// A State is the state of a network interface.
type State struct {
	Index   int         // 0: there is none of this name
	MAC     mac.Address // zero when it has none
	Enabled bool        // administratively up
	Running bool        // and with a carrier
	Changes uint32      // how often the carrier came or went
	MTU     int
}

// Read returns the state of the interface, with index 0 when there is none.
// The codec's own reading leaves out how often the carrier changed.
func Read(ifname string) (State, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(ifname)))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if errors.Is(err, unix.ENODEV) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("netlink: read link %s: %w", ifname, err)
	}
	if len(msgs) != 1 || len(msgs[0]) < unix.SizeofIfInfomsg {
		return State{}, fmt.Errorf("netlink: read link %s: bad answer of the kernel", ifname)
	}
	info := nl.DeserializeIfInfomsg(msgs[0])
	attrs, err := nl.ParseRouteAttr(msgs[0][unix.SizeofIfInfomsg:])
	if err != nil {
		return State{}, fmt.Errorf("netlink: read link %s: %w", ifname, err)
	}
	l := State{
		Index:   int(info.Index),
		Enabled: info.Flags&unix.IFF_UP != 0,
		Running: info.Flags&unix.IFF_UP != 0 && info.Flags&unix.IFF_RUNNING != 0,
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.IFLA_ADDRESS && len(a.Value) == len(l.MAC): // else not Ethernet, such as PPP
			l.MAC = mac.Address(a.Value)
		case a.Attr.Type == unix.IFLA_MTU && len(a.Value) == 4:
			l.MTU = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.IFLA_CARRIER_CHANGES && len(a.Value) == 4:
			l.Changes = binary.NativeEndian.Uint32(a.Value)
		}
	}
	return l, nil
}

// Owns reports whether an interface of this host has this hardware address. What is not
// known is not owned.
func Owns(m mac.Address) bool {
	all, _ := net.Interfaces()
	return slices.ContainsFunc(all, func(i net.Interface) bool { return bytes.Equal(i.HardwareAddr, m[:]) })
}

func Of(index int) rtnl.Link {
	return &rtnl.Device{LinkAttrs: rtnl.LinkAttrs{Index: index}}
}

// Enable sets the interface administratively up.
func Enable(index int) error {
	if err := rtnl.LinkSetUp(Of(index)); err != nil {
		return fmt.Errorf("netlink: set link up: %w", Needs(CapAdmin, err))
	}
	return nil
}

// IsGone reports whether err says that the interface went away between two
// looks at it.
func IsGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}
