package sip

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

const (
	agentName         = "Flexphone"
	maxPending        = 8    // incoming calls that nobody has answered yet, of each class
	maxPendingPerHost = 4    // of those over TLS whose key is not known, from one host
	maxKept           = 128  // transactions of calls to us that are kept, of each class
	maxKeptPerCall    = 128  // and of the requests in one of them
	longPacket        = 1300 // bytes: a longer request goes over TCP (RFC 3261, 18.1.1)
	stopTime          = 2 * time.Second
	streamIdle        = 10 * time.Minute // of plain TCP; a call reconnects when it needs to
)

// ErrStopped is returned when the agent no longer runs.
var ErrStopped = errors.New("sip: agent is stopped")

// A Config is what an agent needs to know.
type Config struct {
	// Identity is the device certificate (Ed25519, self-signed). It is shown
	// to every phone that we have a TLS connection with. Needed unless
	// SIPSPort is 0 and no Target has a Pin.
	Identity tls.Certificate
	// Owns tells whether a user part of a request URI is ours; calls to
	// others are answered 404. Nil: all are ours. It is called concurrently.
	Owns func(user string) bool
	// User is our own user part: the 12 hex digits of the MAC.
	User string
	// DisplayName is shown to peers beside User, such as the short number.
	// Nil or empty: nothing is. It is called concurrently.
	DisplayName func() string
	// Answerable tells whether an offer, which came from the host from, over TLS
	// if secure, can be answered at all. One that cannot is refused before anybody is rung: 400 for
	// ErrDescription, 488 for every other error. Nil: all can. It is called
	// concurrently.
	Answerable func(offer []byte, from netip.Addr, secure bool) error
	// Listen is the address to listen at. The zero Addr means all of them.
	Listen netip.Addr
	// SIPPort (usually 5060, UDP and TCP) and SIPSPort (5061, TLS); 0 does
	// not listen. Without SIPPort there are no calls without a Pin.
	SIPPort, SIPSPort uint16
	// AnyPort takes ports that the kernel chooses instead of those above.
	AnyPort bool
	// Relay connects with phones that cannot be reached at their address, and takes the
	// connections of those that cannot reach us. Nil: nobody does.
	Relay Relay
	// AddressFor is our address for a peer at that one, of whatever family: the kernel
	// knows none where no route leads there. Nil: it is not known. It is called concurrently.
	AddressFor func(peer netip.Addr) netip.Addr
	// Acquainted tells whether a relayed call of the phone with that key may ring; others
	// are answered 403. Nil: all may. It is called concurrently.
	Acquainted func(key [32]byte) bool
	// Panicked is told of each panic: in what, its cause, the stack. It has cost
	// one call or one request, and is in the log. Nil: nobody else is told. It is
	// called concurrently.
	Panicked func(what string, cause any, stack []byte)
	// Trace is told of each message that comes or goes, whole and in the clear, by
	// whom or to whom. Nil: nobody is. It is called concurrently, and may not keep
	// the message. What streams carry it is told of for the whole process by the
	// first agent that has one.
	Trace func(sent bool, with netip.AddrPort, message []byte)
	// Log gets what matters at Info and everything else at Debug. Nil: nothing.
	Log *slog.Logger

	timers timers // zero: the standard ones
}

// An Agent makes and takes calls.
type Agent struct {
	cfg  Config
	log  *slog.Logger
	udp  *packets // nil: no plain SIP
	tcp  *guard
	tls  *links
	tp   *gosip.TransportLayer
	txl  *gosip.TransactionLayer
	sip  netip.AddrPort
	sips netip.AddrPort

	secret   [32]byte // of firstTag
	incoming chan *Call
	start    chan *Call
	stopping chan struct{} // closed when Run ends

	mu    sync.Mutex
	calls map[dialogID]*Call

	kept   [classes]*count
	known  *acquaintances
	screen *screen
}

// A dialogID finds the call of a request. The peer's tag is compared then.
type dialogID struct{ callID, localTag string }

// tuneSipgo sets what sipgo keeps for the whole process. Long responses go
// over UDP, as they must (RFC 3261, 18.2.2); it would refuse packets over 1300
// bytes in both directions, while for requests begin decides. And what it says
// outside the loggers that it is given is about its own reference counts.
var tuneSipgo = sync.OnceFunc(func() {
	gosip.UDPMTUSize = 65535
	gosip.SetDefaultLogger(slog.New(slog.DiscardHandler))
})

