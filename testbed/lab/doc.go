// Package lab builds the places where DHCP clients are tried: a cable between
// two network namespaces, who provides addresses at its far end, and who wants
// one at its near end.
//
// It knows veth(4), network_namespaces(7), and how Debian's DHCP clients and
// servers are started without touching the host: in namespaces, with a
// configuration and a state of their own, without their scripts, hooks and
// daemons. What a client did is read from the kernel, the same for all of them.
// It refuses to know what a lease is or who is right.
//
// # Why one process
//
// A network namespace belongs to a thread. A goroutine that is locked to a
// thread there can open what it likes, start programs there, and run beside a
// hundred others; no program needs to be started for a namespace itself. The
// process that holds them all was started once in a user namespace (Command),
// so that neither root is needed nor a trace left.
package lab
