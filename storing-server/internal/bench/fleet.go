package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	"flexphone/internal/usage"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

const (
	// handshakesAtOnce keeps below what a server lets stand half-open.
	handshakesAtOnce = 32
	handshakeMost    = 10 * time.Second
	// handshakeTries is for hellos that a busy server drops.
	handshakeTries = 5
	receiveBuffer  = 4 << 20
	lifetime       = 24 * time.Hour
)

// A phone is one session and one row.
type phone struct {
	index    int
	mac      wire.MAC
	secret   *record.Session
	line     *line
	place    uint32 // connection ID in its line
	id       uint16 // message ID of the newest request
	sequence uint64 // of the newest announcement
	// acknowledged is the newest sequence number that was.
	acknowledged uint64
	address      uint32 // the newest announced, IPv4

	// The request on its way.
	request []byte
	waiting bool
	begun   time.Time // first sent
	sent    time.Time // last sent
	// What came of the newest move, when somebody observes.
	answered, noticed bool
	observer          *phone // observes this one
	mover             *phone // is observed by this one
}

// macOf returns the MAC of phone number i: locally administered.
func macOf(i int) wire.MAC {
	m := wire.MAC{2, 0xf1}
	binary.BigEndian.PutUint32(m[2:], uint32(i))
	return m
}

