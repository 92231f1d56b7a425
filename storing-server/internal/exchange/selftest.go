package exchange

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// selfTestMost bounds a self-test, also on a machine that is very busy.
const selfTestMost = 30 * time.Second

// SelfTest shakes hands with a server of its own on a loopback port, and makes
// two requests: one that pion/dtls sees, and one after the session was taken
// over from it. A handshake here writes a cookie into pion's memory, and reads
// keys from its serialised state: neither is part of what it promises, so
// another version may have them elsewhere. Without this it would be the phones
// that find out.
func SelfTest(ctx context.Context) error {
	if err := selfTest(ctx); err != nil && ctx.Err() == nil { // else who started it has no use for it any more
		return fmt.Errorf("exchange: shake hands with itself: %w (this program was built with pion/dtls %s, whose memory may not be as this program knows it: build it with the version of its go.mod)", err, versionOf("github.com/pion/dtls/v3"))
	}
	return nil
}

func selfTest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, selfTestMost)
	defer cancel()
	cert, err := passing()
	if err != nil {
		return err
	}
	l := LimitsFor(0)
	l.Loops = 1
	s, err := Listen(ctx, "127.0.0.1:0", cert, nobody{}, l, silent{}, nil)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(serving) }()
	defer func() {
		stop()
		<-done
	}()
	for _, options := range [][]dtls.ClientOption{{dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator())}, nil} {
		if err := s.tryWith(ctx, cert, options); err != nil {
			return err
		}
	}
	return nil
}

// tryWith shakes hands and has two pings answered.
func (s *Server) tryWith(ctx context.Context, cert tls.Certificate, options []dtls.ClientOption) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer conn.Close()
	c, err := dtls.ClientWithOptions(conn, s.Addr(), append([]dtls.ClientOption{
		dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true), // it is itself
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
	}, options...)...)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	for id := range int32(2) {
		if err := pinged(ctx, c, id); err != nil {
			return err
		}
	}
	return nil
}

// pinged sends one ping, again until it is answered.
func pinged(ctx context.Context, c *dtls.Conn, id int32) error {
	ping, err := wire.EncodeMessage(message.Message{Type: message.Confirmable, MessageID: id})
	if err != nil {
		return err
	}
	buf := make([]byte, maxDatagram)
	for ctx.Err() == nil {
		if _, err := c.Write(ping); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(ackTimeout)); err != nil {
			return err
		}
		n, err := c.Read(buf)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			continue
		}
		if err != nil {
			return err
		}
		if m, err := wire.DecodeMessage(buf[:n]); err == nil && m.Type == message.Reset && m.MessageID == id {
			return nil
		}
	}
	return errors.New("no answer in the session")
}

// passing returns the certificate of a key that is forgotten afterwards.
func passing() (tls.Certificate, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	u, err := url.Parse(wire.MAC{2, 0, 0, 0, 0, 1}.URN())
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), URIs: []*url.URL{u}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// versionOf returns which version of a module is built in.
func versionOf(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "of an unknown version"
}

// nobody knows nothing.
type nobody struct{}

// Serve implements Handler.
func (nobody) Serve(Request) (Response, func(func(Response))) {
	return Response{Code: codes.NotFound}, nil
}

// Look implements Handler.
func (nobody) Look(Peer, wire.Query) Response { return Response{Code: codes.NotFound} }

// silent counts nothing.
type silent struct{}

// Session implements Counters.
func (silent) Session(int) {}

// Handshake implements Counters.
func (silent) Handshake(bool) {}

// Dropped implements Counters.
func (silent) Dropped(string) {}

// Notified implements Counters.
func (silent) Notified() {}
