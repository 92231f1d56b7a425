// Package pathtest holds the tests that every audio.Path must pass, simulated or
// real, plain or private.
//
// It knows what RTP and RTCP look like to whoever tells them apart (RFC 5761,
// section 4), and nothing of how a path carries them. It waits for what must
// come, and asserts nothing about how fast that is.
package pathtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/rtp"
)

// Patience is how long a suite waits for what must come, before it says that it
// does not.
const Patience = 20 * time.Second

// Path tests the paths that open opens: two ends, each of which is the other's
// peer, or becomes it soon after both receive.
func Path(t *testing.T, open func(*testing.T) (a, b audio.Path)) {
	t.Run("what is sent arrives whole", func(t *testing.T) { arrivesWhole(t, open) })
	t.Run("sound and reports cross", func(t *testing.T) { cross(t, open) })
	t.Run("nothing is allocated for a packet", func(t *testing.T) { allocatesNothing(t, open) })
	t.Run("closing makes an end of receiving", func(t *testing.T) { closes(t, open) })
}

// packet is the i-th packet of a source, of that many bytes.
func packet(what audio.Protocol, i, size int) []byte {
	b := make([]byte, size)
	for k := range b {
		b[k] = byte(i + k)
	}
	if what == audio.RTP {
		copy(b, []byte{0x80, 111}) // version, payload type
		binary.BigEndian.PutUint16(b[2:], uint16(i))
		binary.BigEndian.PutUint32(b[4:], uint32(i*160))
		copy(b[8:], "sour")
		return b
	}
	// An empty receiver report, and the rest in a packet of an application
	// (RFC 3550, sections 6.4.2 and 6.7).
	copy(b, []byte{0x80, 201, 0, 1})
	copy(b[4:], "sour")
	copy(b[8:], []byte{0x80, 204, 0, byte((size-8)/4 - 1)})
	copy(b[12:], "sour"+"TEST")
	return b
}

// An end is a path that receives.
type end struct {
	path  audio.Path
	ended chan error
}

func receive(p audio.Path, take func(audio.Datagram)) *end {
	e := &end{path: p, ended: make(chan error, 1)}
	go func() { e.ended <- p.Receive(take) }()
	return e
}

// close closes the path, and asserts that receiving ends with it.
func (e *end) close(t *testing.T) {
	t.Helper()
	if err := e.path.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case err := <-e.ended:
		if err != nil {
			t.Errorf("receiving ended: %v", err)
		}
	case <-time.After(Patience):
		t.Fatal("the path is closed, and receives on")
	}
}

// send sends as soon as there is a peer.
func send(p audio.Path, what audio.Protocol, b []byte) error {
	for end := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		err := p.Send(what, b)
		if !errors.Is(err, audio.ErrNoPeer) || time.Now().After(end) {
			return err
		}
	}
}

// await receives from a channel.
func await[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(Patience):
		t.Fatal("nothing arrived")
	}
	return v
}

func arrivesWhole(t *testing.T, open func(*testing.T) (a, b audio.Path)) {
	pa, pb := open(t)
	var got [2]chan audio.Datagram
	var ends [2]*end
	for i, p := range []audio.Path{pa, pb} {
		got[i] = make(chan audio.Datagram, 1)
		ends[i] = receive(p, func(d audio.Datagram) {
			kept := d
			kept.Bytes = bytes.Clone(d.Bytes)
			clear(d.Bytes) // whoever takes it may
			got[i] <- kept
		})
	}
	sent := 0
	for _, size := range []int{16, 172, 512, rtp.HeaderSize + rtp.MaxPayload} {
		for _, what := range []audio.Protocol{audio.RTP, audio.RTCP} {
			if what == audio.RTCP && size > 1000 {
				continue
			}
			for from, p := range []audio.Path{pa, pb} {
				sent++
				want := packet(what, sent, size)
				b := bytes.Clone(want)
				if err := send(p, what, b); err != nil {
					t.Fatalf("send %d bytes: %v", size, err)
				}
				returned := time.Now()
				if !bytes.Equal(b, want) {
					t.Error("what was sent is changed")
				}
				clear(b) // it is the sender's again
				d := await(t, got[1-from])
				if d.Protocol != what || !bytes.Equal(d.Bytes, want) {
					t.Fatalf("sent %d bytes of protocol %d, got %d of %d", size, what, len(d.Bytes), d.Protocol)
				}
				if d.At.Before(returned.Add(-Patience)) || d.At.After(time.Now()) {
					t.Errorf("arrived at %v, now it is %v", d.At, time.Now())
				}
			}
		}
	}
	for _, e := range ends {
		e.close(t)
	}
}

