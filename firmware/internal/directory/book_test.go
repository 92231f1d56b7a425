package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// called is 102 as one of its calls knows it.
func called(key byte, at string) sip.Peer {
	return sip.Peer{User: theMAC.Hex(), Addr: netip.MustParseAddrPort(at), Secure: true, Called: true, Fingerprint: wire.Fingerprint{key}}
}

// runs has w keep its book until what it returns is called.
func (w *world) runs(t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, func() {}) }()
	synctest.Wait()
	return func() {
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	}
}

// A phone that was called is known by its number and its MAC, where it was last, and
// when this phone is started again.
func TestWhoWasCalledIsKnown(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		if p, _ := w.Known(byNumber); p != (phone.Peer{}) {
			t.Errorf("nobody was called, and %+v is known", p)
		}
		end := w.runs(t)
		w.Met("102", called(1, "192.0.2.9:5061"))
		end()
		w.Directory = New(w, w.cfg)
		end = w.runs(t)
		want := phone.Peer{Name: "102", Target: sip.Target{User: theMAC.Hex(), Addr: netip.MustParseAddrPort("192.0.2.9:5061"), Pin: [32]byte{1}}}
		for _, to := range []phone.Destination{byNumber, byMAC} {
			if p, current := w.Known(to); p != want || current {
				t.Errorf("%v is %+v, current %v; want %+v", to, p, current, want)
			}
		}
		w.changes = []wire.Row{rowOf("192.0.2.77")}
		follows(t, w, called(1, "192.0.2.9:5061"), "192.0.2.77")
		end()
		if p, _ := w.Known(byNumber); p.Target.Addr != netip.MustParseAddrPort("192.0.2.77:5061") {
			t.Errorf("after a move it is known at %v", p.Target.Addr)
		}
	})
}

// follows has one followed until it is at that address.
func follows(t *testing.T, w *world, with sip.Peer, until string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.Follow(ctx, with, func(at netip.AddrPort, _ bool) {
		if at.Addr() == netip.MustParseAddr(until) {
			cancel()
		}
	})
}

// For a while after a call the storing server tells of the row, and the number is
// current as long as it says the same.
func TestWhoWasTalkedToIsCurrent(t *testing.T) {
	row := rowOf("192.0.2.9")
	for _, tt := range []struct {
		name  string
		says  []wire.Row
		later time.Duration
		want  bool
	}{
		{"nothing has changed", []wire.Row{row}, time.Minute, true},
		{"it has moved", []wire.Row{row, rowOf("192.0.2.77")}, 0, true},
		{"it is offline", []wire.Row{row, with(row, func(r *wire.Row) { r.State = wire.Offline })}, 0, false},
		{"it has another number", []wire.Row{row, with(row, func(r *wire.Row) { r.Number = "103" })}, 0, false},
		{"it has another key", []wire.Row{row, with(row, func(r *wire.Row) { r.Fingerprint = wire.Fingerprint{9} })}, 0, false},
		{"it has no TLS", []wire.Row{row, with(row, func(r *wire.Row) { r.Ports.SIPS = 0 })}, 0, false},
		{"it is not known what has changed", []wire.Row{row, {}}, 0, false},
		{"long ago", []wire.Row{row}, watchTime, false},
	} {
		in(t, func(t *testing.T, w *world) {
			defer w.runs(t)()
			w.Met("102", called(1, "192.0.2.9:5061"))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			w.changes = tt.says
			w.Follow(ctx, called(1, "192.0.2.9:5061"), func(netip.AddrPort, bool) {})
			synctest.Wait()
			time.Sleep(tt.later)
			synctest.Wait()
			at := netip.MustParseAddrPort("192.0.2.9:5061")
			if tt.name == "it has moved" {
				at = netip.MustParseAddrPort("192.0.2.77:5061")
			}
			if p, current := w.Known(byNumber); current != tt.want || p.Target.Addr != at {
				t.Errorf("%s: current %v, at %v; want %v, at %v", tt.name, current, p.Target.Addr, tt.want, at)
			}
		})
	}
}

