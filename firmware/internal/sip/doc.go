// Package sip sets up, changes and ends calls between phones.
//
// It knows SIP as a user agent needs it: the core, when an offer and an answer
// are due, and how to find out that the phone at an address is the one that was
// meant (RFC 3261, 3262, 3264, 3311, 3581, 4028, 4475, 5621, 6026). Calls to our own phones go
// over TLS 1.3, both ends presenting their device certificate and the caller
// insisting on the key that the storing server's row names. Calls to other phones
// go over UDP, or TCP when a request is too long for it.
//
// It refuses to know media (descriptions of them are the bytes of a LocalMedia),
// the storing server (it is given an address), the user (it reports events) and
// proxies, registrars and forking servers: a phone calls a phone.
//
// # Why our own dialogs
//
// Transport, parsing and transactions are emiago/sipgo's. Its dialogs answer
// neither a CANCEL that crosses a 200, nor a late or second 200, nor glare, nor
// a target that moves, so dialog.go keeps the dialog state and call.go drives
// it. Each call is one goroutine which alone owns the call's state; requests,
// responses, timers and the methods of Call all reach it through one mailbox.
//
// # Why our own TLS connections
//
// Which key a connection must end at differs from call to call, so the
// connections are made here, checked here, and only then handed to sipgo's
// transport as if they had been accepted. sipgo itself never dials TLS. One stays
// for two minutes after its last call, and takes the next call to or from the same
// key (keep.go); Prepare makes one for a call that is about to be.
//
// A phone that cannot be reached at its address, behind a NAT for instance, is connected
// with by a Relay, which the two phones need not trust: the same TLS, to the same key,
// over what is a net.Conn (relay.go). Both ways are tried, the relay later, and the first
// to shake hands is it (race.go). To sipgo, which finds connections by their addresses,
// a relayed one has one that nobody else can have.
//
// # Bodies are bytes
//
// What two phones tell each other about their media goes through here unread. A
// LocalMedia writes it and reads it, and what was agreed is only compared, and
// handed on. A description may lie among other things in a body of several parts:
// finding it is a matter of messages, and done here (body.go).
//
// # Why a screen
//
// Before sipgo reads a message, sipcheck does (screen.go): what is none is
// answered as RFC 4475 wants it instead of being dropped, what is odd in form is
// written plainly, what another host says in a peer's name goes no further, and of
// what is too much nothing is kept. Calls over TLS have room of their own, and so
// have, among them, those of phones that are known by their key (known.go), so that
// neither a flood of packets nor one of certificates keeps them out.
//
// # What other phones ask for
//
// Of what a peer may require we can do what costs nobody anything who does not:
// responses that are acknowledged before the call is taken (reliable.go), and
// sessions that end unless they are refreshed (session.go), of which we never want
// any. A plain call follows a redirection (redirect.go), to TLS as well; a call by
// key follows none, since its row says where the phone is.
//
// # When an address changes
//
// Each request looks up anew from which address the kernel would send it, so
// that Update and Hangup work from an address that the call has never seen. A
// secure connection whose own address is gone, that has broken, or whose other
// end has acknowledged nothing for some seconds, is replaced by a new one to
// the same key, and a request that was lost in it is sent once more. The peer's
// new place is taken from its re-INVITE or UPDATE, or from Retarget when its
// row knew first; either cuts short an Update that waits at the old place.
//
// An ACK has no response that would tell of its loss, and the 2xx that asks for it again
// comes over the INVITE's connection or not at all. So as long as the peer may repeat it,
// an ACK that has had no way looks for one, and one whose connection breaks is sent anew by
// another (ack.go).
//
// While a call rings nothing is sent, so that neither end would hear that the other is cut
// off. It is asked then: by the kernel over TCP, and by the relay, where each question is two
// messages, for as long as one waits for the other. In a call sound tells.
package sip
