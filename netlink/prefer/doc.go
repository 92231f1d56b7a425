// Package prefer chooses among interfaces: it is a Source that tells the events of the
// best of several which has an address, such as Ethernet before Wi-Fi. It knows who is
// better and for how long, and refuses to know how each comes to its address.
//
//	election.go  who is used, without I/O and without a clock: (now, input) → events
//	prefer.go    runs that over real Sources
//
// # Why an interface with an address is left
//
// A router that lives is no way to anywhere: the line behind it may be dead while it goes
// on giving leases. Nothing on the link shows that. So who needs something says when it is
// not reached (netlink.Unreached), and when it is (netlink.Reached). After half a minute of
// doubt, longer than a server takes to start anew, another interface is used and the first
// one's routes are put behind it; without that the packets would go on leaving by it. It is
// tried again after five minutes, then ten, up to an hour, and left at the first doubt:
// calls outlive a move, but nobody reaches a phone that flaps. Where nothing is reached
// through any, the server is to blame, and all are as good as they were once it is back.
package prefer
