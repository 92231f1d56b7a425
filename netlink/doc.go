// Package netlink keeps a phone's address: it leases one, follows one that
// somebody else leases, or holds a fixed one, and tells what changed as lease
// events.
//
// It knows DHCPv4 (RFC 2131, options of RFC 2132, 3396, 3397, 3442, 4361),
// rapid commit (RFC 4039), IPv6-only networks (RFC 8925), address conflict
// detection (RFC 5227), network attachment (RFC 4436), DHCPv6 (RFC 8415), name
// servers in router advertisements (RFC 8106), rtnetlink(7) and packet(7). It refuses
// to know what an address is good for: it registers nothing, resolves nothing, and never
// looks at a storing server beyond handing on the name that the network gave.
//
// # Shape
//
//	machine.go   the DHCP client, without I/O and without a clock: (now, input) → actions
//	exchange.go  how it comes to a lease; holding.go: to hold its address; loss.go: to lose it
//	suspicion.go who answers for every address, and is not believed about ours
//	timing.go    every interval, and every rule about time
//	clock_linux.go  the time by which a lease runs out, sleep included
//	packet.go    bytes from the network → reply, or an error; our validation over the codec
//	options.go   the table of options, a row each; values.go how their values are read
//	request.go   what is sent
//	lease.go     the types others see
//	client_linux.go  runs the machine; client_sockets_linux.go sends for it
//	watch.go     the watcher's core; watch_linux.go runs it
//	hearsay.go   what routers say, and which of them still do
//	agent6.go    all that is done about IPv6, without I/O and without a clock; six_linux.go runs it
//	six.go       its part that joins IPv6 with a lease; dhcp6.go, message6.go that which is the DHCPv6 client
//	connections_linux.go  ends what is connected from an address that is gone
//	kernel_linux.go, kernel6_linux.go  the only files that change addresses and routes
//
// In the cellar: internal/link is an interface as the kernel knows it, internal/arp how
// addresses are claimed on it, internal/resolvconf the file of name servers,
// internal/moment arithmetic on deadlines, and internal/isptest the other end of the
// cable in tests.
//
// Packages over Source are made of Sources: prefer chooses the best of several, voice
// runs one on the VLAN where telephones belong, linklocal has an address of our own
// while nobody gives one. prefer.New(voice.OnVLAN(eth0, WithIPv6(NewClient)),
// WithIPv6(NewClient of wlan0)) is an office phone with a Wi-Fi to fall back on. They
// import this package, and it knows none of them.
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
// that holds the address answers within a millisecond, so the first
// probe leaves together with the REQUEST and the address waits holdForProbe for
// an answer. Two more probes follow after it was installed; an answer to them
// takes it away again.
//
// # Why a lease is kept, and asked about
//
// A phone that is plugged in behind a switch whose port is closed for half a minute,
// or that has its power back before the server, uses the address it had: likely it
// is still its own. It goes on asking, for that address and in turn for any, until
// somebody confirms, replaces or refuses it, and tells meanwhile that the lease is
// doubtful, so that an interface whose lease is not comes first. The same is done
// when the storing server is out of reach (Doubt): a cable need not be out for the
// network behind it to be another one.
//
// # Why an address in use is not given up
//
// Who had only to say twice that an address is his could silence every phone. So
// one that was probed and is in use is defended and kept (RFC 5227 §2.4 c), and who
// answers the first probes is asked for addresses that nobody has: if he has those
// as well he is a proxy, and has none of them.
//
// # Why Lost comes late
//
// A cable that is unplugged and plugged again within half a second, or a server
// that refuses one address and gives another, must not end calls or withdraw a
// registration. So Lost waits: linkGrace for a carrier, replaceGrace for
// another address. An address that expired is lost at once. One that was refused is
// not answered for meanwhile, since its next holder asks whether it is free: of two phones
// that get each other's at the same time each would decline it.
//
// # Why nothing waits at the start
//
// RFC 2131 §4.4.1 delays the first DISCOVER by up to ten seconds, and RFC 8415
// §18.2.1 the first Solicit by one, lest a street that gets its power back
// speaks in chorus. Phones do not start as one: their boots, switches and links
// differ by more than a server needs for all of them, and a phone that waits
// cannot be called. What is repeated is spread: every back-off by a quarter. What
// costs a server more than two packets, the first announcement of a phone that was
// switched on, is spread by registry-client.
//
// # Why the kernel's IPv6
//
// Router advertisements, SLAAC and duplicate detection are the kernel's; here
// its addresses are watched. It believes a router for hours after the cable
// went to another network, so what routers gave is removed when the carrier was
// away for linkGrace. It also uses the prefix of a router that came back with
// another one and said no goodbye (RFC 8978): so advertisements are heard here as
// well, the address of a prefix that its router left out is told last, and the
// kernel is told to begin nothing new from it.
//
// # Why a clock of our own
//
// A server's lease runs out while a machine sleeps, and Go's clock and timers
// stand still then. So the machine runs by CLOCK_BOOTTIME, and what others see is
// translated.
package netlink
