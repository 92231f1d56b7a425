package audio

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

type PacketConn = packetConn

// OpenOn opens a stream on sockets of the test.
func (e *Engine) OpenOn(r, c PacketConn, port uint16) *Stream { return e.open(r, c, port) }

// On returns an engine on a device that is always there.
func On(d Device, formats []Format, log *slog.Logger) *Engine {
	e := NewEngine(Config{Open: func() (Device, error) { return d, nil }, Formats: formats, Log: log})
	e.retune(d.Rate())
	return e
}

func (e *Engine) Tick(play, captured []int16) { e.tick(play, captured) }

func ListenPair(ctx context.Context, local netip.Addr, ports PortRange) (rtp, rtcp *net.UDPConn, port uint16, err error) {
	return listenPair(ctx, local, ports)
}

// A Reader is a stream's receiving end without its socket.
type Reader struct{ r reader }

func NewReader(s *Stream) *Reader { return &Reader{reader{stream: s}} }

func (r *Reader) Arrive(b []byte, from netip.AddrPort, now time.Time) { r.r.arrive(b, from, now) }

func (s *Stream) ArriveReport(b []byte, from netip.AddrPort, now time.Time) {
	s.arriveReport(b, from, now)
}

func (s *Stream) SSRC() uint32 {
	s.books.Lock()
	defer s.books.Unlock()
	return s.sent.SSRC
}