// NewAgent opens the ports of an agent. Run has to be called to serve and at
// the end to close them.
func NewAgent(cfg Config) (*Agent, error) {
	tuneSipgo()
	a := &Agent{
		cfg: cfg, log: cfg.Log,
		incoming: make(chan *Call, int(classes)*maxPending),
		start:    make(chan *Call),
		stopping: make(chan struct{}),
		calls:    make(map[dialogID]*Call),
		known:    newAcquaintances(),
	}
	for i := range a.kept {
		a.kept[i] = &count{most: maxKept}
	}
	if a.cfg.timers == (timers{}) {
		a.cfg.timers = standard()
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Trace != nil {
		traceStreams(cfg.Trace)
	}
	rand.Read(a.secret[:]) // never fails (crypto/rand)
	if err := a.listen(); err != nil {
		a.close()
		return nil, err
	}
	a.screen = newScreen(a)
	quiet := slog.New(demoted{a.log.Handler()})
	refuseDial := &gosip.TransportTLS{TransportTCP: &gosip.TransportTCP{
		DialerCreate: func(net.Addr) net.Dialer { return net.Dialer{Deadline: time.Unix(1, 0)} }, // only links dials TLS
	}}
	plain := &gosip.TransportTCP{
		ReadTimeout: streamIdle, WriteTimeout: a.cfg.timers.connect,
		DialerCreate: func(local net.Addr) net.Dialer {
			return net.Dialer{Timeout: a.cfg.timers.connect, LocalAddr: local}
		},
	}
	// Names in Via are the sender's choice; nothing is looked up for them.
	noNames := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("sip: names are not looked up")
	}}
	a.tp = gosip.NewTransportLayer(noNames, gosip.NewParser(gosip.WithHeadersParsers(a.parsers())), &tls.Config{MinVersion: tls.VersionTLS13},
		gosip.WithTransportLayerLogger(quiet),
		gosip.WithTransportLayerReadFilter(a.screen.read),
		gosip.WithTransportLayerTransports(gosip.TransportsConfig{TCP: plain, TLS: refuseDial}))
	a.tp.OnMessage(a.overhear) // before the transactions hear of it
	a.txl = gosip.NewTransactionLayer(a.tp,
		gosip.WithTransactionLayerLogger(quiet),
		gosip.WithTransactionLayerUnhandledResponseHandler(func(*gosip.Response) {}))
	a.txl.OnRequest(a.serve)
	if a.udp != nil {
		a.udp.serve = a.tp.ServeUDP
	}
	return a, nil
}

func (a *Agent) listen() error {
	at := a.cfg.Listen
	if !at.IsValid() {
		at = netip.IPv6Unspecified()
		if probe, err := net.Listen("tcp", "[::]:0"); err != nil { // a kernel without IPv6
			at = netip.IPv4Unspecified()
		} else {
			probe.Close()
		}
	}
	port := func(p uint16) netip.AddrPort {
		if a.cfg.AnyPort {
			p = 0
		}
		return netip.AddrPortFrom(at, p)
	}
	if a.cfg.SIPPort != 0 {
		udp, tcp, err := listenPlain(port(a.cfg.SIPPort))
		if err != nil {
			return err
		}
		a.tcp = newGuard(tcp, a.cfg.timers.stall)
		a.sip = addrPortOf(udp.LocalAddr())
		if a.udp, err = newPackets(udp, a.unreachable); err != nil {
			return err
		}
		a.udp.trace = a.cfg.Trace
	}
	var l net.Listener
	if a.cfg.SIPSPort != 0 {
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(port(a.cfg.SIPSPort)))
		if err != nil {
			return fmt.Errorf("sip: listen on TLS %v: %w", port(a.cfg.SIPSPort), err)
		}
		l, a.sips = newGuard(tcp, a.cfg.timers.stall), addrPortOf(tcp.Addr())
	}
	a.tls = newLinks(a.cfg.Identity, l, a.cfg.Relay, a.cfg.timers, a.known, a.log)
	return nil
}

