package netlink

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/noise"
)

// What a test of the whole agent, which knows the packages above this one, borrows
// from the tests within.

// LeaseAmongNoise has the ISP give an address, amid replies that are nearly right. It
// returns the address, and counts what it sends.
func LeaseAmongNoise(t testing.TB, i *isptest.ISP) (netip.Addr, *atomic.Int64) {
	n := noise.New(t)
	i.Inside("ip", "address", "add", simServer.String()+"/24", "dev", "isp0")
	var sent atomic.Int64
	serve(t, i, func(d *dhcpv4.DHCPv4) [][]byte {
		var out [][]byte
		// What comes before the right answer fits into a socket's buffer.
		noisy := func(many int) {
			for many += len(out); len(out) < many; {
				b := noisyReply(n, d.TransactionID, MAC(d.ClientHWAddr))
				r, err := parseReply(b, MAC(d.ClientHWAddr))
				if err != nil || r.kind == dhcpv4.MessageTypeOffer || r.server != simServer { // else it is the server's word
					out = append(out, b)
				}
			}
		}
		renewal := d.MessageType() == requestType && addrFrom(d.ClientIPAddr) == simAddr
		if renewal {
			noisy(100)
		}
		for _, r := range pool(simAddr)(d) {
			r.xid, r.t1, r.t2, r.time = d.TransactionID, time.Second, 9*time.Minute, 10*time.Minute
			out = append(out, encodeReply(r, MAC(d.ClientHWAddr)))
		}
		if renewal {
			noisy(1000)
		}
		sent.Add(int64(len(out)))
		return out
	})
	return simAddr, &sent
}

// NewISP6 is newISP6.
func NewISP6(t testing.TB) *isptest.ISP { return newISP6(t) }

// AdvertiseAmongNoise returns what sends an advertisement of 2001:db8:1::/64, and what
// sends one that is nearly right.
func AdvertiseAmongNoise(t testing.TB, i *isptest.ISP) (router, nearly func()) {
	n, r := noise.New(t), routerOf(t, i)
	return func() { r.say(routerA, 7200, nil, prefixP) }, func() {
		if err := r.tap.Send(noisyAdvertisement(n), MAC{0x33, 0x33, 0, 0, 0, 1}); err != nil {
			t.Fatal(err)
		}
	}
}