// A key that has changed is told whoever asks, until it is accepted or the old one is
// back; whether the phone has another, the number another phone, or the phone another
// number.
func TestAKeyThatHasChanged(t *testing.T) {
	one, other := [32]byte{1}, wire.Fingerprint{2}
	row := rowOf("192.0.2.9")
	rekeyed := with(row, func(r *wire.Row) { r.Fingerprint = other })
	otherMAC := wire.MAC{2, 0, 0x5e, 0, 0x53, 3}
	for _, tt := range []struct {
		name string
		now  wire.Row
		to   phone.Destination
	}{
		{"the phone has another", rekeyed, byNumber},
		{"the phone has another, and is called by its MAC", rekeyed, byMAC},
		{"the number is another phone's", with(rekeyed, func(r *wire.Row) { r.MAC = otherMAC }), byNumber},
		{"the phone has another, and another number", with(rekeyed, func(r *wire.Row) { r.Number = "104" }), phone.Destination{Number: "104"}},
		{"the phone has none any more", with(row, func(r *wire.Row) { r.Ports.SIPS = 0 }), byNumber},
	} {
		in(t, func(t *testing.T, w *world) {
			end := w.runs(t)
			w.Met("102", called(1, "192.0.2.9:5061"))
			w.rows = []wire.Row{tt.now}
			was := func(want [32]byte) phone.Peer {
				t.Helper()
				p, err := w.Directory.Resolve(t.Context(), tt.to)
				if err != nil || p.Was != want || p.Target.Pin != offered(tt.now) {
					t.Errorf("%s: %+v, %v; want it to have been %x", tt.name, p, err, want)
				}
				if known, _ := w.Known(tt.to); known.Name != "" && (known.Was != want || known.Target.Pin != p.Target.Pin) {
					t.Errorf("%s: known as %+v; want it to have been %x", tt.name, known, want)
				}
				return p
			}
			p := was(one)
			if p.Target.Pin != [32]byte{} { // a call that was made does not make it better
				w.Met(p.Name, sip.Peer{User: p.Target.User, Addr: p.Target.Addr, Secure: true, Called: true, Fingerprint: p.Target.Pin})
				was(one)
				caller := sip.Peer{User: tt.now.MAC.Hex(), DisplayName: p.Name, Secure: true, Fingerprint: other, Addr: p.Target.Addr}
				if proved, told := w.Vouches(t.Context(), caller); !proved || told != one {
					t.Errorf("%s, and calls: proved %v, was %x", tt.name, proved, told)
				}
			}
			end() // nor does a restart
			w.Directory = New(w, w.cfg)
			defer w.runs(t)()
			p = was(one)
			if w.Accept(p.Name, sip.Target{User: p.Target.User, Pin: [32]byte{7}}) {
				t.Errorf("%s: a key that it has not was accepted", tt.name)
			}
			if !w.Accept(p.Name, p.Target) {
				t.Errorf("%s: not accepted", tt.name)
			}
			was([32]byte{})
		})
	}
	in(t, func(t *testing.T, w *world) {
		w.Met("102", called(1, "192.0.2.9:5061"))
		w.rows = []wire.Row{rekeyed}
		_, _ = w.Directory.Resolve(t.Context(), byNumber)
		w.rows = []wire.Row{row}
		if p, err := w.Directory.Resolve(t.Context(), byNumber); err != nil || p.Was != [32]byte{} {
			t.Errorf("the old key is back: %+v, %v", p, err)
		}
	})
}

// Only who is proved is remembered, and who calls in the clear is nobody.
func TestWhoIsNotRemembered(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		plain, comes := called(1, "192.0.2.9:5060"), called(1, "192.0.2.9:5061")
		plain.Secure, comes.Called = false, false
		w.Met("102", plain)
		w.Met("102", comes)
		w.Met("gateway", sip.Peer{User: "gateway", Secure: true, Called: true})
		_, _ = w.Vouches(t.Context(), sip.Peer{User: theMAC.Hex(), DisplayName: "103", Secure: true, Fingerprint: wire.Fingerprint{1}, Addr: comes.Addr})
		if p, _ := w.Known(byMAC); p != (phone.Peer{}) {
			t.Errorf("remembered: %+v", p)
		}
		proved, _ := w.Vouches(t.Context(), sip.Peer{User: theMAC.Hex(), DisplayName: "102", Secure: true, Fingerprint: wire.Fingerprint{1}, Addr: comes.Addr})
		if p, _ := w.Known(byNumber); !proved || p.Target.Addr != comes.Addr {
			t.Errorf("who has called and was proved (%v) is known as %+v", proved, p)
		}
	}, rowOf("192.0.2.9"))
}