// SIPAddr is where UDP and TCP listen; invalid if they do not.
func (a *Agent) SIPAddr() netip.AddrPort { return a.sip }

// SIPSAddr is where TLS listens; invalid if it does not.
func (a *Agent) SIPSAddr() netip.AddrPort { return a.sips }

// Run serves until ctx is done, then ends all calls, which takes two seconds
// at most, and closes the ports. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	var servers, calls sync.WaitGroup
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if a.udp != nil {
		a.udp.begin()
		servers.Go(a.udp.readers.Wait)
		servers.Go(func() { _ = a.tp.ServeTCP(a.tcp) }) // ends with its listener, as it should
	}
	if a.tls.tcp != nil {
		servers.Go(func() { a.tls.accept(serving, a.tls.tcp) })
	}
	if a.cfg.Relay != nil {
		servers.Go(func() { a.tls.by.take(serving, a.cfg.Relay, a.log) })
		servers.Go(func() { a.tls.accept(serving, newGuard(a.tls.by, a.cfg.timers.stall)) })
	}
	servers.Go(func() { _ = a.tp.ServeTLS(a.tls) }) // likewise
	for ctx.Err() == nil {
		select {
		case c := <-a.start:
			calls.Go(func() {
				defer a.contain("call", nil)
				c.run(ctx)
			})
		case <-ctx.Done():
		}
	}
	close(a.stopping)
	calls.Wait()
	stop()
	a.close()
	servers.Wait()
	a.txl.Close()
	_ = a.tp.Close() // what it complains about has been closed already
	return nil
}

func (a *Agent) close() {
	if a.udp != nil {
		a.udp.Close()
	}
	if a.tcp != nil {
		a.tcp.Close()
	}
	if a.tls != nil {
		if a.tls.tcp != nil {
			a.tls.tcp.Close()
		}
		a.tls.by.Close()
		a.tls.Close()
	}
}

// Incoming waits for the next call to us. It has been answered 100 Trying, and
// ends by itself if the caller gives up.
func (a *Agent) Incoming(ctx context.Context) (*Call, error) {
	select {
	case c := <-a.incoming:
		return c, nil
	case <-a.stopping:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Invite starts a call. What becomes of it is told by the call's events; an
// error means that t or lm makes no sense, or that the agent does not run.
// The end of ctx does not end the call.
func (a *Agent) Invite(ctx context.Context, t Target, lm LocalMedia) (*Call, error) {
	if !t.Addr.IsValid() || t.Addr.Port() == 0 || t.Addr.Addr().IsUnspecified() {
		return nil, fmt.Errorf("sip: invite %q: no address", t.User)
	}
	if strings.ContainsFunc(t.User, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`@<>"?;:%\,`, r)
	}) {
		return nil, fmt.Errorf("sip: invite %q: not a user part", t.User)
	}
	if t.Pin == [32]byte{} && a.udp == nil {
		return nil, fmt.Errorf("sip: invite %q: plain SIP is off", t.User)
	}
	c := newOutgoing(a, t, lm)
	a.add(c)
	if err := a.launch(c, ctx.Done()); err != nil {
		a.remove(c)
		return nil, fmt.Errorf("sip: invite %q: %w", t.User, err)
	}
	return c, nil
}

// launch gives the call to Run, which owns its goroutine, unless enough comes
// first.
func (a *Agent) launch(c *Call, enough <-chan struct{}) error {
	select {
	case a.start <- c:
		return nil
	case <-a.stopping:
		return ErrStopped
	case <-enough:
		return context.Canceled
	}
}

func (a *Agent) add(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[c.id] = c
}

func (a *Agent) remove(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, c.id)
}

func (a *Agent) find(callID, localTag string) *Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[dialogID{callID, localTag}]
}

// unreachable tells the calls that wait for an answer that none will come.
func (a *Agent) unreachable(l loss) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		c.box.post(func(context.Context) { c.gone(l) })
	}
}

func (a *Agent) displayName() string {
	if a.cfg.DisplayName == nil {
		return ""
	}
	return strings.NewReplacer(`"`, "", `\`, "").Replace(shown(a.cfg.DisplayName()))
}

func (a *Agent) owns(user string) bool { return a.cfg.Owns == nil || a.cfg.Owns(user) }

// token is a random text for tags and Call-IDs.
func token() string { return rand.Text() }
