// Package srtp is the private path of a stream: RTP and RTCP, encrypted and
// authenticated (RFC 3711, 7714), on one socket that lives as long as the call.
//
// It knows keys, by DTLS-SRTP (RFC 5763, 5764) or as the signalling brought them
// (SDES, RFC 4568), how to tell apart what comes to one socket (RFC 7983, 5761), and
// where the peer is. It refuses to know how both ends agreed, what is in the packets,
// and who the peer is beyond the key that it was told.
//
// # Where the peer is
//
// The socket is bound to all addresses, so that it goes on when this end's address
// changes. The peer is where its description or its row says (Start, Move), and is
// followed by what it sends (follow.go): a packet that opens, newer than all before,
// from another source is answered there at once. Within a second that place must
// prove itself by answering a STUN Binding with MESSAGE-INTEGRITY (RFC 8489, 7675;
// stun.go); else the stream goes back to where it was and leaves that source alone
// for ten seconds. Whoever can take packets off the path, and send them on from
// elsewhere, gets a second of ciphertext by that. A forged or replayed packet does not
// open, and moves nothing. A peer that gave no ice-ufrag cannot prove a place, and
// is not followed.
//
// # Finding a way
//
// A peer that names several places (Agreement.Candidates) is asked at all of them at once,
// by the same STUN Binding with MESSAGE-INTEGRITY, and the best that has answered is where
// the stream goes (package audio/seek decides, find.go asks). Until one has, it goes where
// its description says, as to a peer that names none. It may be followed as well:
// where it was seen becomes a place like the others once that has proved itself. A pass
// (package internal/pass) is shown to a relay from the same socket, which makes the relay one
// of the places. Reflexive asks STUN servers from that socket where it is seen. Whoever keeps
// the signalling is told when the way in use was lost: a NAT that was restarted gives another
// port, and neither end finds the other where it was. So it asks once more, and has the peer
// told.
//
// A phone with Ethernet and Wi-Fi may speak by the one and describe the other, where the
// peer is in the network of the one. So each datagram of a handshake is preceded by a
// question, until the peer answers one; who asks by our password, from wherever, is tried as
// the peer until there are keys (introduced).
//
// # Keys
//
// Whoever is active begins to shake hands as soon as it knows the peer's description,
// while it rings; the other end may know no more of it then than the key in its
// row (Expect). There are keys only where certificate and description agree, and
// certificate and row. What comes before its keys, or before the answer, is kept,
// as far as it is two seconds of sound. What is sent before them is not sent.
//
// A context lives as long as its keys, and no key has two: one made anew with
// the same key would use numbers twice, and not understand what comes after
// a wrap (keyring). A context takes what comes after a hole of 2^15 packets for old.
// After one of 2^14, or when nothing opens any more though packets come on, our own
// phones shake hands anew (doubt.go), and whoever keeps the signalling is told where
// that has brought the keys; the keys before stay until there are others.
//
// # Keys for as long as the call lasts
//
// A handshake that fails is begun anew (shake.go): at once where nobody has answered for
// ten seconds, else after half a second, and twice as long each time, up to eight. The
// end that is not active begins as well, where it has neither keys nor a handshake for
// two seconds and the peer is a phone of ours: keys that the peer believes in may have
// been made with a path that is forgotten here. What of the peer's yields then, and
// what does not, begins() says. Only another certificate than was agreed upon, at the
// place where the peer has to be, is final: the owner of the path is told.
//
// # Why few handshakes at a time
//
// pion/dtls keeps goroutines and buffers for a handshake. There is one, and
// only with the host that is called or described: who floods the port with hellos
// from elsewhere costs the look at their first bytes. Until the answer says at which
// port of its host the peer is, there may be three, each with one port: a phone that is
// called anew has another path for some moments, which goes on to begin, and must not
// end what the one that counts has begun. Which of them is the peer's, its questions tell
// by their ufrag. One handshake may come from several places: a peer with IPv4 and IPv6
// goes on from the better one as soon as that has answered, and repeats its hello there.
package srtp
