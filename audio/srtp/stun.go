package srtp

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"strings"

	"github.com/pion/stun/v4"

	"flexphone/internal/secret"
)

// Credentials are the short-term ones of a path (RFC 8445, section 5.3), which each
// end tells the other: a=ice-ufrag and a=ice-pwd (RFC 8839, section 5.4).
type Credentials struct {
	Ufrag string       // 4 to 256 letters, digits, + and /
	Pwd   secret.Bytes // 22 to 256 of these
}

// newCredentials are chosen so that nobody can guess them.
func newCredentials() Credentials {
	var b [6 + 18]byte
	rand.Read(b[:]) // never fails
	text := base64.RawStdEncoding.EncodeToString(b[:])
	return Credentials{text[:8], secret.Of([]byte(text[8:]))}
}

// usable reports whether a path can be proved by c.
func (c Credentials) usable() bool { return c.Ufrag != "" && c.Pwd.Len() > 0 }

// longestSTUN bounds what is read of a STUN message.
const longestSTUN = 548

// A prover asks by STUN whether who is somewhere is the peer, and answers that
// (RFC 8445, section 7). It belongs to the goroutine that receives.
type prover struct {
	own, peer Credentials
	asked     [stun.TransactionIDSize]byte // of the present trial
	open      questions                    // to the places where the peer may be
	asker     string                       // the ufrag of who has asked us last
	in        stun.Message
}

// begin makes the questions from now on those of another trial.
func (p *prover) begin() { rand.Read(p.asked[:]) }

// question is the present trial's.
func (p *prover) question() ([]byte, error) { return p.questionOf(p.asked) }

// questionOf is a Binding request to the peer.
func (p *prover) questionOf(tx [stun.TransactionIDSize]byte) ([]byte, error) {
	m, err := stun.Build(stun.NewTransactionIDSetter(tx), stun.BindingRequest,
		stun.NewUsername(p.peer.Ufrag+":"+p.own.Ufrag),
		stun.NewShortTermIntegrity(string(p.peer.Pwd.Reveal())), stun.Fingerprint)
	if err != nil {
		return nil, err
	}
	return m.Raw, nil
}

// What a message shows.
type proof uint8

const (
	nothing    proof = iota
	ofTrial          // source has answered the question of this trial
	ofPlace          // it has answered another that was asked of it
	ofQuestion       // it asks itself
)

// take reads b, which came from source. answer is what to send back there. What does
// not prove that it knows the password it should gets nothing.
func (p *prover) take(b []byte, source netip.AddrPort) (answer []byte, shows proof) {
	if len(b) > longestSTUN || !stun.IsMessage(b) {
		return nil, nothing
	}
	m := &p.in
	m.Raw = append(m.Raw[:0], b...)
	if m.Decode() != nil || int(m.Length) != len(b)-20 || stun.Fingerprint.Check(m) != nil {
		return nil, nothing
	}
	switch m.Type {
	case stun.BindingRequest:
		if answer = p.answer(m, source); answer != nil {
			shows = ofQuestion
		}
	case stun.BindingSuccess:
		switch {
		case !p.peer.usable() || stun.NewShortTermIntegrity(string(p.peer.Pwd.Reveal())).Check(m) != nil:
		case m.TransactionID == p.asked:
			shows = ofTrial
		case p.open.has(m.TransactionID, source):
			shows = ofPlace
		}
	}
	return answer, shows
}

// answer is a Binding success for the peer; nil for everybody else.
func (p *prover) answer(m *stun.Message, source netip.AddrPort) []byte {
	var user stun.Username
	if user.GetFrom(m) != nil {
		return nil
	}
	to, from, _ := strings.Cut(user.String(), ":")
	integrity := stun.NewShortTermIntegrity(string(p.own.Pwd.Reveal()))
	if to != p.own.Ufrag || p.peer.usable() && from != p.peer.Ufrag || integrity.Check(m) != nil {
		return nil
	}
	p.asker = from
	mapped := &stun.XORMappedAddress{IP: source.Addr().AsSlice(), Port: int(source.Port())}
	out, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, mapped, integrity, stun.Fingerprint)
	if err != nil {
		return nil
	}
	return out.Raw
}
