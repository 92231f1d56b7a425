// Package netlink keeps a phone's address: it leases one, follows one that
// somebody else leases, or holds a fixed one, and tells what changed as lease
// events.
//
// It knows DHCPv4 (RFC 2131, options of RFC 2132, 3396, 3442, 4361), rapid
// commit (RFC 4039), address conflict detection (RFC 5227), rtnetlink(7) and
// packet(7). It refuses to know what an address is good for: it registers
// nothing, resolves nothing, and never looks at a storing server beyond handing
// on the name that the network gave.
//
// # Shape
//
//	machine.go   the DHCP client, without I/O and without a clock: (now, input) → actions
//	loss.go      how it loses an address
//	timing.go    every interval, and every rule about time
//	packet.go    bytes from the network → reply, or an error; our validation over the codec
//	lease.go     the types others see
//	client_linux.go  runs the machine: sockets, timer, kernel
//	watch.go     the watcher's core; watch_linux.go runs it
//	kernel_linux.go  the only file that changes addresses and routes
//
// # Why a DHCP client of our own
//
// The phone must be reachable within milliseconds of getting another address,
// and must not be led astray by what is on the wire. Common clients need tens
// of milliseconds to seconds for a new address, some never notice that the
// cable moved to another network, and most install what a broken server offers.
// The codec is github.com/insomniacslk/dhcp/dhcpv4; its options are read by our
// own rules, since it accepts a lease of no time and a broadcast address, does
// not know option overload, and refuses a packet without an End option.
//
// # Why a packet socket
//
// A NAK is broadcast, and an ACK may go to an address that is not installed
// yet: a UDP socket sees neither reliably. A packet socket with a filter for our
// hardware address and transaction wakes for nothing else, however busy the
// link is. It is closed while the lease needs nothing. UDP only sends the
// unicast messages, so that the kernel resolves the next hop. What a UDP socket
// would do is done here: the kernel puts fragments together (the packet socket
// is a fanout group of its own), and a packet whose UDP checksum is wrong is
// dropped, unless the kernel says that hardware was to fill it in, as on a
// virtual link.
//
// # Why the address is probed while it is requested
//
// RFC 5227 probes for up to seven seconds before an address is used. A host
// that holds the address answers within a millisecond or two, so the first
// probe leaves together with the REQUEST and the address waits holdForProbe for
// an answer. Two more probes follow after it was installed; an answer to them
// takes it away again.
//
// # Why Lost comes late
//
// A cable that is unplugged and plugged again within half a second, or a server
// that refuses one address and gives another, must not end calls or withdraw a
// registration. So Lost waits: linkGrace for a carrier, replaceGrace for
// another address. An address that expired is lost at once.
//
// # Why hints
//
// A netlink message only says that something may have changed. State is read
// again after each one, so a message lost to a full buffer costs nothing.
package netlink
