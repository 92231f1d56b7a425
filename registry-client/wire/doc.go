// Package wire is what a phone and the storing server say to each other: its
// types, paths and encodings, with no behaviour beyond parsing and printing
// them, so that both sides may import it. It refuses to know sockets, sessions
// and time. This comment is the protocol's specification.
//
// # Transport
//
// CoAP (RFC 7252) over DTLS 1.2 (RFC 6347) on UDP, port 5684 unless said
// otherwise, with the cipher suite TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 and
// the extended master secret (RFC 7627). No message is longer than 1152 bytes
// and no body than 1024; block-wise transfer is not used.
//
// A ClientHello comes in one piece, and is answered with a HelloVerifyRequest
// until it brings the cookie of that: the server keeps nothing about a client
// that has not shown that it receives what is sent to its address.
//
// Both sides show certificates, Ed25519 (or ECDSA) and self-signed; the key is
// what counts. A phone's certificate names it as a URI in its subject
// alternative name: urn:dev:mac: and 16 lower-case hexadecimal digits, the
// EUI-64 made of its MAC by putting ffff into the middle (RFC 9039). The
// server's key is pinned by the phone when it sees it first. A key's
// fingerprint is the SHA-256 hash of its SubjectPublicKeyInfo.
//
// The client offers an empty connection ID and the server chooses one of 8
// bytes (RFC 9146): the session is kept when the phone's address changes, and
// the next record from the new address is enough. A client takes a new source
// port for each session. A server may end a session that was silent for ten
// minutes. A server that was restarted knows no session and says nothing to its
// records: a client that gets no answer to an empty confirmable message (a
// ping, answered with a reset) within two transmissions shakes hands anew. It asks
// whenever the word that it has asked for does not come (see Keep), and every
// four minutes or sooner.
//
// # Bodies
//
// CBOR (RFC 8949), Content-Format 60, in deterministic encoding: one map with
// small integers for keys. No tags, no indefinite lengths, no key twice; keys
// that are not known are skipped.
//
//	 1  MAC, 6 bytes, unicast
//	 2  addresses, preferred first: 1 to 8 byte strings of 4 or 16 bytes
//	 3  port of SIP over UDP and TCP; absent: none
//	 4  port of SIP over TLS 1.3; absent: none
//	 5  sequence number, 1 to 2^63-1
//	 6  lifetime in seconds, 1 to 31536000
//	 7  short number, text of 3 to 8 digits; absent: none
//	 8  fingerprint of the owner's key, 32 bytes; all zero: it has none
//	 9  when the row expires, in milliseconds since 1970 (UTC)
//	10  online, a boolean
//	11  since when it has been online or offline, as key 9
//	12  address that the server saw the datagram come from
//	13  and its port
//	14  one-time token for enrolment, 1 to 64 bytes of printable ASCII; absent: none
//	15  fingerprint of the key that owns the row from now on; absent: the present one
//	16  1 or 2 MACs, as key 1: whom the phone is in a call with; absent: nobody
//	17  the rows of those, each a map as the answer to Resolve; absent: none is known
//	18  how it can be reached: 1 directly, 2 it is behind a NAT, 3 by relayed links
//	    alone; absent: it takes no relayed links
//	19  UDP ports of the server's host: two of STUN and the relay's, each 0: none;
//	    absent: none of them
//	20  a storing server, as host:port; absent: this one
//	21  the fingerprint of its key, 32 bytes
//	22  a ticket: this server's word for the phone, 1 to 128 bytes; absent: none
//	23  padding, zeros, which nobody reads; absent: none
//	24  name of a relayed link, 8 bytes
//	25  what a message of it is: 1 open, 2 data, 3 close
//	26  number of the first of its bytes in its sender's stream; absent: 0
//	27  bytes, at most 900; absent: none
//	28  all bytes of the receiver's stream before this number have come; absent: 0
//	29  and those before this number may be sent; absent: 0
//	30  why it is closed: 1 done, 2 refused, 3 there is no such link, 4 left
//	    without regard to what is on its way
//	31  name of who calls from a browser, or is called there, 1 to 40 printable characters
//	32  session description of the browser, or of the phone; at most 7000 bytes
//	33  what the page has drawn for this call, 32 bytes
//	34  the phone's key, a SubjectPublicKeyInfo
//	35  a signature by that key
//	36  why the phone, or the browser, takes no call, at most 64 bytes
//	37  a pass: the name of a pair, 16 bytes, and its key, 16 bytes
//	38  a page of the browser is open, a boolean; absent: none is
//	40  1 to 8 calls, each an array of how it was heard: mean opinion score in
//	    hundredths (100 to 500), lost or late of a thousand packets, delay and jitter
//	    in milliseconds (at most 60000), length in seconds (at most 86400), and perhaps how its
//	    sound went: 1 directly, 2 through a NAT, 3 by a relay; absent: none
//	41  an address of the relay's, of the other family than the one that the phone has
//	    announced itself by; absent: none is known
//	42  33 of the offer that began a call, 32 bytes; absent: this is a new one
//
// Addresses are those of one host: not loopback, unspecified, multicast,
// reserved, IPv6 link-local or IPv4 mapped into IPv6, and none stands twice.
//
// # Announce
//
//	POST /rd            body: 1, 2, 3 and/or 4, 5, 6, perhaps 14 or 15, perhaps 16, 18, 23 and 40
//	2.01 or 2.04        body: 5, 7, 9, 12, 13, perhaps 17, perhaps 19, perhaps 20 and 21, perhaps 41
//
// The row with that MAC is replaced (2.04) or created (2.01), and is on the
// server's disk when the answer comes. The MAC must be the one that the
// certificate names; the first key that announces it owns the row; the sequence
// number must be higher than the row's. The same announcement again, to the
// letter, is answered again. The address of the datagram is never believed: it
// is returned, and that is all.
//
// The operator may ask for more than a key of who announces a MAC that nobody
// owns: a one-time token (14), or a certificate that the operator's authority
// has issued for the same MAC and key, shown with its chain in the handshake.
// Otherwise the answer is 4.03 with reason 4. A token that is not asked for is
// not looked at, and a phone shows it until its first receipt. A row whose key
// the operator has forgotten belongs to nobody.
//
// A key is changed by its owner: it announces, in its own session, the new
// key's fingerprint (15). From the receipt on the row belongs to the new key,
// which announces in a session of its own with a higher sequence number. If the
// receipt was lost, the same announcement is answered again.
//
// Who announces a move in a call names the other end (16): the answer tells where
// that is now (17), as a lookup would that is allowed to it. So each end finds the
// other in one round trip, also when both move at once: who was the first of them is
// notified of the other's row, which it observes. To an address that has not answered
// yet a server says at most three times what came from there, so that a phone makes this
// announcement as long as that takes (23). A server that does not know the keys leaves
// the answer out, and a phone looks up instead.
//
// A phone that is set to it tells how its calls since the last announcement were (40),
// the newest last, and neither whom they were with nor when. A call that cannot be read is left
// out, and of an array its first five numbers are read. Eight calls are a reason for an
// announcement. A server that does not know the key passes it over, and the answer is
// the same.
//
// # Regions
//
// Where one cluster of servers cannot keep all rows, each keeps those of a region:
// of ranges of MACs, and of the numbers that begin with certain digits. A server that
// is asked for a row of another region says which server keeps it (reason 9, with 20
// and 21). A client follows that once, to a server that shows that key. It shows there
// the ticket (22), if it got one, with each lookup, in the query by=, base64url: who
// owns no row there is answered by the word of the server where it does. A ticket is
// good for a day at least.
//
// A phone of another region that announces itself is told so, where it has no row, in
// a refusal (4.03, reason 9), and where it has one, in the receipt (20, 21): it stays
// here until the other server has taken the same announcement, and then releases
// itself here. A client that does not know these keys stays.
//
// A standard SIP phone announces nothing; it registers by SIP. Its row has
// neither port 4 nor fingerprint, and no key can own it.
//
// # Release
//
//	DELETE /rd?ep=urn:dev:mac:02005effff005301&seq=18
//	2.02
//
// The phone is offline from now on; owner and number stay. The sequence number
// must be higher than the row's.
//
// # Resolve
//
//	GET /rd-lookup/mac/02005e005301
//	GET /rd-lookup/number/101
//	GET /rd-lookup/addr/192.0.2.7
//	2.05                body: 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, perhaps 18, perhaps 31 and 38
//
// By address it is the phone that announced it last, of those online. The
// operator may answer only those who own a row, or nobody (reason 4), and
// limits how many lookups a client makes (reason 7). With the
// option Observe = 0 (RFC 7641) each change of the answer is notified, in a
// confirmable message with a token of the client's and a rising Observe number;
// changes that come while one is not acknowledged are told together, as the
// newest state. A 4.04 ends it. Observe = 1 or a reset ends it too. Our client
// uses tokens of 8 bytes.
//
// # Keep
//
//	GET /rd-knock?after=90      non-confirmable
//	2.05                        no body, non-confirmable, 90 seconds later
//
// The answer waits for so long (1 to 540 seconds). Where the client has sent nothing
// else meanwhile, it comes through if what is between, a NAT or a firewall, has kept
// the way for all that time, and the next question keeps it on. So a client learns how rarely it has
// to speak, and finds out a server that is gone, for two datagrams. A session has one
// such answer waiting, that to the newest question; a server that was restarted has
// forgotten it. Where there is no such path, a client pings.
//
// # Relayed links
//
//	POST /link          body: 1, 24, 25, perhaps 26 to 30
//
// A link carries two streams of bytes between two phones that may have no other
// way to each other. Each of its messages goes from a phone to its server, which
// puts the sender's MAC for the receiver's (1), checks and counts it, and passes it
// on in the receiver's session; beyond its limits it keeps nothing. All of them are
// non-confirmable and have the option No-Response = 2 (RFC 7967): only what is not
// passed on is answered, with 4.03 (the sender's row is not its key's, or the
// operator relays nothing), 4.04 (the receiver has no session here), or 4.29. A
// server that knows no links answers 4.04 with reason 0, and a phone that knows none
// resets the message; nobody begins a call by a link to a row without key 18.
//
// What is lost is the phones' matter. A link is opened by a name that its opener
// draws (25 = 1), with how much may be sent to it (29), again until something comes.
// Whoever takes it answers with data (25 = 2), which may have no bytes. Every message
// says what has come (28) and may come (29). Bytes that have not come in time are
// sent again from the first of them; those after a hole need not be kept. Who is
// done closes (25 = 3, 30 = 1) with the number after its last byte (26), again until it is
// answered with a close. A close with another reason ends the link at once. One with
// reason 3 is the answer to any message of a link that is not known, but to a
// close with another reason than 1.
// Bytes beyond the limit are dropped and answered: so a sender that may send none
// asks again. Bytes that have come before are dropped and answered as well: who wants to
// know whether the other end is there sends the last one that was acknowledged (RFC 9293,
// 3.8.4). Phones do so for a call that waits for its answer alone, the called one after 5 s of
// silence.
//
// # Browsers
//
// A storing server opens links of its own, for browsers, with MACs that begin with
// 06:62:72, which no phone can announce. Whom it lets call is its matter; a phone takes
// its word for that and for the name. In a link of a browser each end says one thing: 2
// bytes of length, and a map as in bodies.
//
//	browser to phone    31, 32, 33
//	phone to browser    32, 34, 35, or 36
//
// The descriptions are WebRTC's offer and answer (RFC 9429), with all candidates. The
// signature is of the text "flexphone browser call 1", a zero byte, 33, the SHA-256 hash
// of the offer, and that of the answer, each as it was sent. The page believes an answer
// if the hash of the key is the fingerprint in the row and the signature is the key's:
// so that who passes it on can put no other fingerprint into either description.
//
// All else goes directly, encrypted with the keys that these name: in the data channel 0,
// one word a message. The phone says ringing, answered, hold, retrieve, or ended and why,
// and the browser says hangup. Digits are telephone-events (RFC 4733).
//
// A page that has lost its way to the phone in a call, since either has moved to where none of
// those that there were leads, opens a link again, whoever has called, and offers again (ICE
// restart, RFC 8839, section 4.4.1.1.1):
//
//	browser to phone    32, 33, 42
//	phone to browser    32, 34, 35, or 36
//
// The text that is signed begins with "flexphone browser call again 1" there. There is no name, so
// that a phone which does not know of 42 refuses it; one that has no such call refuses it by
// hangup. DTLS goes on with the keys that it has.
//
// A browser that can be called has a row, with a number of its own, its MAC beginning
// with 06:62:72 and the name that it was given (31). While one of its pages is open 38 is
// true. It has no port, and for an address 192.0.0.8, at which nobody is (RFC 7600), and
// is never online by key 10: to a phone that does not know of browsers it is a phone that
// is not connected. Any phone that owns a row may call it: it opens a link to that MAC, and
// says nothing before the browser does. Each says one thing again, and the roles are
// the same whoever calls:
//
//	browser to phone    31, 32, 33, or 36
//	phone to browser    32, 34, 35, or 36
//
// The text that is signed begins with "flexphone call to a browser 1" there, and the page
// believes the answer by the row of the phone whose link it is. In the data channel the
// browser says ringing, answered, or ended and why, and then hangup; the phone says hold,
// retrieve, or ended and why.
//
// # Sound
//
// Key 19 of a receipt names ports at the address that the phone reaches the server by. Two
// answer STUN Bindings (RFC 8489): a phone asks both from the socket of a call's
// sound, since each NAT has its own way with sockets. The third is the relay's, for calls
// whose ends have no other way to each other:
//
//	POST /pair          no body
//	2.01                body: 37
//
// Who owns a row gets a pass, and hands it to the other phone by their signalling. Both
// show it to the relay, which forwards between the two (package internal/pass says how).
// Key 41 is where the relay is for a phone of the other family, that is at another server.
// 4.03 with reason 4: nothing is relayed; 4.29: too many pairs. A pass is good for a day,
// while it is shown every two minutes at least. A server that knows none answers 4.04
// with reason 0.
//
// # Errors
//
// Answers of class 4 and 5 carry concise problem details (RFC 9290),
// Content-Format 257: a map with -2 for a line of text, and under
// "flexphone:rd" a map with 1, the reason, 5, a sequence number, 20, 21 and 22.
//
//	reason 1  4.04  nobody is registered as that
//	       2  4.09  the row's sequence number is as high or higher: key 5 tells it
//	       3  4.03  another key owns the row
//	       4  4.03  the operator's policy forbids it
//	       5  4.01  the certificate does not name this MAC
//	       6  4.00  malformed; also 4.02, 4.06, 4.13 and 4.15
//	       7  4.29  too many requests: ask later
//	       8  5.03  it cannot be written now: ask later
//	       9  4.04  the server in 20 keeps that row; to an announcement 4.03
//
// Answers 4.29 and 5.03 have the option Max-Age: for so many seconds the client
// does not ask for the same again (RFC 8516; RFC 7252, section 5.9.3.4).
//
// # Why
//
// The address stands in the protected payload, with a sequence number, since
// the source of a datagram can be forged by who delivers it first. Release is a
// change like any other and has a number of its own, so that a delayed
// announcement cannot undo it.
package wire
