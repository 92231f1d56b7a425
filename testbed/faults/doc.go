// Package faults is a DHCP server that is wrong in every way we know of, and
// the table of what a client should make of it.
//
// It knows DHCPv4 on the wire (RFC 951, 2131, 2132, 3396, 3442, 4039, 5227, 6704)
// and what these ask of a client when a server does not keep to them. It builds
// on the codec github.com/insomniacslk/dhcp/dhcpv4, and on bytes where the codec
// would forbid what a fault needs. It judges a client by what it sends and by
// what the kernel holds, never by what it says of itself, so that any client
// can be tried. It refuses to know which client that is.
//
// # How a fault is shown
//
// Most cases say something wrong and at once something right. The wrong reply
// carries a mark: an address or a prefix length that the right one has not. A
// client survives when it ends with what is right, and never held what bears
// the mark. So no case needs to wait for what should not happen, but those that
// are about time.
package faults
