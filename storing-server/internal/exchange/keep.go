package exchange

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flexphone/internal/durable"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
	"flexphone/storing-server/internal/sockets"
)

// Sessions over a restart.
//
// A server that stops writes its sessions to a file, and one that starts goes on
// with them: half a million phones need not shake hands at once, which takes ten
// minutes of two processors, and are found at once by who observes. The file is
// sealed by a key made of the server's own, since whoever has the sessions' keys
// can speak for phones. It is read once, and removed before the first session
// says anything: no record number is ever used twice. A server that was killed
// has none, and its phones shake hands.

const (
	keptMagic   = "flexphone sessions 1\n"
	keptChunk   = 256 << 10 // bytes, before they are sealed
	keptPurpose = "storing-server sessions"
)

// A kept is a session as it is written down.
type kept struct {
	Secret   []byte           `cbor:"1,keyasint"`
	ID       []byte           `cbor:"2,keyasint"`
	Key      []byte           `cbor:"3,keyasint"`
	MAC      []byte           `cbor:"4,keyasint"`
	Issuer   string           `cbor:"5,keyasint,omitempty"`
	First    string           `cbor:"6,keyasint"`
	Proven   string           `cbor:"7,keyasint"`
	Heard    int64            `cbor:"8,keyasint"` // milliseconds of Unix time
	Observed []keptObservable `cbor:"9,keyasint,omitempty"`
	Newest   string           `cbor:"10,keyasint,omitempty"` // where it is not proven to be
	Credit   int              `cbor:"11,keyasint,omitempty"`
	ProvenBy string           `cbor:"12,keyasint,omitempty"` // addresses of this host, of Proven and Newest
	NewestBy string           `cbor:"13,keyasint,omitempty"`
}

type keptObservable struct {
	Token  []byte   `cbor:"1,keyasint"`
	Path   []string `cbor:"2,keyasint"`
	Number uint64   `cbor:"3,keyasint"`
}

// keepingKey returns the key that sessions are sealed by; nil: none can be made.
func keepingKey(private any) []byte {
	key, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil
	}
	out, err := hkdf.Key(sha256.New, key.Seed(), nil, keptPurpose, 32)
	if err != nil {
		return nil
	}
	return out
}

// Resume goes on with the sessions that a server with the same key has kept at
// path, and keeps its own there when it stops. It is called before Serve, and
// returns how many there are. A file that cannot be used is removed all the
// same; its error says why.
func (s *Server) Resume(path string) (n int, err error) {
	if s.keeping == nil {
		return 0, nil
	}
	s.keep = path
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("exchange: resume sessions: %w", err)
	}
	defer f.Close()
	if err := errors.Join(os.Remove(path), durable.SyncDir(filepath.Dir(path))); err != nil {
		s.keep = "" // it could be read once more
		return 0, fmt.Errorf("exchange: resume sessions: %w", err)
	}
	now := time.Now()
	err = unseal(s.keeping, f, func(chunk []byte) error {
		for len(chunk) > 0 {
			var k kept
			if chunk, err = cbor.UnmarshalFirst(chunk, &k); err != nil {
				return err
			}
			resumed, err := s.resume(k, now)
			if err != nil {
				return err
			}
			if resumed {
				n++
			}
		}
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("exchange: resume sessions of %s: %w", path, err)
	}
	return n, nil
}

// resume makes a session of what was kept, unless it has been silent for too
// long or there is no room for it.
func (s *Server) resume(k kept, now time.Time) (bool, error) {
	secret, rest, err := record.Parse(k.Secret)
	if err != nil || len(rest) > 0 || len(k.Key) != len(wire.Fingerprint{}) || len(k.MAC) != len(wire.MAC{}) || len(k.ID) != len(connectionID{}) ||
		secret.Own() != 0 && secret.Own() != len(connectionID{}) {
		return false, errors.Join(errors.New("malformed session"), err)
	}
	first, err := netip.ParseAddrPort(k.First)
	proven, bad := netip.ParseAddrPort(k.Proven)
	if err != nil || bad != nil {
		return false, errors.Join(errors.New("malformed session"), err, bad)
	}
	at := pathTo(place{proven, s.port.by(k.ProvenBy)}, secret.Sealed(pingLength))
	if k.Newest != "" {
		if at.newest.peer, err = netip.ParseAddrPort(k.Newest); err != nil || k.Credit < 0 {
			return false, errors.Join(errors.New("malformed session"), err)
		}
		at.newest.by, at.credit = s.port.by(k.NewestBy), k.Credit
	}
	heard := time.UnixMilli(k.Heard)
	if heard.After(now) {
		heard = now // the clock was put back
	}
	if now.Sub(heard) >= s.limits.Idle {
		return false, nil
	}
	x := &session{server: s, id: connectionID(k.ID), first: first, secret: *secret, path: at}
	x.begin(&s.endpoint, Peer{Key: wire.Fingerprint(k.Key), MAC: wire.MAC(k.MAC), Issuer: k.Issuer}, x)
	s.mu.Lock()
	room := !s.closed && s.all.n < s.limits.Sessions
	if room {
		x.heard = heard
		s.all.add(x)
		s.byKey[x.peer.Key] = append(s.byKey[x.peer.Key], x)
	}
	s.mu.Unlock()
	if !room {
		return false, nil
	}
	s.count.Session(1)
	s.port.route(x)
	for _, o := range k.Observed {
		if q, err := wire.ParseQuery(o.Path); err == nil {
			s.hub.resume(&x.conversation, o.Token, q, o.Number)
		}
	}
	return true, nil
}

