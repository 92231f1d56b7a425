package pairs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/sockets"
	"flexphone/storing-server/internal/trust"
)

// Options say where a Server listens.
type Options struct {
	Listen string // host:port, UDP
	Loops  int    // goroutines that forward, one at the least
	// Count is called with what became of each datagram, and how long it was.
	Count func(v Verdict, bytes int)
}

// A Server is the one port of a Relay.
type Server struct {
	relay *Relay
	conn  *net.UDPConn
	asked *sockets.Sources
	limit *trust.Limiter[trust.Network] // of passes that are shown
	o     Options
}

const (
	// showRate and showBurst are of what looks like a showing from one network: a call
	// shows its pass every few seconds, and each costs a hash.
	showRate, showBurst = 100, 400
	// longest is more than a link carries in one piece: what is longer loses its end, and
	// with that its authenticity.
	longest = 2048
	// room is for the packets of a thousand calls that come in 50 ms.
	room = 4 << 20
)

// Listen opens the port of r.
func Listen(ctx context.Context, r *Relay, o Options) (*Server, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("pairs: listen on UDP %s: %w", o.Listen, err)
	}
	asked, err := sockets.SourcesOf(conn.(*net.UDPConn))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("pairs: %w", err)
	}
	s := &Server{relay: r, conn: conn.(*net.UDPConn), asked: asked, limit: trust.NewLimiter[trust.Network](showRate, showBurst), o: o}
	_ = s.conn.SetReadBuffer(room) // the kernel may give less
	return s, nil
}

// Addr returns where it listens.
func (s *Server) Addr() net.Addr { return s.conn.LocalAddr() }

// Port returns its port.
func (s *Server) Port() uint16 { return uint16(s.conn.LocalAddr().(*net.UDPAddr).Port) }

// Close gives the port back.
func (s *Server) Close() { s.conn.Close() }

// Serve forwards until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.Close)()
	var all sync.WaitGroup
	failed := make([]error, max(1, s.o.Loops))
	for i := range failed {
		all.Go(func() {
			defer s.Close()
			failed[i] = s.forward()
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func (s *Server) forward() error {
	out, err := sending(s.conn)
	if err != nil {
		return fmt.Errorf("pairs: %w", err)
	}
	four := s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Is4()
	var drafts [most]Draft // what is answered is kept until it is sent
	var in *batch
	in, err = receiving(s.conn, s.asked, s.o.Loops <= 1, func(n int) {
		now := time.Now()
		for i := range n {
			b, from := in.datagram(i)
			if len(b) > 0 && b[0] <= 3 && !s.limit.Allow(trust.NetworkOf(from.At.Addr()), now) {
				s.o.Count(TooMuch, len(b))
				continue
			}
			answer, to, v := s.relay.Take(&drafts[i], b, from, now)
			s.o.Count(v, len(b))
			if answer != nil && (!four || to.At.Addr().Is4()) {
				out.put(answer, to, four)
			}
		}
		out.flush()
	})
	if err != nil {
		return fmt.Errorf("pairs: %w", err)
	}
	for {
		switch err := in.receive(); {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && !errors.Is(err, unix.ECONNREFUSED): // which is of something that was sent
			return fmt.Errorf("pairs: receive: %w", err)
		}
	}
}
