package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/storing-server/internal/store"
)

// slow opens connections from a loopback address which begin a request and do
// not end it.
func slow(t *testing.T, host byte, at *net.TCPAddr, n int) (ended []chan struct{}) {
	t.Helper()
	for range n {
		c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = c.Write([]byte("GET / HT")) // it may be closed by then
		done := make(chan struct{})
		ended = append(ended, done)
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, c)
		}()
	}
	return ended
}

// asks makes one request from a loopback address.
func asks(t *testing.T, host byte, url string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := client.Get(url)
	if err != nil {
		t.Errorf("%s is asked for: %v", url, err)
		return
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(text) == 0 {
		t.Errorf("%s is asked for: %d %q, %v", url, resp.StatusCode, text, err)
	}
}

// starts runs a server until the test ends.
func starts(t *testing.T, serve func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// Whoever opens connections and says nothing, or not all of it, keeps nobody
// else out: not from one network, and not from so many that they have all. The
// oldest gives way.
func TestSlowSenders(t *testing.T) {
	_, rows := serve(t, 0)
	s, err := Listen(t.Context(), Options{Listen: "0.0.0.0:0", Dir: t.TempDir(), Rows: rows, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	starts(t, s.Serve)
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.listener.Addr().(*net.TCPAddr).Port}
	ended := slow(t, 3, at, connectionsEach+1)
	<-ended[0]
	select {
	case <-ended[connectionsEach]:
		t.Error("it was the newest that was closed, and not the oldest")
	default:
	}
	asks(t, 3, "https://"+at.String()+"/healthz")
	asks(t, 2, "https://"+at.String()+"/healthz")
	for host := range byte(12) {
		slow(t, 20+host, at, 50)
	}
	for range 5 {
		asks(t, 2, "https://"+at.String()+"/login")
		asks(t, 2, "https://"+at.String()+"/healthz")
	}
}

// prober says what it is told to.
type prober struct {
	unreachable atomic.Bool
	err         atomic.Pointer[error]
	probed      atomic.Int32
}

func (p *prober) Reachable() bool { return !p.unreachable.Load() }

func (p *prober) Probe(context.Context) error {
	p.probed.Add(1)
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

// A server that cannot write is not ready, says why, and is again when it can;
// whoever asks without end causes no writes without end.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &prober{}
		r := NewReadiness(p, slog.New(slog.NewTextHandler(&log, nil)))
		check := func(what string, want int, says string) {
			t.Helper()
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if w.Code != want || !strings.Contains(w.Body.String(), says) {
				t.Errorf("%s: %d %q; want %d with %q", what, w.Code, w.Body.String(), want, says)
			}
		}
		for range 100 {
			check("at first", http.StatusOK, "ok")
		}
		if n := p.probed.Load(); n != 1 {
			t.Errorf("%d writes for a hundred questions; want 1", n)
		}
		full := fmt.Errorf("write to /data: %w", store.ErrFull)
		p.err.Store(&full)
		time.Sleep(readyEvery)
		for range 3 {
			check("on a full disk", http.StatusServiceUnavailable, "nothing can be written: write to /data: the disk is full")
			time.Sleep(readyEvery)
		}
		p.err.Store(nil)
		check("with room again", http.StatusOK, "ok")
		p.unreachable.Store(true)
		time.Sleep(readyEvery)
		check("without a cluster", http.StatusServiceUnavailable, "no connection to the cluster")
		if n := strings.Count(log.String(), "not ready"); n != 2 || strings.Count(log.String(), "ready again") != 1 || !strings.Contains(log.String(), "the disk is full") {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

// Health has a port of its own, which answers while that of the pages has no
// connection left, and with nothing but health.
func TestHealth(t *testing.T) {
	p := &prober{}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a_metric 1") })
	h, err := ListenHealth(t.Context(), "127.0.0.1:0", metrics, NewReadiness(p, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	starts(t, h.Serve)
	at := h.Addr().(*net.TCPAddr)
	for host := range byte(10) {
		slow(t, 20+host, at, 20)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		asks(t, 2, "http://"+at.String()+path)
	}
	resp, err := http.Get("http://" + at.String() + "/login")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the pages are there too: %d", resp.StatusCode)
	}
}
