package web

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"testing"
	"time"
)

// The server's own certificate lasts over restarts, and is made anew before its
// end while the server runs, and when a clock that was ahead had made it.
func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var said bytes.Buffer
	open := func() *ownCertificate {
		t.Helper()
		o, err := openOwn(dir, func() time.Time { return now }, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	shown := func(o *ownCertificate) string {
		t.Helper()
		c, err := o.get(&tls.ClientHelloInfo{})
		if err != nil || now.Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter) {
			t.Errorf("at %v: %v, from %v to %v", now, err, c.Leaf.NotBefore, c.Leaf.NotAfter)
		}
		return o.fingerprint()
	}
	o := open()
	first := shown(o)
	now = now.Add(certificateLife - certificateSpare - time.Hour)
	if shown(o) != first || shown(open()) != first {
		t.Error("it is made anew before it has to be")
	}
	now = now.Add(2 * time.Hour)
	second := shown(o)
	if second == first || !bytes.Contains(said.Bytes(), []byte(second)) {
		t.Errorf("a month before its end: %s, as before; the log says %s", second, said.Bytes())
	}
	if shown(o) != second || shown(open()) != second {
		t.Error("it is made anew more than once")
	}
	now = now.AddDate(-3, 0, 0)
	if third := shown(open()); third == second {
		t.Error("one of the future is shown")
	}
}
