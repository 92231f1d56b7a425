package netlink

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// What the DHCPv6 client writes into its messages, and reads from a server's.

// send sends the message of the state.
func (m *machine6) send(now time.Time) {
	d := m.message(now, map[state6]dhcpv6.MessageType{
		confirming6: dhcpv6.MessageTypeConfirm, soliciting6: dhcpv6.MessageTypeSolicit, requesting6: dhcpv6.MessageTypeRequest,
		renewing6: dhcpv6.MessageTypeRenew, rebinding6: dhcpv6.MessageTypeRebind, informing6: dhcpv6.MessageTypeInformationRequest,
	}[m.state])
	switch m.state {
	case soliciting6:
		d.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		d.AddOption(m.identity(netip.Addr{}))
	case requesting6:
		d.AddOption(dhcpv6.OptServerID(m.offer.server))
		d.AddOption(m.identity(m.offer.addr))
	case renewing6:
		d.AddOption(dhcpv6.OptServerID(m.held.server))
		d.AddOption(m.identity(m.held.addr))
	case rebinding6, confirming6:
		d.AddOption(m.identity(m.held.addr))
	}
	if m.state != confirming6 {
		d.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList,
			dhcpv6.OptionInformationRefreshTime))
	}
	m.sent, m.retry = now, now.Add(fuzz(m.rand, m.wait, 10))
	m.out = append(m.out, send6{d})
}

func (m *machine6) message(now time.Time, kind dhcpv6.MessageType) *dhcpv6.Message {
	d := &dhcpv6.Message{MessageType: kind, TransactionID: m.xid}
	d.AddOption(dhcpv6.OptClientID(duid(m.mac)))
	d.AddOption(dhcpv6.OptElapsedTime(min(max(now.Sub(m.begun), 0), 600*time.Second)))
	return d
}

// duid is the client's identifier, the same as in clientID.
func duid(mac MAC) dhcpv6.DUID {
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr(mac[:])}
}

func (m *machine6) identity(a netip.Addr) *dhcpv6.OptIANA {
	ia := &dhcpv6.OptIANA{IaId: [4]byte(m.mac[2:])}
	if a.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice()})
	}
	return ia
}

// learn takes what comes beside an address.
func (m *machine6) learn(d *dhcpv6.Message) {
	m.dns, m.domains = nil, nil
	for _, ip := range d.Options.DNS() {
		if a := addrFrom(ip); a.Is6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && len(m.dns) < 8 {
			m.dns = append(m.dns, a)
		}
	}
	if l := d.Options.DomainSearchList(); l != nil {
		m.domains = appendDomains(nil, l.Labels...)
	}
}

// leased reads the address of our identity association, if there is one that a
// host can have.
func (m *machine6) leased(d *dhcpv6.Message, server dhcpv6.DUID) (lease6, bool) {
	for _, ia := range d.Options.IANA() {
		if ia.IaId != [4]byte(m.mac[2:]) || ia.Options.Status() != nil && ia.Options.Status().StatusCode != iana.StatusSuccess {
			continue
		}
		for _, o := range ia.Options.Addresses() {
			a := addrFrom(o.IPv6Addr)
			valid, preferred := o.ValidLifetime, o.PreferredLifetime
			if !isHost6(a) || valid < minLease6 || preferred > valid {
				continue
			}
			l := lease6{addr: a, server: server}
			if preferred == 0 {
				preferred = valid
			}
			t2 := ia.T2
			if t2 <= 0 || t2 >= preferred {
				t2 = preferred / 5 * 4
			}
			t1 := ia.T1
			if t1 <= 0 || t1 >= t2 {
				t1 = t2 / 8 * 5
			}
			if valid < forever {
				l.valid = m.sent.Add(valid)
			}
			if preferred < forever {
				l.preferred, l.renew, l.rebind = m.sent.Add(preferred), m.sent.Add(max(t1, minRenew)), m.sent.Add(max(t2, minRenew))
			}
			return l, true
		}
	}
	return lease6{}, false
}

// isHost6 reports whether a server may give a to a host.
func isHost6(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.IsGlobalUnicast()
}
