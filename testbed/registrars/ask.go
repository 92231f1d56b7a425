package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"flexphone/internal/usage"
)

const (
	// peerPhones is how many names the load on peers uses.
	peerPhones = 10000
	// askAgain is after how long a request is sent again.
	askAgain = time.Second
	// tick is how often such requests are looked for at the least.
	tick = 50 * time.Millisecond
	// receiveBuffer is of each socket, where the kernel allows as much.
	receiveBuffer = 4 << 20
)

// A dialect is how to ask a peer over UDP. Requests are told apart by a number
// of 16 bits.
type dialect struct {
	request func(id uint16, name int) ([]byte, error)
	// answer returns which request b answers; final is false for what is not
	// the answer yet.
	answer func(b []byte) (id uint16, final, good bool)
}

type peerAsk struct {
	request     []byte
	name        int
	begun, sent time.Time
}

// askPeer is the closed loop of one socket.
func askPeer(ctx context.Context, addr string, d dialect, window, first, names int, lasts time.Duration, once bool) (tally, error) {
	var t tally
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return t, fmt.Errorf("registrars: ask peer: %w", err)
	}
	defer c.Close()
	_ = c.(*net.UDPConn).SetReadBuffer(receiveBuffer)
	flying := map[uint16]*peerAsk{}
	var id uint16
	next := 0
	send := func() error {
		if once && next >= names {
			return nil
		}
		for id++; flying[id] != nil; id++ {
		}
		name := first + next%names
		next++
		b, err := d.request(id, name)
		if err != nil {
			return err
		}
		now := time.Now()
		flying[id] = &peerAsk{b, name, now, now}
		_, err = c.Write(b)
		return err
	}
	for range window {
		if err := send(); err != nil {
			return t, fmt.Errorf("registrars: ask peer: %w", err)
		}
	}
	buf := make([]byte, 4096)
	start := time.Now()
	for i := 0; (once || time.Since(start) < lasts) && len(flying) > 0; i++ {
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		if err := c.SetReadDeadline(time.Now().Add(tick)); err != nil {
			return t, err
		}
		n, failed := c.Read(buf)
		if failed != nil || i%256 == 0 {
			now := time.Now()
			for id, a := range flying {
				if now.Sub(a.sent) > askAgain {
					// As a new request: Kamailio does not answer a REGISTER that it
					// has answered already.
					if a.request, err = d.request(id, a.name); err != nil {
						return t, err
					}
					a.sent = now
					t.repeated++
					if _, err := c.Write(a.request); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
						return t, err
					}
				}
			}
			if time.Since(start) > lasts+time.Minute {
				return t, fmt.Errorf("registrars: ask peer: %d requests without an answer", len(flying))
			}
			if failed != nil {
				continue
			}
		}
		id, final, good := d.answer(buf[:n])
		a := flying[id]
		if a == nil || !final {
			continue
		}
		delete(flying, id)
		if good {
			t.times = append(t.times, time.Since(a.begun))
		} else {
			t.refused++
		}
		if err := send(); err != nil {
			return t, fmt.Errorf("registrars: ask peer: %w", err)
		}
	}
	t.took = time.Since(start)
	return t, nil
}

// peerLoad measures one kind of request to a peer, from two sockets. used
// returns what its processes have taken.
func peerLoad(ctx context.Context, addr string, d dialect, window int, lasts time.Duration, used func() time.Duration) (load, error) {
	const sockets = 2
	var mu sync.Mutex
	var sum tally
	var failed error
	var all sync.WaitGroup
	server, client := used(), usage.OwnCPU()
	start := time.Now()
	for i := range sockets {
		all.Go(func() {
			t, err := askPeer(ctx, addr, d, max(1, window/sockets), i*peerPhones/sockets, peerPhones/sockets, lasts, false)
			mu.Lock()
			defer mu.Unlock()
			sum.add(t)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	sum.took = time.Since(start)
	if failed != nil {
		return load{}, failed
	}
	l := sum.load()
	if l.Answers == 0 {
		return l, fmt.Errorf("registrars: ask peer: not one good answer, %d refusals", l.Refused)
	}
	l.ServerUs = micros(used()-server) / float64(l.Answers)
	l.ClientUs = micros(usage.OwnCPU()-client) / float64(l.Answers)
	return l, nil
}

// A tally is what came of a load.
type tally struct {
	took              time.Duration
	times             []time.Duration // of good answers
	refused, repeated int
}

func (t *tally) add(u tally) {
	t.times = append(t.times, u.times...)
	t.refused += u.refused
	t.repeated += u.repeated
}

// load makes figures of what was counted.
func (t *tally) load() load {
	l := load{Answers: len(t.times), Refused: t.refused}
	if t.took > 0 {
		l.Rate = float64(l.Answers) / t.took.Seconds()
	}
	slices.Sort(t.times)
	l.P50, l.P99, l.P999 = millis(t.quantile(0.5)), millis(t.quantile(0.99)), millis(t.quantile(0.999))
	return l
}

// quantile returns the least of the times, which are sorted, that q of them do
// not exceed.
func (t *tally) quantile(q float64) time.Duration {
	if len(t.times) == 0 {
		return 0
	}
	return t.times[min(len(t.times)-1, int(q*float64(len(t.times))))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// addressOf returns an address of name that is another for each n.
func addressOf(name int, n uint16) netip.Addr {
	h := uint64(name)*0x9e3779b97f4a7c15 + uint64(n)*0xbf58476d1ce4e5b9
	return netip.AddrFrom4([4]byte{10, byte(h >> 56), byte(h >> 48), byte(h >> 40)})
}