// cross sends reports by two goroutines, as a stream does at its end, beside
// the sound, both ways at once.
func cross(t *testing.T, open func(*testing.T) (a, b audio.Path)) {
	const each = 30
	pa, pb := open(t)
	var ends [2]*end
	var sound, reports [2]atomic.Int64
	all := make(chan struct{}, 2)
	for i, p := range []audio.Path{pa, pb} {
		var busy [audio.RTCP + 1]atomic.Bool
		ends[i] = receive(p, func(d audio.Datagram) {
			if !busy[d.Protocol].CompareAndSwap(false, true) {
				t.Error("two packets of one protocol are taken at a time")
			}
			defer busy[d.Protocol].Store(false)
			count := &sound[i]
			if d.Protocol == audio.RTCP {
				count = &reports[i]
			}
			count.Add(1)
			if sound[i].Load() == each && reports[i].Load() == 2*each {
				select {
				case all <- struct{}{}:
				default: // told already
				}
			}
		})
	}
	var senders sync.WaitGroup
	for _, p := range []audio.Path{pa, pb} {
		for _, what := range []audio.Protocol{audio.RTP, audio.RTCP, audio.RTCP} {
			senders.Go(func() {
				for i := range each {
					if err := send(p, what, packet(what, i, 172)); err != nil {
						t.Errorf("send: %v", err)
					}
				}
			})
		}
	}
	senders.Wait()
	for range 2 {
		await(t, all)
	}
	for _, e := range ends {
		e.close(t)
	}
}

func allocatesNothing(t *testing.T, open func(*testing.T) (a, b audio.Path)) {
	pa, pb := open(t)
	arrived := make(chan struct{}, 1)
	take := func(audio.Datagram) { arrived <- struct{}{} }
	ends := []*end{receive(pa, take), receive(pb, take)}
	for _, p := range []audio.Path{pa, pb} {
		i := 0
		b := packet(audio.RTP, i, 172)
		if err := send(p, audio.RTP, b); err != nil {
			t.Fatalf("send: %v", err)
		}
		await(t, arrived)
		late := time.NewTimer(Patience)
		n := testing.AllocsPerRun(100, func() {
			i++
			binary.BigEndian.PutUint16(b[2:], uint16(i))
			if err := p.Send(audio.RTP, b); err != nil {
				panic(fmt.Sprintf("send: %v", err))
			}
			select {
			case <-arrived:
			case <-late.C:
				panic("nothing arrived")
			}
		})
		late.Stop()
		if n != 0 {
			t.Errorf("%v allocations for a packet on its way", n)
		}
	}
	for _, e := range ends {
		e.close(t)
	}
}

func closes(t *testing.T, open func(*testing.T) (a, b audio.Path)) {
	pa, pb := open(t)
	arrived := make(chan struct{}, 1)
	ea, eb := receive(pa, func(audio.Datagram) {}), receive(pb, func(audio.Datagram) { arrived <- struct{}{} })
	if err := send(pa, audio.RTP, packet(audio.RTP, 1, 172)); err != nil {
		t.Fatalf("send: %v", err)
	}
	await(t, arrived)
	ea.close(t)
	if err := pa.Send(audio.RTP, packet(audio.RTP, 2, 172)); err == nil || errors.Is(err, audio.ErrNoPeer) {
		t.Errorf("sent on a closed path: %v", err)
	}
	if err := pa.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	eb.close(t)

	// A path that nobody receives from closes as well.
	pa, pb = open(t)
	for _, p := range []audio.Path{pa, pb} {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := p.Receive(func(audio.Datagram) { t.Error("a closed path receives") }); err != nil {
			t.Errorf("receive from a closed path: %v", err)
		}
	}
}
