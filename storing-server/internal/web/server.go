package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/quality"
	"flexphone/storing-server/internal/ring"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// Options say how a Server works.
type Options struct {
	Listen string           // TCP address
	Now    func() time.Time // nil: time.Now; of limits
	// Cert says which certificate of the operator's a connection is shown; nil:
	// one that the server signs itself, and on a loopback address no TLS.
	Cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Dir  string // the data folder, for that one
	// Proxied says that all requests come by a proxy, which names whom each is
	// of in X-Forwarded-For.
	Proxied bool
	Exempt  trust.Exempt // networks that may have all connections
	Rows    *store.Store
	Key     wire.Fingerprint // of this server, as regions name it; zero: all regions are others'
	// Calls returns what a phone has told of its last calls, newest first, and how many of
	// all went which way; nil: phones
	// are not heard.
	Calls   func(wire.MAC) ([]quality.Call, quality.Ways)
	Waiting *trust.Waiting // phones to be let in; nil: none is waited for
	// STUN is a port at which this host tells pages that call as what they are seen; 0: there
	// is none.
	STUN int
	// Relay gives a page what it needs to have a phone spoken to by TURN; nil: there is none.
	Relay  func(to wire.MAC) Relay
	Caller Caller       // brings calls from browsers to phones; nil: there are none
	Ring   *ring.Switch // brings calls of phones to browsers; nil: there are none
	// Metrics answers GET /metrics, and Ready GET /readyz.
	Metrics http.Handler
	Ready   *Readiness
	// Count is told of each request: which route it took, and its status.
	Count func(route string, status int)
	// Audit writes events to the audit log; nil: there is none.
	Audit func([]store.Event) error
	Log   *slog.Logger
}

const (
	connectionsMost = 512
	connectionsEach = 64       // of them from one network
	bodyMost        = 16 << 10 // bytes of a request's body
	headerMost      = 16 << 10
)

// How often somebody may guess the password: so many times at once, and then
// once in a while.
const (
	guessBurst = 5
	guessEvery = 20 * time.Second
)

// A Server answers the operator.
type Server struct {
	o        Options
	listener net.Listener
	own      *ownCertificate // nil: none
	logins   sessions
	guesses  *trust.Limiter[trust.Network]
	refusals *trust.Limiter[trust.Network] // that are logged
	calling  *trust.Limiter[trust.Network]
	opening  *trust.Limiter[trust.Network] // pages that are called
	each     *trust.Limiter[trust.Network] // refusals in the audit log
	all      *trust.Limiter[struct{}]
	// guessing is held by who has a password checked, since that costs memory.
	guessing sync.Mutex
	hub      hub
	ending   chan struct{}
	handler  http.Handler
}

// Listen opens the port. Nobody is answered before Serve.
func Listen(ctx context.Context, o Options) (*Server, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("web: listen on %s: %w", o.Listen, err)
	}
	s := newServer(o)
	at, ok := l.Addr().(*net.TCPAddr)
	local := ok && at.IP.IsLoopback()
	each := connectionsEach
	if local || o.Proxied {
		each = connectionsMost // all of them are the proxy's
	}
	s.listener = trust.NewConnections(connectionsMost, each, o.Exempt).GiveWay().Listener(l, nil)
	if o.Cert == nil && !local {
		if s.own, err = openOwn(o.Dir, time.Now, o.Log); err != nil {
			l.Close()
			return nil, err
		}
	}
	return s, nil
}

func newServer(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		o: o, logins: sessions{all: map[string]*session{}},
		guesses:  trust.NewLimiter[trust.Network](1/guessEvery.Seconds(), guessBurst),
		refusals: trust.NewLimiter[trust.Network](1/guessEvery.Seconds(), 1),
		calling:  trust.NewLimiter[trust.Network](1/callEvery.Seconds(), callBurst),
		opening:  trust.NewLimiter[trust.Network](1/openEvery.Seconds(), openBurst),
		each:     trust.NewLimiter[trust.Network](auditEach, auditBurst),
		all:      trust.NewLimiter[struct{}](auditAll, auditMost),
		hub:      hub{watchers: map[*watcher]struct{}{}}, ending: make(chan struct{}),
	}
	s.handler = s.routes()
	return s
}

// URL is where a browser on this machine finds the server.
func (s *Server) URL() string {
	scheme := "http"
	if s.encrypted() {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

// encrypted reports whether it is spoken to by TLS.
func (s *Server) encrypted() bool { return s.o.Cert != nil || s.own != nil }

// Fingerprint is the SHA-256 hash of the certificate that the server has signed
// itself, as browsers show it; empty: there is none.
func (s *Server) Fingerprint() string {
	if s.own == nil {
		return ""
	}
	return s.own.fingerprint()
}

// Changed tells open pages that these queries have other answers now. It does
// not block.
func (s *Server) Changed(qs []wire.Query) { s.hub.changed(qs) }

// Close gives up a server that does not serve.
func (s *Server) Close() { s.listener.Close() }

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	var secure *tls.Config
	if s.encrypted() {
		secure = &tls.Config{GetCertificate: s.o.Cert, MinVersion: tls.VersionTLS12}
		if s.own != nil {
			secure.GetCertificate = s.own.get
		}
	}
	return serveHTTP(ctx, s.listener, s.handler, secure, s.o.Log, func() { close(s.ending) })
}

// serveHTTP answers what comes to l until ctx is done, by TLS unless secure is
// nil. ending is called first when it ends; it may be nil.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, secure *tls.Config, log *slog.Logger, ending func()) error {
	srv := &http.Server{
		Handler: busy(h), MaxHeaderBytes: headerMost, TLSConfig: secure,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug), // handshakes that fail are the clients' affair
	}
	stop := context.AfterFunc(ctx, func() {
		if ending != nil {
			ending()
		}
		srv.Close()
	})
	defer stop()
	var err error
	if secure != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("web: serve: %w", err)
	}
	return nil
}

// connKey is the connection's in the context of a request.
type connKey struct{}

// busy lets a connection whose request is answered not give way to others.
func busy(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			defer trust.Busy(c)()
		}
		h.ServeHTTP(w, r)
	})
}

// routes are all that there is.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	health(mux, s.o.Metrics, s.o.Ready)
	s.pages(mux)
	s.api(mux)
	return s.guard(mux)
}

// The headers of every answer: nothing is loaded from elsewhere, nothing
// stands in another page's frame, no script is in a page itself, and nothing
// is kept.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// guard stands before every route.
func (s *Server) guard(mux *http.ServeMux) http.Handler {
	var origins http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		_, route := mux.Handler(r)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		r.Body = http.MaxBytesReader(rec, r.Body, bodyMost)
		if err := origins.Check(r); err != nil {
			http.Error(rec, "a request of another site is not answered", http.StatusForbidden)
		} else {
			mux.ServeHTTP(rec, r)
		}
		if s.o.Count != nil {
			s.o.Count(route, rec.status)
		}
	})
}

// A recorder knows the status that was answered.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
