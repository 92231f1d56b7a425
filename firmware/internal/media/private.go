package media

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"flexphone/internal/secret"
)

// A Private is how an end can speak privately, beside a Local that says the rest.
type Private struct {
	Port        uint16 // of RTP and RTCP together (RFC 5761)
	Fingerprint Fingerprint
	Ufrag       string // for a peer of ours to prove where it is (RFC 8839)
	Pwd         secret.Bytes
	// Ours: the peer is a phone of ours. It is offered private sound, and plain
	// beside it on a line of its own, which is all that those of before know.
	Ours bool
	// Candidates are where this end may be, for a peer of ours to ask; at most
	// MaxCandidates are told, the best first.
	Candidates []Candidate
}

// A Fingerprint is that of a certificate (RFC 8122).
type Fingerprint struct {
	Hash  string // its name, in lower case
	Value string // the bytes
}

// A Protection is how sound is kept private: the keys come by DTLS (RFC 5763) or
// stood in the descriptions (RFC 4568).
type Protection struct {
	Mux   bool         // reports go the same way; else there are none
	Ufrag string       // the peer's; empty: it proves nothing
	Pwd   secret.Bytes // likewise
	// Candidates are where the peer, one of ours, says that it may be; none: it does
	// not say.
	Candidates []Candidate

	Active       bool // we begin to shake hands
	Fingerprints []Fingerprint

	Suite     string // of SDES, such as AEAD_AES_128_GCM; empty: the keys come by DTLS
	Own, Peer secret.Bytes
}

// A way is how a stream's sound is carried.
type way uint8

const (
	noWay way = iota
	inPlain
	byDTLS
	bySDES
)

// Protocols of m= lines.
var (
	plainProtos   = []string{"RTP", "AVP"}
	privateProtos = []string{"UDP", "TLS", "RTP", "SAVP"} // RFC 5764, section 8
)

// suites are the crypto suites that we know, preferred first, with the bytes of
// their key and salt (RFC 7714, section 14; RFC 4568, section 6.2).
var suites = []struct {
	name   string
	keying int
}{{"AEAD_AES_128_GCM", 28}, {"AES_CM_128_HMAC_SHA1_80", 30}}

// A setup is who begins (RFC 4145, section 4).
type setup uint8

const (
	unsaid setup = iota
	active
	passive
	either
	never // holdconn, or what nobody knows
)

var setups = map[string]setup{"active": active, "passive": passive, "actpass": either}

// A security is what a stream of the peer's says of keys.
type security struct {
	fingerprints []Fingerprint
	setup        setup
	ufrag        string
	pwd          secret.Bytes
	mux          bool
	candidates   []Candidate
	cryptos      []crypto
}

// A crypto is an a=crypto that can be used.
type crypto struct {
	tag, suite string
	key        secret.Bytes
}

// hear takes attributes in. Fingerprints of a stream stand in the place of those of
// the session.
func (s *security) hear(attributes []sdp.Attribute) {
	own := false
	for _, at := range attributes {
		switch at.Key {
		case "fingerprint":
			f, ok := fingerprint(at.Value)
			if !own {
				s.fingerprints, own = nil, true
			}
			if ok {
				s.fingerprints = append(s.fingerprints, f)
			}
		case "setup":
			var known bool
			if s.setup, known = setups[strings.ToLower(at.Value)]; !known {
				s.setup = never
			}
		case "ice-ufrag":
			s.ufrag = iceText(at.Value, 4)
		case "ice-pwd":
			s.pwd = secret.Of([]byte(iceText(at.Value, 22)))
		case sharedPort:
			s.mux = true
		case "candidate":
			s.hearCandidate(at.Value)
		case "crypto":
			if c, ok := cryptoOf(at.Value); ok {
				s.cryptos = append(s.cryptos, c)
			}
		}
	}
}

// iceText is v if it is one of ICE's words with so many letters at least (RFC 8839,
// section 5.4).
func iceText(v string, least int) string {
	bad := strings.ContainsFunc(v, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '+' && r != '/'
	})
	if bad || len(v) < least || len(v) > 256 {
		return ""
	}
	return v
}

// fingerprint reads HASH XX:XX:… .
func fingerprint(v string) (Fingerprint, bool) {
	name, value, _ := strings.Cut(v, " ")
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(value), ":", ""))
	f := Fingerprint{strings.ToLower(name), string(b)}
	sizes := map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64} // what is shorter proves nothing
	return f, err == nil && len(b) > 0 && len(b) == sizes[f.Hash]
}

// String writes f as a=fingerprint has it.
func (f Fingerprint) String() string {
	text := strings.ToUpper(hex.EncodeToString([]byte(f.Value)))
	var b strings.Builder
	b.WriteString(f.Hash)
	for i := 0; i+2 <= len(text); i += 2 {
		b.WriteByte(" :"[min(i, 1)])
		b.WriteString(text[i : i+2])
	}
	return b.String()
}

