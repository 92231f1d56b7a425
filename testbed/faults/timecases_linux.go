package faults

import (
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// calmly is how long a client is watched for a storm of messages.
const calmly = 4 * time.Second

func leaseTime(n uint32) change {
	return setOption(dhcpv4.OptionIPAddressLeaseTime, seconds(n)...)
}

func leaseTimes(lease, t1, t2 uint32) change {
	return edit(func(d *dhcpv4.DHCPv4) {
		set(d, dhcpv4.OptionIPAddressLeaseTime, seconds(lease))
		set(d, dhcpv4.OptionRenewTimeValue, seconds(t1))
		set(d, dhcpv4.OptionRebindingTimeValue, seconds(t2))
	})
}

func timeCases() []Case {
	return []Case{
		{"lease of 0 s", "offers and acknowledges no time at all", "discard it: there is no lease (RFC 2131 §3.3)", badOffer(leaseTime(0))},
		{"ACK of 0 s", "offers an hour, acknowledges nothing", "discard it: there is no lease (RFC 2131 §3.3)", badAck(leaseTime(0))},
		{"lease time cut", "sends three bytes of option 51", mustTime, badOffer(setOption(dhcpv4.OptionIPAddressLeaseTime, 0, 14, 16))},
		{"lease time absent", "omits option 51", mustTime, badOffer(dropOption(dhcpv4.OptionIPAddressLeaseTime))},
		{"ACK's lease time absent", "omits option 51 from ACKs", mustTime, badAck(dropOption(dhcpv4.OptionIPAddressLeaseTime))},
		{"lease of 1 s", "leases for one second", "keep it by a few REQUESTs (RFC 2131 §4.4.5)", hasty(sparing(calmly, 14, leaseTime(1)))},
		{"lease of 2 s", "leases for two seconds", "keep it by a few REQUESTs, without a gap (RFC 2131 §4.4.5)", hasty(calm(calmly, 10, leaseTime(2)))},
		{"lease for ever", "leases for 0xffffffff seconds", "never renew it (RFC 2131 §3.3)", calm(calmly, 0, leaseTime(0xffffffff))},
		{"lease of a century", "leases for 0x7fffffff seconds", "take it: no overflow", calm(calmly, 0, leaseTime(0x7fffffff))},
		{"lease almost for ever", "leases for 0xfffffffe seconds", "take it: no overflow", calm(calmly, 0, leaseTime(0xfffffffe))},
		{"T1 > T2", "says T1 3000 s, T2 2000 s", "take the lease; T1 MUST be before T2 (RFC 2131 §4.4.5)", calm(calmly, 0, leaseTimes(3600, 3000, 2000))},
		{"T2 > lease", "says T1 4000 s, T2 5000 s of an hour", "take the lease; T2 MUST be before its end (RFC 2131 §4.4.5)", calm(calmly, 0, leaseTimes(3600, 4000, 5000))},
		{"T1 and T2 0", "says T1 0 s, T2 0 s of an hour", "take the lease, without a storm of renewals", calm(calmly, 4, leaseTimes(3600, 0, 0))},
		{"T1 and T2 1 s", "says T1 1 s, T2 1 s of an hour", "take the lease, without a storm of renewals", calm(calmly, 8, leaseTimes(3600, 1, 1))},
		{"T1 and T2 for ever", "says T1 and T2 0xffffffff s of an hour", "take the lease", calm(calmly, 0, leaseTimes(3600, 0xffffffff, 0xffffffff))},
		{"T1 cut", "sends two bytes of option 58", "take the lease; T1 by default (RFC 2131 §4.4.5)", calm(calmly, 0, setOption(dhcpv4.OptionRenewTimeValue, 0, 1))},
	}
}
