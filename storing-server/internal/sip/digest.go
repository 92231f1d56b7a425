package sip

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/icholy/digest"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// Realm is what passwords are for. It is part of what is stored of them, so it
// never changes.
const Realm = "flexphone"

// nonceLife is for how long a nonce can be used. A phone that comes later is
// given another one, and asked again.
const nonceLife = 5 * time.Minute

// Secrets returns what is kept of a password: a hash of it for each algorithm
// (RFC 7616, section 3.4.2).
func Secrets(user, password string) (md5Sum, sha256Sum []byte) {
	text := []byte(user + ":" + Realm + ":" + password)
	m, s := md5.Sum(text), sha256.Sum256(text)
	return m[:], s[:]
}

// A signer makes things that only this process can have made.
type signer struct {
	key   [32]byte
	begun time.Time // of the clock that no one sets
}

func newSigner() signer {
	s := signer{begun: time.Now()}
	rand.Read(s.key[:]) // never fails
	return s
}

func (s signer) sum(parts ...string) []byte {
	h := hmac.New(sha256.New, s.key[:])
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// nonce says its place among those of its user, which is when it was issued in
// microseconds of Unix time, or later; and how old it is. That is told by the
// time this process has run, since the clock may be set meanwhile.
func (s signer) nonce(place int64, now time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(place))
	b = binary.BigEndian.AppendUint64(b, uint64(now.Sub(s.begun)))
	return base64.RawURLEncoding.EncodeToString(append(b, s.sum("nonce", string(b))[:16]...))
}

// issued reads what nonce has written; ok is false for anything else.
func (s signer) issued(nonce string) (place int64, at time.Time, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != 32 || !hmac.Equal(b[16:], s.sum("nonce", string(b[:16]))[:16]) {
		return 0, time.Time{}, false
	}
	return int64(binary.BigEndian.Uint64(b)), s.begun.Add(time.Duration(binary.BigEndian.Uint64(b[8:]))), true
}

// A proof is what became of the credentials of a request.
type proof int

const (
	proven  proof = iota
	missing       // none for us
	expired       // right, but for a nonce that is not good any more
	wrong
)

// prove checks credentials for a request, against what is kept of the password
// of p. place is the nonce's.
func (s signer) prove(c *digest.Credentials, method string, p store.Phone, known bool, now time.Time) (what proof, place int64) {
	place, at, ours := s.issued(c.Nonce)
	var secret []byte
	var sum func(string) string
	switch strings.ToUpper(c.Algorithm) {
	case "", "MD5":
		secret, sum = p.MD5, func(t string) string { h := md5.Sum([]byte(t)); return hex.EncodeToString(h[:]) }
	case "SHA-256":
		secret, sum = p.SHA256, func(t string) string { h := sha256.Sum256([]byte(t)); return hex.EncodeToString(h[:]) }
	default:
		return wrong, 0
	}
	if c.QOP != "auth" || c.Cnonce == "" || c.Nc <= 0 || c.Userhash {
		return wrong, 0
	}
	want := sum(strings.Join([]string{
		hex.EncodeToString(secret), c.Nonce, fmt.Sprintf("%08x", c.Nc), c.Cnonce, c.QOP, sum(method + ":" + c.URI),
	}, ":"))
	same := subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(c.Response))) == 1
	switch {
	case !known || len(secret) == 0 || c.Username != p.User:
		return wrong, 0
	case !ours: // a nonce of another server's, or of before a restart
		return expired, 0
	case !same:
		return wrong, 0
	case now.Sub(at) > nonceLife:
		return expired, 0
	}
	return proven, place
}

// challenges ask for a digest, the better algorithm first (RFC 8760, section
// 2.4). A phone that was added as one that knows MD5 alone is asked for that
// alone, since many of those give up at a challenge that they do not know.
func (s signer) challenges(p store.Phone, place int64, now time.Time, stale bool) []header {
	var out []header
	nonce := s.nonce(place, now)
	algorithms := []string{"SHA-256", "MD5"}
	if len(p.MD5) > 0 && len(p.SHA256) == 0 {
		algorithms = algorithms[1:]
	}
	for _, algorithm := range algorithms {
		v := fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"`, Realm, nonce, algorithm)
		if stale {
			v += ", stale=true"
		}
		out = append(out, header{Name: "WWW-Authenticate", Value: v})
	}
	return out
}

// UserName is how a phone's user name is kept: a MAC as its settings have it,
// without colons.
func UserName(s string) string {
	if m, err := wire.ParseMAC(s); err == nil {
		return m.Hex()
	}
	return s
}

// NewPassword makes one that nobody guesses, and that can be typed.
func NewPassword() string { return strings.ToLower(rand.Text()) }
