package netlink

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/arp"
)

const (
	discoverType = dhcpv4.MessageTypeDiscover
	requestType  = dhcpv4.MessageTypeRequest
	declineType  = dhcpv4.MessageTypeDecline
	releaseType  = dhcpv4.MessageTypeRelease
)

func TestLeaseOfAFreshPhone(t *testing.T) {
	s := newSimulation(t)
	s.server = pool(simAddr)
	s.plug()
	if s.run(holdForProbe - 1); len(s.events) > 0 {
		t.Error("bound before the probe could be answered")
	}
	if want := []time.Time{s.now.Add(1 - holdForProbe)}; !slices.Equal(s.granted, want) {
		t.Errorf("granted at %v; want %v: what else it takes begins while it is probed", s.granted, want)
	}
	s.run(1)
	e := s.want(Bound)[0]
	if l := e.Lease; l.Prefix != netip.PrefixFrom(simAddr, 24) || l.Router != simServer || !slices.Equal(l.StoringServers, []string{"storing.example"}) ||
		l.MAC != simMAC || l.Interface != "eth0" || l.Server != simServer || l.Expiry.Sub(l.Start) != time.Hour {
		t.Errorf("lease is %+v", l)
	}
	if !s.kernel[e.Lease.Prefix] || s.stored.Prefix != e.Lease.Prefix {
		t.Errorf("kernel has %v, stored is %v", s.kernel, s.stored.Prefix)
	}
	for _, d := range s.sent {
		for _, code := range []dhcpv4.OptionCode{
			dhcpv4.OptionTFTPServerName, dhcpv4.GenericOptionCode(160), dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionIPAddressLeaseTime,
			dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionClasslessStaticRoute,
		} {
			if !d.IsOptionRequested(code) {
				t.Errorf("%v does not ask for option %v", d.MessageType(), code)
			}
		}
		for _, code := range []dhcpv4.OptionCode{ // of no use to a phone
			dhcpv4.OptionHostName, dhcpv4.OptionNTPServers, dhcpv4.OptionBootfileName, dhcpv4.OptionVendorSpecificInformation,
		} {
			if d.IsOptionRequested(code) {
				t.Errorf("%v asks for option %v", d.MessageType(), code)
			}
		}
	}
	if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{discoverType, requestType}) {
		t.Errorf("sent %v", got)
	}
	s.run(10 * time.Second)
	a := sendProbe{simAddr}
	b := sendAnnounce{simAddr}
	if want := []any{a, b, a, a, b, b}; !slices.Equal(s.arp, want) {
		t.Errorf("ARP is %v; want %v", s.arp, want)
	}
}

func TestRenewal(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	s.run(l.Renew.Sub(s.now))
	r := s.want(Renewed)[0].Lease
	if !r.Start.Equal(l.Renew) || r.Expiry.Sub(r.Start) != time.Hour {
		t.Errorf("renewed at %v until %v", r.Start, r.Expiry)
	}
	if len(s.sent) != 1 || s.unicast[0] != simServer || addrFrom(s.sent[0].ClientIPAddr) != simAddr ||
		s.sent[0].Options.Has(dhcpv4.OptionServerIdentifier) || s.sent[0].Options.Has(dhcpv4.OptionRequestedIPAddress) {
		t.Errorf("sent %v to %v", s.sent, s.unicast)
	}
}

func TestRebindingAcceptsAnotherServer(t *testing.T) {
	s := newSimulation(t)
	l := s.bind()
	other := netip.MustParseAddr("192.0.2.2")
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		r.server = other
		return []reply{r}
	}
	s.run(l.Rebind.Sub(s.now) - 1)
	s.want()
	s.run(1)
	if r := s.want(Renewed)[0].Lease; r.Server != other {
		t.Errorf("server is %v", r.Server)
	}
}

