// Package testbed builds a small Internet on one machine and puts Flexphone's
// binaries on it: an Internet service provider, a storing server, phones,
// telephones of other makers, and strangers that say what no telephone would.
//
// Every host is a network namespace of its own, joined by a bridge in the
// provider's namespace:
//
//	              the provider: bridge, router, dnsmasq
//	 ┌───────────────┬────────────┬─────────────┬──────────────┐
//	storing server   phone 101    phone 102     fixed IP phone
//	203.0.113.10     (a lease)    (a lease)     203.0.113.20
//
// The provider is the real dnsmasq, the phones and the storing server are the
// real binaries, run as a user runs them and driven through `flexphone ctl`.
// What a test learns of them it learns from their events, from the storing
// server's rows and from the sound that a phone played.
//
// The package knows nothing of how a phone works inside; it imports nothing of
// the phone but the measuring of sound (audio/audiotest, audio/wav).
//
// # Why everything happens inside one enclosure
//
// Enclose runs the program again as the first process of a user, process,
// mount and network namespace. No root is needed, nothing outside can be
// touched, and nothing outlives it: when the first process of a process
// namespace ends, however it ends, the kernel ends all the others, and the
// namespaces and mounts go with the last of them.
package testbed
