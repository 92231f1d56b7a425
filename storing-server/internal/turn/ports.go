package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"
)

// A generator makes the ports by which phones are spoken to.
type generator struct{ s *Server }

// Validate implements pion.RelayAddressGenerator.
func (g *generator) Validate() error { return nil }

// AllocatePacketConn implements pion.RelayAddressGenerator: a port on the address by which
// this machine reaches the phone.
func (g *generator) AllocatePacketConn(c pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	to, ok := g.s.calls(c.UserID)
	if !ok {
		return nil, nil, errors.New("turn: allocate: the time of the name is over")
	}
	for _, a := range g.s.places(to) {
		if a.Is4() != (c.Network == "udp4") {
			continue
		}
		route, err := net.DialUDP(c.Network, nil, &net.UDPAddr{IP: a.AsSlice(), Port: anyPort, Zone: a.Zone()})
		if err != nil {
			continue // there is none
		}
		own := route.LocalAddr().(*net.UDPAddr).IP
		route.Close()
		conn, err := net.ListenUDP(c.Network, &net.UDPAddr{IP: own})
		if err != nil {
			return nil, nil, fmt.Errorf("turn: allocate: %w", err)
		}
		return &limited{PacketConn: conn, now: g.s.o.Now, left: burst}, conn.LocalAddr(), nil
	}
	return nil, nil, errors.New("turn: allocate: the phone has no such address")
}

// anyPort is one of the phone, to which nothing is sent: its address has a route, or none.
const anyPort = 9

var errTCP = errors.New("turn: allocate: only UDP is forwarded")

// AllocateListener implements pion.RelayAddressGenerator.
func (g *generator) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errTCP
}

// AllocateConn implements pion.RelayAddressGenerator.
func (g *generator) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) { return nil, errTCP }

// limited is a port by which no more goes than is allowed: the rest is lost.
type limited struct {
	net.PacketConn
	now func() time.Time

	mu   sync.Mutex
	left float64 // bytes
	last time.Time
}

func (l *limited) takes(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.last.IsZero() {
		l.left = min(burst, l.left+rate*now.Sub(l.last).Seconds())
	}
	l.last = now
	if l.left < float64(n) {
		return false
	}
	l.left -= float64(n)
	return true
}

// ReadFrom implements net.PacketConn.
func (l *limited) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err != nil || l.takes(n) {
			return n, from, err
		}
	}
}

// WriteTo implements net.PacketConn.
func (l *limited) WriteTo(b []byte, to net.Addr) (int, error) {
	if !l.takes(len(b)) {
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// quiet has what pion says in the log of details.
type quiet struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (q quiet) NewLogger(string) logging.LeveledLogger { return q }

func (q quiet) say(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("turn", "says", fmt.Sprintf(format, args...))
	}
}

func (q quiet) Trace(string)                      {}
func (q quiet) Tracef(string, ...any)             {}
func (q quiet) Debug(string)                      {}
func (q quiet) Debugf(string, ...any)             {}
func (q quiet) Info(m string)                     { q.say("%s", m) }
func (q quiet) Infof(format string, args ...any)  { q.say(format, args...) }
func (q quiet) Warn(m string)                     { q.say("%s", m) }
func (q quiet) Warnf(format string, args ...any)  { q.say(format, args...) }
func (q quiet) Error(m string)                    { q.say("%s", m) }
func (q quiet) Errorf(format string, args ...any) { q.say(format, args...) }