func TestStoredLease(t *testing.T) {
	for _, tt := range []struct {
		name   string
		age    time.Duration
		server func(*dhcpv4.DHCPv4) []reply
		want   []EventKind
		sent   []dhcpv4.MessageType
	}{
		{"confirmed", time.Minute, pool(simAddr), []EventKind{Bound}, []dhcpv4.MessageType{requestType}},
		{"refused", time.Minute, pool(simNext), []EventKind{Bound}, []dhcpv4.MessageType{requestType, discoverType, requestType}},
		{"no server", time.Minute, nil, []EventKind{Bound}, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType, requestType}},
		{"expired, no server", 2 * time.Hour, nil, nil, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType, discoverType}},
		{"from the future, no server", -time.Hour, nil, nil, []dhcpv4.MessageType{requestType, discoverType, discoverType, discoverType, discoverType}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			l := s.bind()
			s = newSimulation(t)
			s.server = tt.server
			s.now = l.Start.Add(tt.age)
			s.m.start(l)
			s.plug()
			s.run(12 * time.Second)
			s.want(tt.want...)
			if got := s.kinds(); !slices.Equal(got, tt.sent) {
				t.Errorf("sent %v; want %v", got, tt.sent)
			}
		})
	}
}

// The address that a phone had is probed while its server is asked: whoever has it now
// is heard before or after the server has answered, and a free one is used as soon as
// both have had their time.
func TestStoredAddressIsProbedMeanwhile(t *testing.T) {
	taken := arp.Claim{From: MAC{2, 0, 0x5e, 0, 0x53, 0xee}, Addr: simAddr}
	for _, tt := range []struct {
		name    string
		claims  time.Duration // from the REQUEST; 0: nobody does
		answers time.Duration // of the server, from the REQUEST
		bound   time.Duration // from the REQUEST; 0: not at this address
	}{
		{"a quick server", 0, holdForProbe / 2, holdForProbe},
		{"a slow server", 0, 20 * time.Millisecond, 20 * time.Millisecond},
		{"somebody has it, a quick server", holdForProbe * 3 / 4, holdForProbe / 2, 0},
		{"somebody has it, a slow server", holdForProbe / 2, 20 * time.Millisecond, 0},
	} {
		s := newSimulation(t)
		l := s.bind()
		s = newSimulation(t)
		s.now = l.Start.Add(time.Minute)
		s.m.start(l)
		begun := s.now
		s.plug()
		if want := []any{sendProbe{simAddr}}; !slices.Equal(s.arp, want) {
			t.Errorf("%s: ARP is %v with the REQUEST; want %v", tt.name, s.arp, want)
		}
		at := func(d time.Duration, in any) {
			s.run(begun.Add(d).Sub(s.now))
			s.give(in)
		}
		answer := received{goodReply(dhcpv4.MessageTypeAck, simAddr)}
		answer.reply.xid = s.m.xid
		switch {
		case tt.claims == 0:
			at(tt.answers, answer)
		case tt.claims < tt.answers:
			at(tt.claims, taken)
			at(tt.answers, answer)
		default:
			at(tt.answers, answer)
			at(tt.claims, taken)
		}
		s.run(begun.Add(time.Second).Sub(s.now))
		if tt.bound == 0 {
			if s.want(); !slices.Contains(s.kinds(), declineType) {
				t.Errorf("%s: sent %v; want a DECLINE", tt.name, s.kinds())
			}
			continue
		}
		if e := s.want(Bound)[0]; e.At.Sub(begun) != tt.bound {
			t.Errorf("%s: bound after %v; want %v", tt.name, e.At.Sub(begun), tt.bound)
		}
	}
}

func TestNetworkForIPv6Alone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		onlySix bool
		want    []EventKind
	}{
		{"and a phone that has it", true, nil},
		{"and a phone without", false, []EventKind{Bound}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			s.m.onlySix = tt.onlySix
			s.server = func(d *dhcpv4.DHCPv4) []reply {
				if d.IsOptionRequested(dhcpv4.GenericOptionCode(optOnlySix)) != tt.onlySix {
					t.Error("the option is asked for by the wrong one")
				}
				out := pool(simAddr)(d)
				for i := range out {
					out[i].onlySix = minOnlySix
					if tt.onlySix { // a server may have none to offer (RFC 8925 §3.3)
						out[i].yours = netip.IPv4Unspecified()
					}
				}
				return out
			}
			s.plug()
			s.run(minOnlySix - time.Second)
			s.want(tt.want...)
			if tt.onlySix && len(s.sent) != 1 {
				t.Errorf("sent %v", s.kinds())
			}
			if s.run(2 * time.Second); tt.onlySix && len(s.sent) != 2 {
				t.Errorf("after the wait sent %v", s.kinds())
			}
		})
	}
}

