package trust

import (
	"net"
	"net/netip"
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
	open := NewConnections(3, 2, nil)
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

// Where connections give way, the one does that has asked for nothing for the
// longest time, of the newcomer's network first; who is being answered stays.
func TestGiveWay(t *testing.T) {
	e, _ := ParseExempt([]string{"192.0.2.9"})
	c := NewConnections(4, 2, e).GiveWay()
	at := func(host byte) Network { return NetworkOf(netip.AddrFrom4([4]byte{192, 0, 2, host})) }
	ends := map[*admitted]bool{}
	come := func(host byte) *admitted {
		if !c.admit(at(host)) {
			return nil
		}
		a := &admitted{open: c, at: at(host)}
		here, _ := net.Pipe()
		a.Conn = here
		a.leave = func() { ends[a] = true; c.end(a) }
		c.count(a, 0)
		return a
	}
	first, second := come(1), come(1)
	third := come(1) // one too many of its network
	if !ends[first] || ends[second] || third == nil {
		t.Errorf("the first, second ended: %v, %v; let in: %v; want its network's oldest alone to give way", ends[first], ends[second], third != nil)
	}
	done := Busy(second)
	Busy(second)() // another request of the same, by HTTP/2
	Busy(third)
	if come(1) != nil || len(ends) != 1 {
		t.Error("one too many came in, though the others of its network are answered")
	}
	fourth, fifth := come(2), come(2)
	sixth := come(3) // one too many of all
	if !ends[fourth] || ends[fifth] || sixth == nil {
		t.Error("the oldest did not give way")
	}
	Busy(fifth)
	Busy(sixth)
	if come(9) != nil {
		t.Error("one too many came in, though all others are answered")
	}
	done()
	seventh, eighth, ninth := come(9), come(9), come(9)
	if !ends[second] || !ends[seventh] || !ends[eighth] || ninth == nil || ends[fifth] || ends[third] {
		t.Error("an exempt network has more than its share only in the place of others that wait")
	}
	if c.all != 4 || len(c.waiting) != 1 {
		t.Errorf("%d connections, of which %d wait; want 4 and 1", c.all, len(c.waiting))
	}
	Busy(&net.TCPConn{})() // no such connection
}
