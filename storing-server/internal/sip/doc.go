// Package sip lets standard SIP phones, whose addresses never change or which
// know nothing of our protocol, register and call by number: it is a registrar
// and a redirect server (RFC 3261, sections 8.3 and 10).
//
// It knows REGISTER, INVITE and OPTIONS, digests (RFC 3261 section 22, RFC 7616
// and RFC 8760), and symmetric responses (RFC 3581). It refuses to know calls:
// an INVITE is answered with where the phone is now, and the rest is between
// the two phones. What a message has to look like is sipcheck's to know.
//
// # Why
//
// It is stateless in the sense of RFC 3261, section 8.2.7: every datagram is
// answered from what it says and what the rows say, and a request that comes
// again is answered again. So a flood costs no memory, and nothing has to be
// bounded but the rate. There are no provisional responses, ACK and CANCEL need
// no answer, and the tag of To is a function of the request.
//
// Whose registration is newer is decided by package store, in the same batch
// that writes it: by CSeq within a Call-ID, and between two by when their
// nonces were issued. A nonce says when that was, and is signed; so a nonce
// serves as the registrar's own clock, which a delayed datagram cannot put
// forward, and a phone that was restarted gets a new one in its first answer.
package sip