func TestOfferThatLeadsToNothing(t *testing.T) {
	s := newSimulation(t)
	rogue := netip.MustParseAddr("192.0.2.66")
	s.server = func(d *dhcpv4.DHCPv4) []reply { // its offer is always first
		offer := goodReply(dhcpv4.MessageTypeOffer, simNext)
		offer.server = rogue
		switch id := addrFrom(d.ServerIdentifier()); {
		case d.MessageType() == discoverType:
			return append([]reply{offer}, pool(simAddr)(d)...)
		case id == simServer:
			return pool(simAddr)(d)
		}
		return nil
	}
	s.plug()
	s.run(5 * time.Second)
	if e := s.want(Bound)[0]; e.Lease.Server != simServer {
		t.Errorf("bound by %v", e.Lease.Server)
	}
}

// TestSlowServer: the only server takes seven seconds to acknowledge. It gets the
// time once it is clear that there is no other.
func TestSlowServer(t *testing.T) {
	s := newSimulation(t)
	var asked []*dhcpv4.DHCPv4
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		if d.MessageType() == discoverType {
			return pool(simAddr)(d)
		}
		asked = append(asked, d)
		return nil
	}
	s.plug()
	for range 60 {
		s.run(time.Second)
		for _, d := range asked {
			r := pool(simAddr)(d)[0]
			if r.xid = d.TransactionID; s.m.state == stateRequesting && s.m.xid == r.xid && s.now.Sub(s.m.begun) > 7*time.Second {
				s.give(received{r})
			}
		}
	}
	s.want(Bound)
}

func TestKernelThatRefuses(t *testing.T) {
	s := newSimulation(t)
	s.failing = errors.New("no memory")
	s.server = pool(simAddr)
	s.plug()
	s.run(time.Minute)
	s.want()
	if n := len(s.sent); n > 20 {
		t.Errorf("%d messages in a minute", n)
	}
	s.failing = nil
	s.run(2 * maxRetry)
	s.want(Bound)
}

func TestRapidCommit(t *testing.T) {
	s := newSimulation(t)
	s.server = func(d *dhcpv4.DHCPv4) []reply {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		r.rapid = d.Options.Has(dhcpv4.GenericOptionCode(optRapidCommit))
		return []reply{r}
	}
	s.plug()
	s.run(time.Second)
	s.want(Bound)
	if got := s.kinds(); !slices.Equal(got, []dhcpv4.MessageType{discoverType}) {
		t.Errorf("sent %v", got)
	}
}

func TestLeaseTimes(t *testing.T) {
	s := newSimulation(t)
	for _, d := range []time.Duration{time.Second, 2 * time.Second, time.Minute, 24 * time.Hour, forever - time.Second} {
		for _, t1 := range []time.Duration{0, time.Second, d / 2, d, 2 * d} {
			for _, t2 := range []time.Duration{0, time.Second, d / 2, d, 2 * d} {
				r1, r2 := leaseTimes(s.m.rand, d, t1, t2)
				if r1 <= 0 || r1 >= r2 || r2 >= d {
					t.Errorf("leaseTimes(%v, %v, %v) = %v, %v", d, t1, t2, r1, r2)
				}
			}
		}
	}
}

// TestUserClass: option 77 of DISCOVER and REQUEST (RFC 3004), each class with
// its length before it.
func TestUserClass(t *testing.T) {
	s := newSimulation(t)
	s.m.userClass = "desk"
	s.server = pool(simAddr)
	s.plug()
	for _, d := range s.sent {
		if got := string(d.Options[77]); got != "\x04desk" {
			t.Errorf("%v says %q", d.MessageType(), got)
		}
	}
	if len(s.sent) != 2 {
		t.Errorf("sent %v", s.kinds())
	}
}
