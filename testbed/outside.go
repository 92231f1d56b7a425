package testbed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"flexphone/testbed/webdriver"
)

// LetIn lets browsers of the machine outside call phones of the bed, whose server has pages
// and a TURN port: pages and turn are listeners out there, turn one of that same port. It
// returns where the pages are. What it forwards ends with the Bed.
//
// Nothing else leads from that machine into the bed: no interface, address or route of it is
// made or changed. So a browser reaches a phone by TURN over TCP, and by that alone.
func (b *Bed) LetIn(pages, turn net.Listener) (site string, err error) {
	at, err := url.Parse(Site())
	if err != nil {
		return "", fmt.Errorf("testbed: let browsers in: %w", err)
	}
	h := b.Server.host
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.Transport = &http.Transport{DialContext: h.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it was made with the bed
	proxy.ErrorLog = log.New(io.Discard, "", 0)                                                                    // whoever asks reads it
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second, ErrorLog: proxy.ErrorLog}
	var all sync.WaitGroup
	all.Go(func() { _ = server.Serve(pages) }) // until it is closed
	f := &forwarder{to: netip.AddrPortFrom(serverAddress.Addr(), uint16(b.Server.turn)).String(), dial: h.dial, open: map[net.Conn]bool{}}
	all.Go(func() { f.serve(turn, &all) })
	b.onClose(func() error {
		err := errors.Join(server.Close(), turn.Close())
		f.close()
		all.Wait()
		return err
	})
	return "http://" + pages.Addr().String(), nil
}

// Outside is the link of Server.Link as a browser outside opens it, by the pages at site.
func Outside(link, site string) string { return site + strings.TrimPrefix(link, Site()) }

// AddBrowserOutside starts a browser on the machine outside, as AddBrowser does on a host: it
// is in the namespace of this program, and has no way into the bed but what is let in.
func (b *Bed) AddBrowserOutside(ctx context.Context, speech []int16) (*Browser, error) {
	dir := filepath.Join(b.Dir, "outside")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("testbed: start browser: %w", err)
	}
	w := &Browser{speech: speech[:len(speech)/fakeBuffer*fakeBuffer]}
	spoken := filepath.Join(dir, "speech.wav")
	if err := writeWAV(spoken, w.speech, speechRate); err != nil {
		return nil, err
	}
	driver, err := webdriver.Start(dir)
	if err != nil {
		return nil, err
	}
	b.onClose(func() error { driver.Stop(); return nil })
	if w.Browser, err = webdriver.Open(ctx, driver.URL, webdriver.Options{Profile: filepath.Join(dir, "profile"), Microphone: spoken}); err != nil {
		return nil, fmt.Errorf("testbed: %w", err)
	}
	b.onClose(func() error { // while it can still be driven
		w.Close(context.WithoutCancel(ctx))
		return nil
	})
	return w, nil
}

// A forwarder joins connections of the machine outside with those to a server of the bed.
type forwarder struct {
	to   string
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// serve takes connections until l is closed.
func (f *forwarder) serve(l net.Listener, all *sync.WaitGroup) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer f.drop(near)
			if !f.keep(near) {
				return
			}
			far, err := f.dial(context.Background(), "tcp", f.to)
			if err != nil {
				return
			}
			defer f.drop(far)
			if !f.keep(far) {
				return
			}
			var both sync.WaitGroup
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				both.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // until one of them is closed
					near.Close()
					far.Close()
				})
			}
			both.Wait()
		})
	}
}

// keep reports whether a connection may go on; it is closed with the others.
func (f *forwarder) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.open[c] = true
	}
	return !f.closed
}

func (f *forwarder) drop(c net.Conn) {
	c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.open {
		c.Close()
	}
}
