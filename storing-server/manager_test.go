package main

import (
	"net"
	"path/filepath"
	"testing"
)

// A service manager that asks for it is told; without one nothing is done.
func TestTellManager(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", at)
	if err := tellManager("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("told %q, %v", buf[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", at+"-that-is-not-there")
	if err := tellManager("READY=1"); err == nil {
		t.Error("a manager that is not there was told")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellManager("READY=1"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}
