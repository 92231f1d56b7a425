package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	rtnl "github.com/vishvananda/netlink"

	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	"flexphone/netlink"
	registry "flexphone/registry-client"
)

// network carries lease events from the agent to the storing server and to call
// control: the first arrow of the method.
type network struct {
	agent    *agent
	self     *self
	finder   *finder.Finder
	resolver *finder.Resolver
	storing  *storing
	phone    *phone.Phone
	events   *control.Events
	boot     *poweron.Chain // nil: this program is not what the machine was switched on for
	log      *slog.Logger
}

// take is what an event means to the rest of the phone.
func (n *network) take(upper context.Context, e netlink.Event) {
	n.tell(e)
	if e.Kind == netlink.Lost {
		n.self.hold(netlink.Lease{})
		n.storing.update(e)
		n.phone.NetworkDown(upper, e.Reason)
		return
	}
	before := n.self.hold(e.Lease)
	if before.Addr().IsValid() && before.Addr() != e.Lease.Addr() {
		n.events.Publish(events.AddressChanged{Address: e.Lease.Addr().String(), Was: before.Addr().String()})
	}
	otherDNS := n.resolver.Use(e.Lease.DNS, e.Lease.Domains)
	n.finder.SetNetwork(finder.Network{Named: e.Lease.StoringServers, Domains: e.Lease.Domains})
	n.storing.update(e)
	if otherDNS || e.Kind == netlink.Bound { // what was not found may be there now
		n.finder.Again()
		n.storing.again()
	}
	if n.boot != nil {
		n.boot.Reached("lease")
	}
	n.phone.NetworkUp(upper, e.Lease.Addr(), e.Lease.Addrs()[1:]...)
}

// died is what it means that the agent has failed: the address went with it.
func (n *network) died(upper context.Context) {
	if l := n.self.held(); l.Prefix.IsValid() {
		n.take(upper, netlink.Event{Kind: netlink.Lost, Lease: l, Reason: "failed", At: time.Now()})
	}
}

// doubt tells the agent that a server has not taken an announcement: the network may be
// another one. Where a server is known and nothing came back from it, the line may be
// dead, as where name servers that may know one say nothing; a phone that needs none is
// called by its address, and does not leave it.
func (n *network) doubt(server string, err error) {
	source, ok := n.agent.source.Now()
	if !ok {
		return
	}
	netlink.Doubt(source)
	var busy *registry.BusyError
	if (server != "" || n.finder.Mute()) && errors.Is(err, registry.ErrUnreachable) && !errors.As(err, &busy) {
		netlink.Unreached(source)
	}
}

// reached tells the agent that the storing server answers.
func (n *network) reached() {
	if source, ok := n.agent.source.Now(); ok {
		netlink.Reached(source)
	}
}

// tell publishes a lease event under its name.
func (n *network) tell(e netlink.Event) {
	lease := events.Lease{
		Address: e.Lease.Addr().String(), Prefix: e.Lease.Prefix.String(), Router: textOf(e.Lease.Router),
		Server: textOf(e.Lease.Server), Expiry: e.Lease.Expiry,
	}
	switch e.Kind {
	case netlink.Bound:
		n.events.Publish(events.LeaseBound{Lease: lease})
	case netlink.Renewed:
		n.events.Publish(events.LeaseRenewed{Lease: lease})
	case netlink.Lost:
		n.events.Publish(events.LeaseLost{Address: lease.Address, Reason: e.Reason})
	}
	n.log.Info(e.Kind.String(), "address", e.Lease.Addr(), "reason", e.Reason)
}

// textOf is a's text, empty when there is none.
func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// awaitMAC waits for the network interface, whose MAC is the phone's permanent
// number: a USB adapter comes when it comes. missing is told why there is none yet.
func awaitMAC(ctx context.Context, ifname string, missing func(error)) (netlink.MAC, error) {
	if mac, err := macOf(ifname); err == nil {
		return mac, nil
	}
	links, done := make(chan rtnl.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	if err := rtnl.LinkSubscribe(links, done); err != nil {
		return netlink.MAC{}, fmt.Errorf("flexphone: watch network interfaces: %w", err)
	}
	for {
		mac, err := macOf(ifname)
		if err == nil {
			return mac, nil
		}
		missing(err)
		select {
		case _, ok := <-links:
			if !ok {
				return netlink.MAC{}, fmt.Errorf("flexphone: watch network interfaces: the kernel has ended it, and %w", err)
			}
		case <-ctx.Done():
			return netlink.MAC{}, ctx.Err()
		}
	}
}

// macOf returns the permanent number of the phone: the MAC of its interface.
func macOf(ifname string) (netlink.MAC, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netlink.MAC{}, fmt.Errorf("flexphone: find network interface %q: %w; set `interface` to one that `ip link` lists", ifname, err)
	}
	if len(ifi.HardwareAddr) != len(netlink.MAC{}) {
		return netlink.MAC{}, fmt.Errorf("flexphone: network interface %q has no MAC address; set `interface` to an Ethernet or Wi-Fi one", ifname)
	}
	return netlink.MAC(ifi.HardwareAddr), nil
}
