package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// put writes a file of a test, or makes a folder in its place: that can neither be
// read nor replaced, by root either.
func put(t *testing.T, path, text string, unreadable bool) {
	t.Helper()
	var err error
	if unreadable {
		err = os.MkdirAll(filepath.Join(path, "x"), 0o700)
	} else {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever the disk holds, the phone has a key; what was lost is kept aside and
// said; and a sound key is never touched.
func TestAFolderAlwaysHasAKey(t *testing.T) {
	mac := netlink.MAC{2, 0, 0x5e, 0, 0x53, 1}
	sound := t.TempDir()
	was, err := OpenFolder(sound).Identity(mac)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(sound, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, key  string
		unreadable bool
		says       string
		replaced   bool
	}{
		{name: "sound", key: string(key)},
		{name: "empty", replaced: true, says: "device.key.bad"},
		{name: "torn", key: string(key[:len(key)/2]), replaced: true, says: "device.key.bad"},
		{name: "zeros", key: strings.Repeat("\x00", 119), replaced: true, says: "storing-server forget"},
		{name: "another text", key: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", replaced: true, says: "device.key.bad"},
		{name: "unreadable", unreadable: true, says: "until it is switched off"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, keyFile)
		put(t, path, tt.key, tt.unreadable)
		f := OpenFolder(dir)
		id, err := f.Identity(mac)
		if len(id.Certificate.Certificate) == 0 || errors.Is(err, ErrKeyReplaced) != tt.replaced {
			t.Errorf("%s: Identity() = %v, %v", tt.name, id.Fingerprint, err)
		}
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want it to say %q", tt.name, err, tt.says)
		}
		if same := id.Fingerprint == was.Fingerprint; same != (tt.name == "sound") {
			t.Errorf("%s: the same key as before: %v", tt.name, same)
		}
		if again, _ := f.Identity(mac); again.Fingerprint != id.Fingerprint {
			t.Errorf("%s: asked again it is another key", tt.name)
		}
		aside, _ := os.ReadFile(path + ".bad")
		if tt.replaced && string(aside) != tt.key || !tt.replaced && aside != nil {
			t.Errorf("%s: kept aside is %q", tt.name, aside)
		}
		// The next life.
		next, err := OpenFolder(dir).Identity(mac)
		if kept := next.Fingerprint == id.Fingerprint; kept == tt.unreadable || (err != nil) != tt.unreadable {
			t.Errorf("%s: the next life has the same key: %v, %v", tt.name, kept, err)
		}
	}
}

// A key that was out of reach is used once it can be read; one that could not be
// written is written once it can.
func TestAFolderIsMended(t *testing.T) {
	mac := netlink.MAC{2, 0, 0x5e, 0, 0x53, 1}
	dir := filepath.Join(t.TempDir(), "data")
	put(t, dir, "", false) // a file where the folder should be
	f := OpenFolder(dir)
	id, err := f.Identity(mac)
	if err == nil || len(id.Certificate.Certificate) == 0 {
		t.Fatalf("Identity() = %v, %v; want one in memory, and why", id.Fingerprint, err)
	}
	if err := f.Keep(); err == nil || !strings.Contains(err.Error(), "data") {
		t.Errorf("Keep() = %v", err)
	}
	first, err := f.Sequence().Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Pins().Check("one:5684", wire.Fingerprint{1}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.Trouble():
	default:
		t.Error("nobody is told that something was not kept")
	}
	if err := f.Pins().Check("one:5684", wire.Fingerprint{2}); !errors.Is(err, ErrServerKey) {
		t.Errorf("another key of the server: %v; a pin in memory is one", err)
	}

	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Keep(); err != nil {
		t.Fatalf("Keep() of a mended folder = %v", err)
	}
	if again, err := f.Identity(mac); err != nil || again.Fingerprint != id.Fingerprint {
		t.Errorf("Identity() of a mended folder = %v, %v", again.Fingerprint, err)
	}
	later := OpenFolder(dir)
	if again, err := later.Identity(mac); err != nil || again.Fingerprint != id.Fingerprint {
		t.Errorf("the next life has another key, %v", err)
	}
	if n, err := later.Sequence().Next(); err != nil || n <= first {
		t.Errorf("Next() in the next life = %d, %v; want more than %d", n, err, first)
	}
	if err := later.Pins().Check("one:5684", wire.Fingerprint{2}); !errors.Is(err, ErrServerKey) {
		t.Errorf("the next life pins another key: %v", err)
	}
}

// Who takes a number waits for no disk; the next life takes none of them again.
func TestNumbersDoNotWaitForTheDisk(t *testing.T) {
	dir := t.TempDir()
	f := OpenFolder(dir)
	f.sequence.writing.Lock() // a disk that takes its time
	first, err := f.Sequence().Next()
	f.sequence.writing.Unlock()
	if err != nil || first != 1 {
		t.Fatalf("Next() = %d, %v", first, err)
	}
	for n := first; n < 3*reserve; n++ { // the phone's data part does the same
		select {
		case <-f.Trouble():
			if err := f.Keep(); err != nil {
				t.Fatal(err)
			}
			if next, err := OpenFolder(dir).Sequence().Next(); err != nil || next <= n {
				t.Errorf("after %d the next life begins at %d, %v", n, next, err)
			}
		default:
		}
		if _, err := f.Sequence().Next(); err != nil {
			t.Fatal(err)
		}
	}
	if next, err := OpenFolder(dir).Sequence().Next(); err != nil || next <= 2*reserve {
		t.Errorf("the next life begins at %d, %v", next, err)
	}
}

// What the disk holds and cannot give does not stop the phone.
func TestASpoiledFolder(t *testing.T) {
	for _, tt := range []struct {
		name, sequence, pins string
		unreadable           bool
		keeps                bool // Keep has nothing to say
	}{
		{name: "nothing there", sequence: "70\n", pins: "{}", keeps: true},
		{name: "empty", keeps: false},
		{name: "torn", sequence: "70", pins: `{"one:5684": "`},
		{name: "another shape", sequence: "x", pins: `[1, 2]`},
		{name: "null", sequence: "70", pins: `null`, keeps: true},
		{name: "unreadable", unreadable: true},
	} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, sequenceFile), tt.sequence, tt.unreadable)
		put(t, filepath.Join(dir, pinsFile), tt.pins, tt.unreadable)
		f := OpenFolder(dir)
		a, errA := f.Sequence().Next()
		b, errB := f.Sequence().Next()
		if errA != nil || errB != nil || b <= a {
			t.Errorf("%s: numbers %d, %d, %v, %v", tt.name, a, b, errA, errB)
		}
		if tt.sequence != "" && tt.sequence[0] == '7' && a < 70 {
			t.Errorf("%s: number %d; the file has 70", tt.name, a)
		}
		if err := f.Sequence().Above(5000); err != nil {
			t.Errorf("%s: Above() = %v", tt.name, err)
		}
		if n, err := f.Sequence().Next(); err != nil || n <= 5000 {
			t.Errorf("%s: after Above(5000) comes %d, %v", tt.name, n, err)
		}
		for range 2 {
			if err := f.Pins().Check("one:5684", wire.Fingerprint{1}); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if err := f.Pins().Check("one:5684", wire.Fingerprint{2}); !errors.Is(err, ErrServerKey) {
			t.Errorf("%s: another key of the server: %v", tt.name, err)
		}
		if err := f.Keep(); (err == nil) != tt.keeps {
			t.Errorf("%s: Keep() = %v", tt.name, err)
		}
		if err := f.Keep(); (err != nil) != tt.unreadable {
			t.Errorf("%s: Keep() once more = %v", tt.name, err)
		}
	}
}

// A certificate that does not fit is said, and does not stop the phone.
func TestASpoiledCertificate(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, CertificateFile), "nonsense", false)
	id, err := OpenFolder(dir).Identity(netlink.MAC{2, 0, 0x5e, 0, 0x53, 1})
	if err == nil || !strings.Contains(err.Error(), CertificateFile) || len(id.Certificate.Certificate) != 1 {
		t.Errorf("Identity() = %d certificates, %v", len(id.Certificate.Certificate), err)
	}
}

func TestSpoiledFilesAreNotLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for n := range maxAside + 2 {
		put(t, path, strings.Repeat("x", n), false)
		if _, err := setAside(path); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path + ".bad"); err != nil || len(b) != 0 {
		t.Errorf("the first one is %q, %v; want it as it was", b, err)
	}
	if all, _ := filepath.Glob(path + "*"); len(all) != maxAside {
		t.Errorf("%d files are kept; want %d", len(all), maxAside)
	}
}
