package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// ends returns the two ends of a session of pion's. The client is sent a
// connection ID of clientCID bytes; when that is negative there is none either way.
func ends(t *testing.T, clientCID int) (client, server *dtls.Conn) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	var sockets [2]*net.UDPConn
	for i := range sockets {
		if sockets[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	server, err = dtls.ServerWithOptions(sockets[0], sockets[1].LocalAddr(),
		dtls.WithCertificates(cert), dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(8)))
	if err != nil {
		t.Fatal(err)
	}
	options := []dtls.ClientOption{
		dtls.WithInsecureSkipVerify(true), dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
	}
	switch {
	case clientCID > 0:
		options = append(options, dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(clientCID)))
	case clientCID == 0:
		options = append(options, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
	}
	client, err = dtls.ClientWithOptions(sockets[1], sockets[0].LocalAddr(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return client, server
}

// take takes conn over.
func take(t *testing.T, conn *dtls.Conn) *Session {
	t.Helper()
	s, err := Take(conn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealed(t testing.TB, s *Session, kind byte, text string) []byte {
	t.Helper()
	r, err := s.Seal(nil, kind, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// opened opens a copy of data.
func opened(s *Session, data []byte) (content string, kind byte, latest bool, err error) {
	r, rest, ok := Split(bytes.Clone(data), s.own)
	if !ok || len(rest) != 0 {
		return "", 0, false, ErrMalformed
	}
	b, kind, latest, err := s.Open(r)
	return string(b), kind, latest, err
}

// What one end seals, the other opens, when both were taken over: with a
// connection ID in both directions, in one, and in none.
func TestBothEnds(t *testing.T) {
	for _, cid := range []int{4, 0, -1} {
		c, s := ends(t, cid)
		client, server := take(t, c), take(t, s)
		for _, text := range []string{"", "a", "zeros at the end\x00\x00", string(make([]byte, 1152))} {
			for _, way := range []struct{ from, to *Session }{{client, server}, {server, client}} {
				r := sealed(t, way.from, TypeApplication, text)
				if len(r) != way.from.Sealed(len(text)) {
					t.Errorf("connection ID %d: %d bytes make a record of %d; Sealed() = %d", cid, len(text), len(r), way.from.Sealed(len(text)))
				}
				got, kind, latest, err := opened(way.to, r)
				if err != nil || got != text || kind != TypeApplication || !latest {
					t.Errorf("connection ID %d: Open() of %q = %q, %d, %v, %v", cid, text, got, kind, latest, err)
				}
				if _, _, _, err := opened(way.to, r); err != ErrReplayed {
					t.Errorf("connection ID %d: opened twice: %v", cid, err)
				}
				r[3+7]++ // its number
				if _, _, _, err := opened(way.to, r); err != ErrForged {
					t.Errorf("connection ID %d: opened with another number: %v", cid, err)
				}
			}
		}
		if got := server.Own(); got != max(0, map[int]int{4: 8, 0: 8, -1: 0}[cid]) {
			t.Errorf("the server is sent a connection ID of %d bytes", got)
		}
	}
}

// A session that was written down and read again goes on where it was: what
// came before is known, and no number is used twice.
func TestWrittenDown(t *testing.T) {
	for _, cid := range []int{4, 0, -1} {
		c, s := ends(t, cid)
		client, server := take(t, c), take(t, s)
		before := sealed(t, client, TypeApplication, "before")
		if _, _, _, err := opened(server, before); err != nil {
			t.Fatal(err)
		}
		sealed(t, server, TypeApplication, "before")
		text := server.Append(nil)
		again, rest, err := Parse(append(bytes.Clone(text), "more"...))
		if err != nil || string(rest) != "more" || !bytes.Equal(again.Append(nil), text) {
			t.Fatalf("Parse() = %v, %q; written again as %x", err, rest, again.Append(nil))
		}
		if _, _, _, err := opened(again, before); err != ErrReplayed {
			t.Errorf("what came before is opened again: %v", err)
		}
		if got, _, _, err := opened(again, sealed(t, client, TypeApplication, "after")); err != nil || got != "after" {
			t.Errorf("Open() = %q, %v", got, err)
		}
		if again.number != server.number {
			t.Errorf("goes on with number %d; want %d", again.number, server.number)
		}
		if got, _, _, err := opened(client, sealed(t, again, TypeApplication, "after")); err != nil || got != "after" {
			t.Errorf("the peer's Open() = %q, %v", got, err)
		}
		for n := range text {
			if _, _, err := Parse(text[:n]); err == nil {
				t.Fatalf("%d bytes of %d were read", n, len(text))
			}
		}
	}
}

// FuzzParse: nothing that is read does harm, and it is written to the same.
func FuzzParse(f *testing.F) {
	f.Add(fixedSession(f).Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, rest, err := Parse(data)
		if err == nil && !bytes.Equal(s.Append(nil), data[:len(data)-len(rest)]) {
			t.Fatalf("%x became %x", data, s.Append(nil))
		}
	})
}

// An end of pion's opens what the other seals that was taken over, with a
// connection ID and without, wherever it comes from, and knows it for the same
// session.
func TestPionOpens(t *testing.T) {
	for name, choose := range map[string]func(t *testing.T) (pion, other *dtls.Conn){
		"server without ID": func(t *testing.T) (pion, other *dtls.Conn) { return ends(t, 0) },
		"server":            func(t *testing.T) (pion, other *dtls.Conn) { return ends(t, 4) },
		"client": func(t *testing.T) (pion, other *dtls.Conn) {
			c, s := ends(t, 4)
			return s, c
		},
	} {
		t.Run(name, func(t *testing.T) {
			pion, other := choose(t)
			if _, err := other.Write([]byte("by pion")); err != nil {
				t.Fatal(err)
			}
			taken := take(t, other)
			if _, err := other.Write([]byte("and once more")); err != nil {
				t.Fatal(err)
			}
			if err := taken.Succeed(other); err != nil {
				t.Fatal(err)
			}
			wants(t, pion, "by pion", "and once more")
			out := sealed(t, taken, TypeApplication, "taken over")
			if (out[0] == TypeCID) != (len(taken.peer) > 0) {
				t.Errorf("a record of type %d for a connection ID of %d bytes", out[0], len(taken.peer))
			}
			conn, err := net.Dial("udp", pion.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(out); err != nil {
				t.Fatal(err)
			}
			wants(t, pion, "taken over")
		})
	}
}

// wants reads texts from conn.
func wants(t *testing.T, conn *dtls.Conn, texts ...string) {
	t.Helper()
	buf := make([]byte, 100)
	for _, want := range texts {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("Read() = %q, %v; want %q", buf[:n], err, want)
		}
	}
}

// A record is opened once, in any order within the window, by who has its key.
func TestReplays(t *testing.T) {
	c, s := ends(t, 4)
	client, server := take(t, c), take(t, s)
	var records [][]byte
	for range 200 {
		records = append(records, sealed(t, client, TypeApplication, "x"))
	}
	for _, step := range []struct {
		name   string
		record int
		err    error
		latest bool
	}{
		{"later than the first", 10, nil, true},
		{"the first, late", 0, nil, false},
		{"the first again", 0, ErrReplayed, false},
		{"the newest again", 10, ErrReplayed, false},
		{"between them", 5, nil, false},
		{"far ahead", 150, nil, true},
		{"at the window's edge", 150 - 63, nil, false},
		{"at the window's edge again", 150 - 63, ErrReplayed, false},
		{"outside of the window", 150 - 64, ErrReplayed, false},
		{"one ahead", 151, nil, true},
		{"outside by now", 151 - 64, ErrReplayed, false},
	} {
		if kind, err := server.Peek(records[step.record]); err != step.err || err == nil && kind != TypeApplication {
			t.Errorf("%s: Peek() = %d, %v; want %v", step.name, kind, err, step.err)
		}
		if _, _, latest, err := opened(server, records[step.record]); err != step.err || latest != step.latest {
			t.Errorf("%s: Open() = %v, %v; want %v, %v", step.name, latest, err, step.latest, step.err)
		}
	}
}

// A byte that was changed anywhere spoils a record, and it marks nothing.
func TestForgeries(t *testing.T) {
	c, s := ends(t, 4)
	client, server := take(t, c), take(t, s)
	good := sealed(t, client, TypeApplication, "the address")
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if content, _, _, err := opened(server, bad); err == nil {
			t.Errorf("byte %d changed: Open() = %q", i, content)
		}
	}
	if other := sealed(t, server, TypeApplication, "back at itself"); len(other) > 0 {
		other = append(bytes.Clone(good[:fixed+8]), other[fixed:]...)
		if _, _, _, err := opened(server, other); err == nil {
			t.Error("the server opened its own record")
		}
	}
	if _, _, _, err := opened(server, good); err != nil {
		t.Errorf("the good one after the bad ones: %v", err)
	}
}

// Sequence numbers never come round: a nonce is used once.
func TestUsedUp(t *testing.T) {
	c, s := ends(t, 4)
	client, server := take(t, c), take(t, s)
	client.number = 1<<48 | numberMost - 1
	if _, _, _, err := opened(server, sealed(t, client, TypeApplication, "the last")); err != nil {
		t.Errorf("the last record: %v", err)
	}
	if _, err := client.Seal(nil, TypeApplication, nil); !errors.Is(err, ErrUsedUp) {
		t.Errorf("Seal() after the last record: %v; want ErrUsedUp", err)
	}
}

func TestAllocations(t *testing.T) {
	c, s := ends(t, 4)
	client, server := take(t, c), take(t, s)
	buf := make([]byte, 0, 2048)
	text := make([]byte, 100)
	if n := testing.AllocsPerRun(1000, func() {
		buf, _ = client.Seal(buf[:0], TypeApplication, text)
		r, _, _ := Split(buf, server.own)
		if _, _, _, err := server.Open(r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a record sealed and opened", n)
	}
}

// fixedSession is one whose keys are known, which opens what it seals.
func fixedSession(f *testing.F) *Session {
	aead, err := gcm(make([]byte, keyLength))
	if err != nil {
		f.Fatal(err)
	}
	return &Session{seal: aead, open: aead, own: 8, peer: make([]byte, 8), number: 1 << 48, newest: 1 << 48}
}

// FuzzOpen: what comes from the network in a record's place does no harm, what
// is opened is sealed to the same again, and what is sealed is opened.
func FuzzOpen(f *testing.F) {
	ours := *fixedSession(f)
	one := sealed(f, &ours, TypeApplication, "a message")
	f.Add(one)
	f.Add(append(bytes.Clone(one), sealed(f, &ours, TypeAlert, "\x01\x00")...))
	f.Add(one[:len(one)-1])
	f.Add([]byte{TypeCID, 0xfe, 0xfd, 0, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := *fixedSession(f)
		for rest := bytes.Clone(data); len(rest) > 0; {
			r, more, ok := Split(rest, s.own)
			if !ok {
				break
			}
			rest = more
			whole := bytes.Clone(r)
			content, kind, _, err := s.Open(r)
			if err != nil {
				continue
			}
			if _, _, _, err := s.Open(bytes.Clone(whole)); err != ErrReplayed {
				t.Fatalf("opened twice: %v", err)
			}
			again := *fixedSession(f)
			again.number, again.peer = s.newest, CID(whole, s.own)
			if got := sealed(t, &again, kind, string(content)); len(whole) == len(got) && bytes.Equal(whole[fixed+8+2:][:explicitNonce], got[fixed+8+2:][:explicitNonce]) &&
				s.newest>>48 == 1 && !bytes.Equal(got[fixed:], whole[fixed:]) {
				t.Fatalf("%x was opened, and sealed to %x", whole, got)
			}
		}
		s = *fixedSession(f)
		content := data[:min(len(data), 1500)]
		got, kind, _, err := opened(&s, sealed(t, &s, TypeApplication, string(content)))
		if err != nil || kind != TypeApplication || got != string(content) {
			t.Fatalf("sealed %x, opened %x of type %d, %v", content, got, kind, err)
		}
	})
}
