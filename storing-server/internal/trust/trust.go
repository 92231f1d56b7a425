// Package trust is what the operator decides: who may own a row, who may ask
// where a phone is, and how often, and the log of who came to own what.
//
// It knows policies, limits and the audit log. It refuses to know how a
// request comes in, by CoAP, SIP, DNS or HTTP: all of them ask here.
package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"flexphone/registry-client/wire"
)

// An Enrolment says what a key must bring to own a row that nobody owns.
type Enrolment string

// The kinds of enrolment.
const (
	EnrolOpen    Enrolment = "open"    // nothing: the first key that announces a MAC owns it
	EnrolList    Enrolment = "list"    // to be on the operator's list of phones, or else a one-time token
	EnrolApprove Enrolment = "approve" // to be on that list, or to wait until the operator lets it in, or else a one-time token
	EnrolToken   Enrolment = "token"   // a one-time token
	EnrolCA      Enrolment = "ca"      // a certificate of the operator's authority
)

// A Resolution says who may ask where a phone is.
type Resolution string

// The kinds of resolution.
const (
	ResolveEnrolled Resolution = "enrolled" // who owns a row, or has a password for one
	ResolveAnyone   Resolution = "anyone"
	ResolveNobody   Resolution = "nobody"
)

// A Policy is what the operator has decided. The zero Policy allows everything.
type Policy struct {
	Enrol   Enrolment
	Resolve Resolution
	// Authorities issue certificates to phones, for EnrolCA.
	Authorities *Authorities
	// Waiting are the phones that wait to be let in, for EnrolApprove; else nil.
	Waiting *Waiting
	// Expected are the phones that may enrol, for EnrolList and EnrolApprove.
	Expected *Expected
	// Lookups limits what each client asks; nil: as often as it likes.
	Lookups *Lookups
	// Enrolments limits how many new phones come from one network; nil: as many
	// as there are.
	Enrolments *Enrolments
	// MostRows is how many rows there may be; 0: any number.
	MostRows int
	// Exempt are networks that limits by source do not hold for.
	Exempt Exempt
}

// Why a phone may not enrol now.
var (
	ErrTooMany  = errors.New("too many new phones from there: ask later")
	ErrRowsFull = errors.New("there are as many rows as the operator allows")
)

// Enrolments limits how many phones of one network enrol, so that nobody fills
// the disk with phones that there are not.
type Enrolments struct {
	networks *Limiter[Network]
	exempt   Exempt
}

// NewEnrolments lets each network enrol perHour phones an hour in the long run,
// and an hour's worth at once.
func NewEnrolments(perHour float64, exempt Exempt) *Enrolments {
	return &Enrolments{NewLimiter[Network](perHour/3600, max(1, perHour)), exempt}
}

// MayEnrol says why a phone at a network may not get a new row, where there are
// so many; nil: it may.
func (p Policy) MayEnrol(at Network, rows int, now time.Time) error {
	switch {
	case p.MostRows > 0 && rows >= p.MostRows:
		return ErrRowsFull
	case p.Enrolments != nil && !p.Enrolments.exempt.Has(at) && !p.Enrolments.networks.Allow(at, now):
		return ErrTooMany
	}
	return nil
}

// Authorities are the certificates of who may issue certificates to phones, in
// a file of the operator's.
type Authorities struct {
	path string
	pool atomic.Pointer[x509.CertPool]
}

// LoadAuthorities reads the certificates of a PEM file.
func LoadAuthorities(path string) (*Authorities, error) {
	a := &Authorities{path: path}
	return a, a.Reload()
}

// Reload reads the file again. When it fails the authorities stay as they were.
func (a *Authorities) Reload() error {
	text, err := os.ReadFile(a.path)
	if err != nil {
		return fmt.Errorf("trust: read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("trust: read authorities: %s has no PEM block CERTIFICATE", a.path)
	}
	a.pool.Store(pool)
	return nil
}

// Issuer returns the name of the authority that issued the first of the
// certificates, and whether there is one: the others are its chain.
func (p Policy) Issuer(raw [][]byte, now time.Time) (string, bool) {
	if p.Authorities == nil || len(raw) == 0 || len(raw) > maxChain {
		return "", false
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return "", false
	}
	others := x509.NewCertPool()
	for _, r := range raw[1:] {
		if c, err := x509.ParseCertificate(r); err == nil {
			others.AddCert(c)
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.Authorities.pool.Load(), Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil || len(chains[0]) < 2 {
		return "", false // a phone is not its own authority
	}
	return chains[0][len(chains[0])-1].Subject.String(), true
}

// maxChain bounds the certificates that a phone may show.
const maxChain = 8

// May reports whether somebody may look up rows; enrolled says whether it owns
// one itself.
func (p Policy) May(enrolled bool) bool {
	switch p.Resolve {
	case ResolveEnrolled:
		return enrolled
	case ResolveNobody:
		return false
	}
	return true
}

// Lookups limits how often each client asks, so that nobody can find out the
// numbers that there are by trying them all.
//
// # Why
//
// A key costs nothing where anybody may enrol, so a network is limited too: to
// some clients' worth, since a house has one address and several phones.
type Lookups struct {
	clients  *Limiter[wire.Fingerprint]
	networks *Limiter[Network]
	exempt   Exempt
}

// networkClients is how many clients' worth of lookups a network has.
const networkClients = 20

// burstSeconds is for how many seconds of silence a client may catch up.
const burstSeconds = 60

// NewLookups lets each client make perSecond lookups a second in the long run,
// and a minute's worth at once, but never fewer than 20.
func NewLookups(perSecond float64, exempt Exempt) *Lookups {
	burst := max(20, perSecond*burstSeconds)
	return &Lookups{
		clients:  NewLimiter[wire.Fingerprint](perSecond, burst),
		networks: NewLimiter[Network](networkClients*perSecond, networkClients*burst),
		exempt:   exempt,
	}
}

// Allow reports whether the client that key names, at a network, may look
// something up now. A zero key is nobody in particular: then the network is
// the client.
func (l *Lookups) Allow(key wire.Fingerprint, at Network, now time.Time) bool {
	switch {
	case l == nil:
		return true
	case key == wire.Fingerprint{}:
		return l.exempt.Has(at) || l.clients.Allow(at.fingerprint(), now)
	}
	return l.clients.Allow(key, now) && (l.exempt.Has(at) || l.networks.Allow(at, now))
}
