package trust

import (
	"net"
	"testing"
)

// A network has so many connections at once, and all together have so many;
// whoever leaves makes room.
func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 8)
	open := NewConnections(3, 2)
	gate := open.Listener(l, func() { refused <- struct{}{} })
	defer gate.Close()
	in := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := gate.Accept()
			if err != nil {
				return
			}
			in <- c
		}
	}()
	dial := func(from byte) {
		t.Helper()
		c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}, l.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	dial(1)
	first := <-in
	dial(1)
	<-in
	dial(1)
	<-refused
	dial(2)
	<-in
	dial(3) // all are taken
	<-refused
	first.Close()
	first.Close() // counts once
	dial(3)
	<-in
	dial(2)
	<-refused
}
