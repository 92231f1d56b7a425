package web

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// Whoever opens connections and says nothing keeps nobody else out.
func TestConnectionsOfOne(t *testing.T) {
	_, rows := serve(t, 0)
	s, err := Listen(t.Context(), Options{Listen: "0.0.0.0:0", Dir: t.TempDir(), Rows: rows, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	}()
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.listener.Addr().(*net.TCPAddr).Port}
	from := func(host byte) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)} }
	ended := make([]chan struct{}, connectionsEach+1)
	for i := range ended {
		c, err := net.DialTCP("tcp", from(3), at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ended[i] = make(chan struct{})
		go func() {
			defer close(ended[i])
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("connection %d is sent %d bytes", i, n)
			}
		}()
	}
	<-ended[connectionsEach]
	select {
	case <-ended[0]:
		t.Error("it was not one too many that was closed, but the first")
	default:
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: from(2)}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := client.Get("https://" + at.String() + "/healthz")
	if err != nil {
		t.Fatalf("another network: %v", err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok\n" {
		t.Errorf("another network: %q, %v", text, err)
	}
}