// cryptoOf reads TAG SUITE inline:KEY[|LIFETIME] [PARAMETERS] (RFC 4568, section
// 9.1). One with an MKI, or with a parameter that changes how packets look, cannot
// be used; one that is only for information begins with - or is WSH.
func cryptoOf(v string) (crypto, bool) {
	f := strings.Fields(v)
	if len(f) < 3 {
		return crypto{}, false
	}
	if n, err := strconv.ParseUint(f[0], 10, 32); err != nil || len(f[0]) > 9 || strconv.FormatUint(n, 10) != f[0] {
		return crypto{}, false
	}
	for _, p := range f[3:] {
		if !strings.HasPrefix(p, "-") && !strings.HasPrefix(p, "WSH=") {
			return crypto{}, false
		}
	}
	inline, ok := strings.CutPrefix(f[2], "inline:")
	text, rest, _ := strings.Cut(inline, "|")
	if !ok || strings.ContainsAny(rest, ":;|") || strings.Contains(text, ";") {
		return crypto{}, false
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return crypto{}, false
	}
	for _, s := range suites {
		if strings.EqualFold(s.name, f[1]) && len(key) == s.keying {
			return crypto{f[0], s.name, secret.Of(key)}, true
		}
	}
	return crypto{}, false
}

// kindOf is whether protos are RTP, and whether they say that it is private. The
// profile with feedback is the same to those that feed nothing back (RFC 4585,
// section 4).
func kindOf(protos []string) (rtp, private bool) {
	switch p := strings.TrimSuffix(strings.ToUpper(strings.Join(protos, "/")), "F"); p {
	case "RTP/AVP":
		return true, false
	case "RTP/SAVP", "UDP/TLS/RTP/SAVP":
		return true, true
	}
	return false, false
}

// wayOf is how a, which the peer offers, can be carried with lm: privately if both
// can, also where its line only says that it may be (RFC 8643). Keys are read in a
// description only where nobody else could read them.
func (a *audio) wayOf(lm Local) way {
	_, private := kindOf(a.protos)
	switch {
	case lm.Private != nil && len(a.fingerprints) > 0 && a.setup != never:
		return byDTLS
	case lm.Private != nil && lm.Vouched && a.crypto().suite != "" && len(a.protos) == 2:
		return bySDES
	case !private && !lm.OnlyPrivate:
		return inPlain
	}
	return noWay
}

// crypto is the best of those that are offered.
func (s *security) crypto() crypto {
	for _, suite := range suites {
		if i := slices.IndexFunc(s.cryptos, func(c crypto) bool { return c.suite == suite.name }); i >= 0 {
			return s.cryptos[i]
		}
	}
	return crypto{}
}

// worn reports whether an offer says that the keys of the call are worn: the peer has
// another one than before, and what we send may be as far from being understood.
func (s *session) worn(w way, a audio) bool {
	return w == bySDES && s.way == bySDES && !a.crypto().key.Equal(s.peerKey)
}

// ownKey is our key of a suite in this call, the same until keys are worn: with the
// same key a context goes on.
func (s *session) ownKey(suite string) secret.Bytes {
	if k, ok := s.keys[suite]; ok {
		return k
	}
	var b []byte
	for _, of := range suites {
		if of.name == suite {
			b = make([]byte, of.keying)
		}
	}
	rand.Read(b) // never fails (crypto/rand)
	if s.keys == nil {
		s.keys = make(map[string]secret.Bytes)
	}
	s.keys[suite] = secret.Of(b)
	return s.keys[suite]
}

// protection is what is agreed of keys by answering a, or by its answer.
func (s *session) protection(w way, a audio, lm Local) *Protection {
	if w == inPlain {
		return nil
	}
	p := &Protection{Mux: a.mux}
	if lm.Private.Ours {
		p.Ufrag, p.Pwd, p.Candidates = a.ufrag, a.pwd, a.candidates
	}
	if w == bySDES {
		c := a.crypto()
		p.Suite, p.Own, p.Peer = c.suite, s.ownKey(c.suite), c.key
		s.peerKey = c.key
		return p
	}
	p.Fingerprints = a.fingerprints
	switch a.setup {
	case active, unsaid:
		p.Active = false
	case passive:
		p.Active = true
	case either: // who began goes on
		p.Active = s.role != passive
	}
	s.role = passive
	if p.Active {
		s.role = active
	}
	return p
}

// privateAttributes are what a line says of keys. As an offer it leaves it to the
// peer who begins (RFC 5763, section 5).
func privateAttributes(w way, lm Local, p *Protection, tag string) []sdp.Attribute {
	var out []sdp.Attribute
	add := func(key, value string) { out = append(out, sdp.Attribute{Key: key, Value: value}) }
	switch w {
	case inPlain:
		return nil
	case bySDES:
		add("crypto", fmt.Sprintf("%s %s inline:%s", tag, p.Suite, base64.StdEncoding.EncodeToString(p.Own.Reveal())))
	case byDTLS:
		add("fingerprint", lm.Private.Fingerprint.String())
		switch {
		case p == nil:
			add("setup", "actpass")
		case p.Active:
			add("setup", "active")
		default:
			add("setup", "passive")
		}
	}
	if lm.Private.Ours {
		add("ice-ufrag", lm.Private.Ufrag)
		add("ice-pwd", string(lm.Private.Pwd.Reveal()))
		out = append(out, candidateAttributes(lm.Private.Candidates)...)
	}
	if p == nil || p.Mux {
		add(sharedPort, "")
	}
	return out
}