// keepAll writes down all sessions, which say nothing more from then on, nor
// that they have ended. When that fails they are as they were.
func (s *Server) keepAll(all []*session) error {
	frozen := 0
	write := func(put func([]byte) error) error {
		for _, x := range all {
			b, err := cbor.Marshal(x.freeze())
			frozen++
			if err == nil {
				err = put(b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := func() error {
		f, err := durable.Create(s.keep)
		if err != nil {
			return err
		}
		defer f.Drop()
		if err := sealed(s.keeping, f, write); err != nil {
			return err
		}
		return f.Keep()
	}()
	if err != nil {
		for _, x := range all[:frozen] {
			x.records.Lock()
			x.closed = false
			x.records.Unlock()
		}
		return fmt.Errorf("exchange: keep sessions: %w", err)
	}
	return nil
}

// freeze lets x seal and open nothing more, and returns what is to be kept of it.
func (x *session) freeze() kept {
	x.server.mu.Lock()
	heard := x.heard
	x.server.mu.Unlock()
	k := kept{ID: x.id[:], Key: x.peer.Key[:], MAC: x.peer.MAC[:], Issuer: x.peer.Issuer, First: x.first.String(), Heard: heard.UnixMilli()}
	k.Observed = x.hub.kept(&x.conversation)
	x.records.Lock()
	defer x.records.Unlock()
	x.closed = true
	k.Proven, k.ProvenBy = x.path.proven.kept()
	k.Secret = x.secret.Append(nil)
	if x.path.unproven() {
		k.Newest, k.NewestBy = x.path.newest.kept()
		k.Credit = x.path.credit
	}
	return k
}

// kept returns both halves of a place as they are written down; the second may be empty.
func (p place) kept() (peer, by string) {
	if a := p.by.Addr(); a.IsValid() {
		by = a.String()
	}
	return p.peer.String(), by
}

// by reads the second half of a place; nil: it is left to the kernel.
func (p *port) by(text string) *sockets.Source {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return p.asked.At(a)
}

// sealed writes what put is given to w, in chunks that are sealed by key. Each
// has its number as the nonce, under a key of this file's own; the last one is
// empty, so that a file that was cut is known.
func sealed(key []byte, w io.Writer, write func(put func([]byte) error) error) error {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	aead, err := keptCipher(key, salt)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	out.WriteString(keptMagic) // errors stay with Flush
	out.Write(salt)
	var chunk, box []byte
	number := uint64(0)
	flush := func() error {
		box = aead.Seal(binary.BigEndian.AppendUint32(box[:0], uint32(len(chunk)+aead.Overhead())), keptNonce(number), chunk, nil)
		number++
		chunk = chunk[:0]
		_, err := out.Write(box)
		return err
	}
	if err := write(func(b []byte) error {
		if chunk = append(chunk, b...); len(chunk) >= keptChunk {
			return flush()
		}
		return nil
	}); err != nil {
		return err
	}
	if len(chunk) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return out.Flush()
}

// unseal gives take each chunk of what sealed has written.
func unseal(key []byte, r io.Reader, take func([]byte) error) error {
	in := bufio.NewReader(r)
	head := make([]byte, len(keptMagic)+32)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(keptMagic)]) != keptMagic {
		return errors.New("another format")
	}
	aead, err := keptCipher(key, head[len(keptMagic):])
	if err != nil {
		return err
	}
	var box []byte
	for number := uint64(0); ; number++ {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return errors.New("cut short")
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > keptChunk+1<<16 || n < aead.Overhead() {
			return errors.New("damaged")
		}
		box = append(box[:0], make([]byte, n)...)
		if _, err := io.ReadFull(in, box); err != nil {
			return errors.New("cut short")
		}
		chunk, err := aead.Open(box[:0], keptNonce(number), box, nil)
		if err != nil {
			return errors.New("damaged, or sealed by another server's key")
		}
		if len(chunk) == 0 {
			return nil
		}
		if err := take(chunk); err != nil {
			return err
		}
	}
}

func keptCipher(key, salt []byte) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, key, salt, keptPurpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func keptNonce(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4), number)
}
