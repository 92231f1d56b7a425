package serial

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// lines returns both ends of a line.
func lines(t *testing.T) (begins, accepts *Line) {
	t.Helper()
	a, b := net.Pipe()
	begins, accepts = NewLine(a, a), NewLine(b, b)
	t.Cleanup(func() {
		begins.Close()
		accepts.Close()
	})
	return begins, accepts
}

// echo sends back what each conversation says.
func echo(l *Line) {
	for {
		t, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(t, t)
			t.Close()
		}()
	}
}

func TestConversationsDoNotDisturbEachOther(t *testing.T) {
	begins, accepts := lines(t)
	go echo(accepts)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			talk, err := begins.Open()
			if err != nil {
				t.Error(err)
				return
			}
			defer talk.Close()
			said := bytes.Repeat([]byte{byte(i), byte(i + 1)}, 5000)
			go talk.Write(said)
			heard := make([]byte, len(said))
			if _, err := io.ReadFull(talk, heard); err != nil || !bytes.Equal(heard, said) {
				t.Errorf("conversation %d: %v; its bytes came back: %v", i, err, bytes.Equal(heard, said))
			}
		})
	}
	all.Wait()
}

func TestAConversationEndsAtBothEnds(t *testing.T) {
	begins, accepts := lines(t)
	a, err := begins.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := Send(a, Request{Do: Off}); err != nil {
		t.Fatal(err)
	}
	b, err := accepts.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := Receive(b, &r); err != nil || r.Do != Off {
		t.Fatalf("Receive() = %+v, %v", r, err)
	}
	a.Close()
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read() at the other end of a closed conversation: %v", err)
	}
	b.Close()
	begins.Close()
	if _, err := accepts.Accept(); err != io.EOF {
		t.Errorf("Accept() on a cut line: %v", err)
	}
}

func TestACutLineEndsItsConversations(t *testing.T) {
	begins, accepts := lines(t)
	a, err := begins.Open()
	if err != nil {
		t.Fatal(err)
	}
	accepts.Close()
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("Read() on a cut line has no error")
	}
	if _, err := begins.Open(); err == nil {
		t.Error("Open() on a cut line has no error")
	}
}

func TestHelloIsFoundInNoise(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("\x00\x06the ag\x06\x06the agent is here\nrest"))
	if err := AwaitHello(r); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left: %q", rest)
	}
	if err := AwaitHello(bufio.NewReader(strings.NewReader("\x06the agent is "))); !errors.Is(err, io.EOF) {
		t.Errorf("AwaitHello() on a line that ends: %v", err)
	}
}

// wires reads what is given and swallows what is written.
type wires struct{ io.Reader }

func (wires) Write(b []byte) (int, error) { return len(b), nil }
func (wires) Close() error                { return nil }

func FuzzLine(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x0f{\"do\":\"clock\"}\n\x00\x01\x00\x00"))
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x01x\x00\x01\x00\x00"))
	f.Add([]byte("\x00\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := NewLine(wires{}, bytes.NewReader(b))
		for {
			talk, err := l.Accept()
			if err != nil {
				return
			}
			var r Request
			Receive(talk, &r)
			talk.Close()
		}
	})
}