// keyOf returns the key of phone number i, always the same.
func keyOf(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "a phone of the bench, number %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// addressOf returns the address that phone number i has after n moves, in
// 10.0.0.0/8.
func addressOf(i int, n uint64) uint32 {
	h := uint64(i)*0x9e3779b97f4a7c15 + n*0xbf58476d1ce4e5b9
	return 10<<24 | uint32(h>>40)
}

func dotted(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// certificate returns the self-signed certificate that a phone shows.
func certificate(i int) (tls.Certificate, error) {
	key := keyOf(i)
	name, err := url.Parse(macOf(i).URN())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 1), URIs: []*url.URL{name},
		NotBefore:   time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// fingerprintOf returns what a server knows phone number i by.
func fingerprintOf(i int) (wire.Fingerprint, error) {
	der, err := x509.MarshalPKIXPublicKey(keyOf(i).Public())
	if err != nil {
		return wire.Fingerprint{}, fmt.Errorf("bench: make fingerprint: %w", err)
	}
	return sha256.Sum256(der), nil
}

// A fleet is many phones on few sockets. Its methods are not safe for
// concurrent use.
type fleet struct {
	server  *net.UDPAddr
	lines   []*line
	phones  []*phone
	targets int // rows that are looked up: phones 0 to this
}

// newFleet returns a fleet without phones, on that many sockets.
func newFleet(ctx context.Context, server string, lines int) (*fleet, error) {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, fmt.Errorf("bench: find server: %w", err)
	}
	f := &fleet{server: to}
	for range lines {
		l, err := newLine(ctx, to)
		if err != nil {
			f.close()
			return nil, err
		}
		f.lines = append(f.lines, l)
	}
	return f, nil
}

func (f *fleet) close() {
	for _, l := range f.lines {
		l.conn.Close()
	}
}

// enrol shakes hands as phones first to first+n-1 and announces each once.
// Pairs of neighbours share a line.
func (f *fleet) enrol(ctx context.Context, first, n int) error {
	if err := f.handshakes(ctx, first, n); err != nil {
		return err
	}
	f.targets = max(f.targets, first+n)
	return f.announceAll(ctx, f.phones[len(f.phones)-n:])
}

// announceAll lets each of phones announce once more.
func (f *fleet) announceAll(ctx context.Context, phones []*phone) error {
	t, err := f.run(ctx, phones, job{kind: register, window: 256, most: time.Minute})
	if err == nil && t.refused > 0 {
		err = fmt.Errorf("bench: %d of %d announcements: %w", t.refused, len(phones), errRefused)
	}
	return err
}

// handshakes makes the sessions of enrol.
func (f *fleet) handshakes(ctx context.Context, first, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	made := make([]*phone, n)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(handshakesAtOnce, n) {
		all.Go(func() {
			for k := range next {
				l := f.lines[k/2%len(f.lines)]
				p, err := f.handshake(ctx, first+k, l)
				if err != nil {
					cancel(err)
					continue
				}
				made[k] = p
			}
		})
	}
feed:
	for k := range n {
		select {
		case next <- k:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.phones = append(f.phones, made...)
	return nil
}

// handshake makes the session of phone number i, with a socket of its own that
// is given up: the phone's next datagram comes from its line.
func (f *fleet) handshake(ctx context.Context, i int, l *line) (*phone, error) {
	cert, err := certificate(i)
	if err != nil {
		return nil, err
	}
	p := &phone{index: i, mac: macOf(i), line: l, place: l.join()}
	cid := binary.BigEndian.AppendUint32(nil, p.place)
	for try := 1; ; try++ {
		p.secret, err = shake(ctx, f.server, cert, cid)
		if err == nil {
			err = p.hello()
		}
		if err == nil {
			l.put(p)
			return p, nil
		}
		if try == handshakeTries || ctx.Err() != nil {
			return nil, fmt.Errorf("bench: shake hands as %v: %w", p.mac, err)
		}
	}
}

// hello is the first that the phone sends in its session: a ping, by which the
// server knows that both have finished shaking hands. Nobody waits for the
// answer.
func (p *phone) hello() error {
	ping, err := p.secret.Seal(nil, record.TypeApplication, []byte{0x40, 0, 0, 0}) // RFC 7252, section 4.3
	if err == nil {
		_, err = p.line.conn.Write(ping)
	}
	return err
}

func shake(ctx context.Context, server *net.UDPAddr, cert tls.Certificate, cid []byte) (*record.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeMost)
	defer cancel()
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	session, err := dtls.ClientWithOptions(conn, server,
		dtls.WithCertificates(cert),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithConnectionIDGenerator(func() []byte { return cid }),
		dtls.WithInsecureSkipVerify(true), // a bench trusts any server
	)
	if err != nil {
		return nil, err
	}
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	s, err := record.Take(session)
	conn.Close()        // first, so that no close_notify is sent
	_ = session.Close() // says that the socket is closed
	return s, err
}

// part hands out phones to their lines.
func (f *fleet) part(phones []*phone) map[*line][]*phone {
	out := map[*line][]*phone{}
	for _, p := range phones {
		out[p.line] = append(out[p.line], p)
	}
	return out
}

// run does j with phones, on all lines at once.
func (f *fleet) run(ctx context.Context, phones []*phone, j job) (tally, error) {
	j.targets = f.targets
	parts := f.part(phones)
	var mu sync.Mutex
	var sum tally
	var failed error
	var all sync.WaitGroup
	j.window = max(1, j.window/max(1, len(parts)))
	start := time.Now()
	for l, ps := range parts {
		all.Go(func() {
			t, err := l.run(ctx, ps, j)
			mu.Lock()
			defer mu.Unlock()
			sum.add(t)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	sum.took = time.Since(start)
	return sum, failed
}

// load measures one kind of request for d.
func (f *fleet) load(ctx context.Context, kind string, phones []*phone, window int, d time.Duration, p *process) (Load, error) {
	j := job{kind: kind, window: window, again: true, lasts: d}
	if kind == notice {
		movers, err := f.observe(ctx, phones)
		if err != nil {
			return Load{}, err
		}
		phones = movers
	}
	server, client := p.usage().CPU, usage.OwnCPU()
	t, err := f.run(ctx, phones, j)
	if err != nil {
		return Load{}, err
	}
	l := t.load()
	l.Server, l.Request, l.Durable = self, kind, kind == register || kind == notice
	if l.Answers > 0 {
		l.ServerMicros = micros(p.usage().CPU-server) / float64(l.Answers)
		l.ClientMicros = micros(usage.OwnCPU()-client) / float64(l.Answers)
	}
	return l, nil
}

// observe lets every second phone observe its neighbour, and returns those
// that are observed.
func (f *fleet) observe(ctx context.Context, phones []*phone) ([]*phone, error) {
	var movers, observers []*phone
	for _, ps := range f.part(phones) {
		for i := 0; i+1 < len(ps); i += 2 {
			ps[i].observer, ps[i+1].mover = ps[i+1], ps[i]
			movers, observers = append(movers, ps[i]), append(observers, ps[i+1])
		}
	}
	t, err := f.run(ctx, observers, job{kind: observe, window: 256, most: time.Minute})
	if err == nil && t.refused > 0 {
		err = fmt.Errorf("bench: %d of %d observations: %w", t.refused, len(observers), errRefused)
	}
	return movers, err
}
