package trust

import (
	"crypto/ed25519"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

func door(t testing.TB, seed byte) *Door {
	t.Helper()
	b := [ed25519.SeedSize]byte{seed}
	d, err := NewDoor(ed25519.NewKeyFromSeed(b[:]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A ticket is good for one phone, for a day, at who knows the server that gave it.
func TestTicket(t *testing.T) {
	west, east, stranger := door(t, 1), door(t, 2), door(t, 3)
	guest, now := wire.Fingerprint{7}, time.UnixMilli(1_800_000_000_000)
	ticket := west.Ticket(guest, now)
	known := func(server wire.Fingerprint) bool { return server == west.Server() }
	if len(ticket) > wire.MaxTicket {
		t.Errorf("ticket of %d bytes; want at most %d", len(ticket), wire.MaxTicket)
	}
	changed := func(at int) wire.Ticket {
		b := []byte(ticket)
		b[at] ^= 1
		return wire.Ticket(b)
	}
	for _, tt := range []struct {
		name   string
		guest  wire.Fingerprint
		ticket wire.Ticket
		at     time.Time
		good   bool
	}{
		{"as it is", guest, ticket, now, true},
		{"of another phone", wire.Fingerprint{8}, ticket, now, false},
		{"of a server that is not known", guest, stranger.Ticket(guest, now), now, false},
		{"a day later", guest, ticket, now.Add(ticketLasts), false},
		{"a day before it ends", guest, ticket, now.Add(ticketLasts - time.Millisecond), true},
		{"of a server whose clock is an hour ahead", guest, west.Ticket(guest, now.Add(time.Hour)), now, true},
		{"of the far future", guest, west.Ticket(guest, now.Add(9*ticketLasts)), now, false},
		{"with another key", guest, changed(0), now, false},
		{"with another time", guest, changed(38), now, false},
		{"with another signature", guest, changed(len(ticket) - 1), now, false},
		{"cut", guest, ticket[:len(ticket)-1], now, false},
		{"longer", guest, ticket + "x", now, false},
		{"none", guest, "", now, false},
	} {
		if got := east.Show(tt.guest, tt.ticket, known, tt.at); got != tt.good {
			t.Errorf("a ticket %s: %v; want %v", tt.name, got, tt.good)
		}
	}
	if !east.Knows(guest, now) || east.Knows(guest, now.Add(2*ticketLasts)) || east.Knows(wire.Fingerprint{8}, now) {
		t.Error("who has shown a ticket is not known as long as it is good, or another is")
	}
}

// However many show tickets, memory is bounded, and who came last is known.
func TestGuestsAreBounded(t *testing.T) {
	west, east := door(t, 1), door(t, 2)
	east.most = 8
	now := time.UnixMilli(1_800_000_000_000)
	for n := range 100 {
		guest := wire.Fingerprint{byte(n)}
		if !east.Show(guest, west.Ticket(guest, now), func(wire.Fingerprint) bool { return true }, now) || !east.Knows(guest, now) {
			t.Fatalf("guest %d is not known", n)
		}
		if len(east.now)+len(east.old) > 2*east.most {
			t.Fatalf("%d and %d guests are remembered", len(east.now), len(east.old))
		}
	}
}

func FuzzTicket(f *testing.F) {
	west, east := door(f, 1), door(f, 2)
	guest, now := wire.Fingerprint{7}, time.UnixMilli(1_800_000_000_000)
	good := west.Ticket(guest, now)
	f.Add([]byte(good))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if east.Show(guest, wire.Ticket(b), func(wire.Fingerprint) bool { return true }, now) && wire.Ticket(b) != good && [32]byte(b) == [32]byte([]byte(good)) {
			t.Errorf("%x is taken; want that of its signer alone", b)
		}
	})
}
