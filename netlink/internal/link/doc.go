// Package link is a network interface as the kernel knows it: its state, hints that
// something changed, and packet sockets on it (rtnetlink(7), packet(7)). It knows
// Ethernet, and of what is sent there the checksums alone; it refuses to know
// addresses, and who wants them.
//
// # Why hints
//
// A netlink message only says that something may have changed. State is read again
// after each one, so a message lost to a full buffer costs nothing.
package link
