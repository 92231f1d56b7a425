// Package mirror tells whoever asks from where its datagram seemed to come: a STUN
// server (RFC 8489) that answers Bindings and nothing else, on two ports. A phone
// asks both from the socket of its sound, and tells the other phone, or the page that
// calls, what it was answered; a page asks one, and tells the phone. Two different answers
// are a NAT that gives each destination a port of its own (RFC 5780, section 4.3).
//
// It knows the Binding request and one answer. It refuses to know who asks, and keeps
// nothing of it but how often a network did.
//
// # Why it is worth no flood
//
// An answer is 12 bytes longer than the shortest question, or 24 by IPv6, and a
// network gets a few dozen a second: whoever forges its source wins nothing. What is
// no plain question gets no answer at all, not even an error.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/storing-server/internal/sockets"
	"flexphone/storing-server/internal/trust"
)

const (
	// rate and burst are of the questions of one network: a call is about four, and
	// behind one address may be a whole company.
	rate, burst = 50, 200
	// longest is more than anybody has to ask.
	longest = 548
)

// What becomes of a datagram.
const (
	Answered  = "answered"
	Malformed = "malformed" // no Binding request, or one that wants more
	TooOften  = "rate"      // its network has asked too often
)

// Options say where a Server listens.
type Options struct {
	Listen string // host:port, UDP; the second port is the next one, or any where this is 0
	Exempt trust.Exempt
	// Count is called with what became of each datagram.
	Count func(result string)
}

// A Server answers on two ports.
type Server struct {
	conns  [2]*net.UDPConn
	asked  [2]*sockets.Sources
	exempt trust.Exempt
	limit  *trust.Limiter[trust.Network]
	count  func(result string)
}

// Listen opens both ports.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{exempt: o.Exempt, limit: trust.NewLimiter[trust.Network](rate, burst), count: o.Count}
	at := o.Listen
	for i := range s.conns {
		conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("mirror: listen on UDP %s: %w", at, err)
		}
		s.conns[i] = conn.(*net.UDPConn)
		if s.asked[i], err = sockets.SourcesOf(s.conns[i]); err != nil {
			s.Close()
			return nil, fmt.Errorf("mirror: %w", err)
		}
		if at, err = next(o.Listen); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// next is the address with the port above it; 0 stays.
func next(address string) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("mirror: listen: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 65535 {
		return "", fmt.Errorf("mirror: listen on UDP %s: there has to be a port above it", address)
	}
	if port > 0 {
		port++
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}

// Ports returns both ports.
func (s *Server) Ports() (ports [2]uint16) {
	for i, c := range s.conns {
		ports[i] = uint16(c.LocalAddr().(*net.UDPAddr).Port)
	}
	return ports
}

// Addr returns where the first port is.
func (s *Server) Addr() net.Addr { return s.conns[0].LocalAddr() }

// Close gives the ports back.
func (s *Server) Close() {
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
}

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.Close)()
	var failed [2]error
	var all sync.WaitGroup
	for i, c := range s.conns {
		all.Go(func() {
			defer s.Close() // one without the other shows no NAT
			failed[i] = s.serve(c, s.asked[i])
		})
	}
	all.Wait()
	return errors.Join(failed[:]...)
}

func (s *Server) serve(c *net.UDPConn, asked *sockets.Sources) error {
	b, info := make([]byte, longest+1), make([]byte, sockets.ControlRoom)
	var in, out stun.Message
	for {
		n, k, _, from, err := c.ReadMsgUDPAddrPort(b, info)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("mirror: read: %w", err)
		}
		network := trust.NetworkOf(from.Addr())
		if !s.exempt.Has(network) && !s.limit.Allow(network, time.Now()) {
			s.count(TooOften)
			continue
		}
		if !answer(&out, &in, b[:n], from) {
			s.count(Malformed)
			continue
		}
		s.count(Answered)
		_ = sockets.Answer(c, out.Raw, from, asked.Of(info[:k])) // what is lost is asked again
	}
}

// answer makes the answer to b, which came from from, in out; in is for reading.
// It reports whether b deserves one.
func answer(out, in *stun.Message, b []byte, from netip.AddrPort) bool {
	if len(b) > longest || !stun.IsMessage(b) {
		return false
	}
	in.Raw = append(in.Raw[:0], b...)
	if in.Decode() != nil || int(in.Length) != len(b)-20 || in.Type != stun.BindingRequest {
		return false
	}
	marked := in.Contains(stun.AttrFingerprint)
	if marked && stun.Fingerprint.Check(in) != nil {
		return false
	}
	for _, a := range in.Attributes {
		if a.Type.Required() && !known(a.Type) {
			return false
		}
	}
	out.Reset()
	out.TransactionID = in.TransactionID
	out.SetType(stun.BindingSuccess)
	out.WriteHeader()
	if (stun.XORMappedAddress{IP: from.Addr().Unmap().AsSlice(), Port: int(from.Port())}).AddTo(out) != nil {
		return false
	}
	return !marked || stun.Fingerprint.AddTo(out) == nil
}

// known reports whether an attribute that a server has to understand may be passed
// over: who shows credentials where none are wanted is answered without.
func known(t stun.AttrType) bool {
	switch t {
	case stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrPriority:
		return true
	}
	return false
}
