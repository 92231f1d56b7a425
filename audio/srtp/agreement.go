package srtp

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"slices"

	"flexphone/audio/seek"
	"flexphone/internal/secret"
)

// An Agreement is what both ends have told each other about a path. It has keys by
// DTLS or SDES, not both.
type Agreement struct {
	Remote netip.AddrPort // where the peer says that it is; unspecified: nowhere
	// Mux: reports go the same way (RFC 5761). Without it there are none.
	Mux bool
	// Peer proves where it is by these. Without them the peer is where its
	// description says, and is followed nowhere.
	Peer Credentials
	// Candidates are where the peer says that it may be, besides; none: it has not
	// said, and Remote is all that is known.
	Candidates []seek.Candidate
	DTLS       *DTLS
	SDES       *SDES
}

// A DTLS says how to shake hands (RFC 5763).
type DTLS struct {
	Active       bool // we begin (RFC 4145, a=setup)
	Fingerprints []Fingerprint
	Pin          [32]byte // SHA-256 of the peer's SubjectPublicKeyInfo; zero: only Fingerprints count
}

// An SDES is keys as the signalling brought them (RFC 4568): key and salt.
type SDES struct {
	Suite     Suite
	Own, Peer secret.Bytes
}

// A Config is what a path is made with.
type Config struct {
	Certificate tls.Certificate // shown by DTLS
	// Worn is told when keys are worn that the signalling has brought: Start is to bring
	// others. It does not block. Nil: nobody cares.
	Worn func()
	// Wrong is told when whoever is where the peer has to be shows another certificate
	// than the one that was agreed upon, so that there will be no keys. It does not
	// block. Nil: nobody cares.
	Wrong func()
	// Turned is told when Way has become another, and Lost when the way that the stream
	// went by was lost, a worse one was taken or none answers: this end may be seen from
	// elsewhere than the peer was told (Reflexive). They do not block. Nil: nobody cares.
	Turned, Lost func()
	Log          *slog.Logger
}

// sameIdentity reports whether the keys of an agreement stay those of the next.
func sameIdentity(a, b Agreement) bool {
	if (a.DTLS == nil) != (b.DTLS == nil) {
		return false
	}
	return a.DTLS == nil || a.DTLS.Pin == b.DTLS.Pin && slices.Equal(a.DTLS.Fingerprints, b.DTLS.Fingerprints)
}
