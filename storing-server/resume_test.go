package main

import (
	"syscall"
	"testing"

	"flexphone/registry-client/wire"
)

// A server that is stopped and started again knows its phones: none of them has
// to shake hands, though its first announcement comes after that.
func TestSessionsResumed(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, "127.0.0.1:0")
	c, tap := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	before, err := c.Alive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := p.listen
	for restart := range uint64(3) {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.log.Wait()
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("stopped: %v", err)
		}
		p = startProcess(t, dir, at)
		sent := tap.sent.Load()
		if _, err := c.Register(t.Context(), announcement(phoneMAC(1), restart+2, "192.0.2.2")); err != nil {
			t.Fatal(err)
		}
		session, err := c.Alive(t.Context())
		if err != nil || session != before || tap.sent.Load() != sent+1 {
			t.Errorf("after restart %d: session %d, %v, %d datagrams; want session %d and one", restart, session, err, tap.sent.Load()-sent, before)
		}
		if row, err := c.Resolve(t.Context(), wire.Query{Number: "101"}); err != nil || row.Sequence != restart+2 {
			t.Errorf("row %+v, %v", row, err)
		}
	}
	p.kill()
}
