// Package finder finds the storing server: from what the settings or the network
// say of it, and from the DNS.
//
// It knows in which forms people and DHCP servers name a server (Parse), how the
// phone looks names up at the name servers of its lease (Resolver; RFC 1035, 2782,
// 6891), and which of what it knows goes before which (Finder). It refuses to know
// how a lease is got, and what is spoken with the server.
//
// # Why not the system's resolver
//
// Go's reads /etc/resolv.conf every five seconds, so that a phone which has just
// got its first address would wait for that long; and the file need not be ours
// at all. It asks a second server only after the first has been silent for five
// seconds.
//
// # Why nothing hides anything
//
// DHCP option 66 is a TFTP server in many networks, option 160 a web server for
// telephones of another make, and nothing in a bare host name tells. So what cannot
// be ours is left out, with a line in the log, and what may be is tried together
// with what the DNS says, in the order of how sure it is.
package finder
