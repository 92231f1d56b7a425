package main

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A nat stands between one phone and a server, in user space, and forgets when it is
// told to: what comes for the phone then goes nowhere, until the phone speaks again
// and gets another port.
type nat struct {
	inside net.PacketConn
	server net.Addr

	mu      sync.Mutex
	outside net.PacketConn // nil: none is kept
	gone    []net.PacketConn
	passed  chan struct{} // has one when a datagram of the phone is on its way
	dropped chan struct{} // receives for each datagram that went nowhere
	running sync.WaitGroup
}

func newNAT(t *testing.T, server string) *nat {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{inside: inside, server: to, passed: make(chan struct{}, 1), dropped: make(chan struct{}, 64)}
	n.running.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, phone, err := inside.ReadFrom(buf)
			if err != nil {
				return
			}
			out, err := n.keep(phone)
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case n.passed <- struct{}{}:
			default:
			}
			_, _ = out.WriteTo(buf[:size], to) // lost, if it is
		}
	})
	t.Cleanup(func() {
		inside.Close()
		n.forget()
		for _, c := range n.gone {
			c.Close()
		}
		n.running.Wait()
	})
	return n
}

// keep returns the port of the phone, or gives it one.
func (n *nat) keep(phone net.Addr) (net.PacketConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outside != nil {
		return n.outside, nil
	}
	out, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.outside = out
	n.running.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, _, err := out.ReadFrom(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			kept := n.outside == out
			n.mu.Unlock()
			if !kept {
				n.dropped <- struct{}{}
				continue
			}
			_, _ = n.inside.WriteTo(buf[:size], phone)
		}
	})
	return out, nil
}

func (n *nat) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outside != nil {
		n.gone = append(n.gone, n.outside)
	}
	n.outside = nil
}

// The server's word comes when it was asked for if what is between has kept the way,
// says whether the phone was silent meanwhile, and does not come where the phone was
// forgotten, whose session goes on.
func TestTheServersWordShowsWhatANATKeeps(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	between := newNAT(t, s.addr)
	c, tap := newPhone(t, t.TempDir(), between.inside.LocalAddr().String(), phoneMAC(1))
	first, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.Alive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() <-chan bool {
		t.Helper()
		word, err := c.Knock(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return word
	}
	come := func(word <-chan bool) bool {
		t.Helper()
		select {
		case quiet, ok := <-word:
			if !ok {
				t.Fatal("the server gives no word")
			}
			return quiet
		case <-t.Context().Done():
			t.Fatal("no word")
		}
		return false
	}

	sent, got := tap.sent.Load(), tap.got.Load()
	if begin := time.Now(); !come(ask()) || time.Since(begin) < time.Second {
		t.Errorf("the word came after %v; want it after a second of silence", time.Since(begin))
	}
	if sent, got := tap.sent.Load()-sent, tap.got.Load()-got; sent != 1 || got != 1 {
		t.Errorf("a word took %d datagrams out and %d in; want 1 and 1", sent, got)
	}

	superseded := ask()
	word := ask()
	if _, err := c.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(1))}); err != nil {
		t.Fatal(err)
	}
	if come(word) {
		t.Error("a phone that asked something meanwhile was silent")
	}
	select {
	case <-superseded:
		t.Error("a word came that was asked for before the newest")
	default:
	}

	select {
	case <-between.passed:
	default:
	}
	word = ask()
	<-between.passed // the question is on its way
	between.forget()
	select {
	case <-between.dropped:
	case <-t.Context().Done():
		t.Fatal("no word was sent")
	}
	if again, err := c.Alive(t.Context()); err != nil || again != session {
		t.Errorf("session %d, %v after the NAT forgot; want the same as before, %d", again, err, session)
	}
	select {
	case <-word:
		t.Error("the word came by a way that was forgotten")
	default:
	}
	second, err := c.Register(t.Context(), announcement(phoneMAC(1), 2, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Reflexive == second.Reflexive || second.Reflexive.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("seen at %v before and at %v after the NAT forgot", first.Reflexive, second.Reflexive)
	}
	if !come(ask()) {
		t.Error("no silence by the new way")
	}
}
