// Package prefer chooses among interfaces: it is a Source that tells the events of the
// best of several which has an address, such as Ethernet before Wi-Fi. It knows who is
// better and for how long, and refuses to know how each comes to its address.
//
//	election.go  who is used, without I/O and without a clock: (now, input) → events
//	prefer.go    runs that over real Sources
package prefer