// So many phones are remembered and no more: who has only called is forgotten first.
func TestMemoryIsBounded(t *testing.T) {
	b := newBook("")
	now := time.Unix(1e9, 0)
	meet := func(i int, called bool) {
		b.meet(fmt.Sprint(i), wire.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, wire.Fingerprint{1}, netip.AddrPort{}, called, now.Add(time.Duration(i)*time.Hour*25))
	}
	meet(1, true)
	for i := range 2 * mostPhones {
		meet(1000+i, false)
	}
	knows := func(i int) bool {
		_, known := b.find(phone.Destination{Number: fmt.Sprint(i)})
		return known
	}
	if len(b.phones) != mostPhones || !knows(1) || knows(1000) || !knows(1000+2*mostPhones-1) {
		t.Errorf("%d are known; the called one %v, the first caller %v, the last %v", len(b.phones), knows(1), knows(1000), knows(1000+2*mostPhones-1))
	}
}

// A file that cannot be understood is kept aside, and told of once.
func TestADamagedBook(t *testing.T) {
	for _, text := range []string{"", "{", "[1]", `[{"name": "102"}]`, `[{"name": "102", "mac": "xx"}]`} {
		in(t, func(t *testing.T, w *world) {
			if err := os.WriteFile(w.cfg.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := w.Run(t.Context(), func() { t.Errorf("%q: it works", text) })
			if err == nil || !strings.Contains(err.Error(), "believed once more") {
				t.Errorf("%q: Run() = %v", text, err)
			}
			if kept, err := os.ReadFile(w.cfg.Path + ".bad"); err != nil || string(kept) != text {
				t.Errorf("%q is kept aside as %q, %v", text, kept, err)
			}
			end := w.runs(t)
			w.Met("102", called(1, "192.0.2.9:5061"))
			end()
			w.Directory = New(w, w.cfg)
			defer w.runs(t)()
			if p, _ := w.Known(byNumber); p.Name != "102" {
				t.Errorf("%q: nothing is remembered afterwards", text)
			}
		})
	}
}

// While the disk fails phones are known nevertheless, and written when it is mended;
// what could not be read is not written over.
func TestABookWhoseDiskFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		dir := filepath.Dir(w.cfg.Path)
		w.cfg.Path = filepath.Join(dir, "later", "phones.json")
		w.book.path = w.cfg.Path
		w.Met("102", called(1, "192.0.2.9:5061"))
		if err := w.Run(t.Context(), func() {}); err == nil {
			t.Error("there is no folder, and Run() does not fail")
		}
		if p, _ := w.Known(byNumber); p.Name != "102" {
			t.Error("a phone is forgotten because the disk fails")
		}
		if err := os.Mkdir(filepath.Dir(w.cfg.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		w.runs(t)()
		text, err := os.ReadFile(w.cfg.Path)
		if err != nil || !strings.Contains(string(text), `"102"`) {
			t.Errorf("once it is mended the file holds %q, %v", text, err)
		}

		w.Directory = New(w, w.cfg)
		w.book.path = dir // which is no file
		w.Met("102", called(2, "192.0.2.7:5061"))
		if err := w.Run(t.Context(), func() {}); err == nil {
			t.Error("the file cannot be read, and Run() does not fail")
		}
		w.book.path = w.cfg.Path
		defer w.runs(t)()
		if p, _ := w.Known(byNumber); p.Was != [32]byte{1} || p.Target.Pin != [32]byte{2} || p.Target.Addr != netip.MustParseAddrPort("192.0.2.7:5061") {
			t.Errorf("once it is read again 102 is %+v", p)
		}
	})
}
