package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// swaps is how many times addresses change hands in TestSwaps.
const swaps = 10_000

// A street is a provider, whose phones swap addresses, and a storing server, whose rows
// come after them. A phone is its key: whoever connects finds the one that is at the
// address, and goes on if it has the key.
type street struct {
	mu     sync.Mutex
	phones []wire.Row // as they are at the provider
	rows   []wire.Row // as the storing server has them
	watch  map[int]func(wire.Row, bool)
	last   int
}

func (s *street) Resolve(ctx context.Context, q wire.Query) (wire.Row, error) {
	select {
	case <-time.After(10 * time.Millisecond): // there and back; the row is read at the end
	case <-ctx.Done():
		return wire.Row{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		if r.Number == q.Number {
			return r, nil
		}
	}
	return wire.Row{}, registry.ErrUnknown
}

func (s *street) Observe(ctx context.Context, q wire.Query, told func(wire.Row, bool)) error {
	s.mu.Lock()
	n := s.last
	s.last++
	s.watch[n] = func(r wire.Row, current bool) {
		if r.MAC == q.MAC {
			told(r, current)
		}
	}
	for _, r := range s.rows {
		s.watch[n](r, true)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watch, n)
	return ctx.Err()
}

// at is who takes connections there, and the key that it shows.
func (s *street) at(a netip.AddrPort) (int, wire.Fingerprint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.phones, func(r wire.Row) bool { return r.Addrs[0] == a.Addr() })
	return i, s.phones[i].Fingerprint
}

// announce brings the row of a phone up to date; s.mu is held.
func (s *street) announce(i int) {
	s.rows[i].Addrs, s.rows[i].Fingerprint = s.phones[i].Addrs, s.phones[i].Fingerprint
	s.rows[i].Sequence++
	for _, told := range s.watch {
		told(s.rows[i], true)
	}
}

// swap has two phones take each other's address; now and then one has another key as
// well, which it got with its next life. Their rows follow at any time, or are late.
func (s *street) swap(r *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, j := r.IntN(len(s.phones)), r.IntN(len(s.phones))
	s.phones[i].Addrs, s.phones[j].Addrs = s.phones[j].Addrs, s.phones[i].Addrs
	for _, k := range []int{i, j} {
		if r.IntN(20) == 0 {
			s.phones[k].Fingerprint[0]++
		}
		if r.IntN(3) > 0 {
			s.announce(k)
		}
	}
}

// Ten thousand swaps of addresses, some between the question and its answer, or between
// the answer and the call: whoever is rung is the phone that was dialled, by its key,
// whatever was remembered of it, told of it or read of it; and a key that is not the one
// that was known is told.
func TestSwaps(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	// The file is in memory where it can be: it is written at each call, and how long a
	// disk takes for that is real time.
	folder, err := os.MkdirTemp("/dev/shm", "flexphone-swaps-")
	if err != nil {
		folder = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &street{watch: map[int]func(wire.Row, bool){}}
		for i := range 6 {
			row := with(rowOf(fmt.Sprintf("192.0.2.%d", 10+i)), func(r *wire.Row) {
				r.MAC[5], r.Number, r.Fingerprint = byte(i), fmt.Sprint(101+i), wire.Fingerprint{0, byte(1 + i)}
			})
			s.phones = append(s.phones, row)
		}
		s.rows = slices.Clone(s.phones)
		d := New(s, Config{Path: filepath.Join(folder, "phones.json"), Log: slog.New(slog.DiscardHandler)})
		d.source = func(netip.Addr) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
		ctx, end := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- d.Run(ctx, func() {}) }()
		known := map[int]wire.Fingerprint{} // by which the caller has talked to each
		rung, refused, early := 0, 0, 0
		for range swaps {
			i := r.IntN(len(s.phones))
			to := phone.Destination{Number: s.phones[i].Number}
			p, current := d.Known(to)
			if moment := r.IntN(3); moment == 0 {
				s.swap(r)
			} else {
				time.AfterFunc(time.Duration(moment)*8*time.Millisecond, func() { s.swap(r) })
			}
			if p.Name == "" || !current {
				var err error
				if p, err = d.Resolve(t.Context(), to); err != nil {
					t.Fatal(err)
				}
			} else {
				early++
			}
			time.Sleep(5 * time.Millisecond) // the call is on its way
			at, key := s.at(p.Target.Addr)
			if key != p.Target.Pin { // as package sip has it
				refused++
			} else {
				if rung++; at != i {
					t.Fatalf("%s was dialled, and %s rings", to.Number, s.phones[at].Number)
				}
				if was, met := known[i]; met && (was != p.Target.Pin) != (p.Was != [32]byte{}) {
					t.Fatalf("%s was known by %v, and has %x; told of %x", to.Number, was, p.Target.Pin, p.Was)
				}
				with := sip.Peer{User: s.phones[i].MAC.Hex(), Addr: p.Target.Addr, Secure: true, Called: true, Fingerprint: p.Target.Pin}
				d.Met(p.Name, with)
				if known[i] == (wire.Fingerprint{}) || d.Accept(p.Name, p.Target) {
					known[i] = p.Target.Pin
				}
				talking, hangUp := context.WithTimeout(ctx, time.Millisecond)
				d.Follow(talking, with, func(netip.AddrPort, bool) {})
				hangUp()
			}
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			s.mu.Lock()
			for k := range s.phones { // who was late
				if r.IntN(4) == 0 {
					s.announce(k)
				}
			}
			s.mu.Unlock()
			synctest.Wait()
		}
		t.Logf("%d calls rang where they were meant, and %d came to another phone, which was not rung; %d of all were made before the row was there", rung, refused, early)
		if rung < swaps/4 || refused < swaps/50 || early < swaps/50 {
			t.Error("this tries too little")
		}
		end()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
