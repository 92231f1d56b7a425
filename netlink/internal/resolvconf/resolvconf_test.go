package resolvconf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func example() Network {
	return Network{
		Leased: netip.MustParseAddr("192.0.2.50"), Domains: []string{"eng.isp.example", "isp.example"},
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "resolv.conf")
	const before = "nameserver 203.0.113.1\n"
	if err := os.WriteFile(real, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	names := File{Path: link}
	if err := names.Restore(); err != nil { // of nothing
		t.Fatal(err)
	}
	if err := names.Write(example()); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(real); !strings.Contains(string(b), "search eng.isp.example isp.example\nnameserver 192.0.2.1\n") {
		t.Errorf("it holds %q", b)
	}
	if err := names.Write(Network{}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(real); !strings.Contains(string(b), "nameserver 192.0.2.1") {
		t.Error("a lease without name servers took those away that there were")
	}
	if err := names.Restore(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(link); string(b) != before {
		t.Errorf("afterwards it holds %q; want %q", b, before)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	// What somebody else wrote meanwhile is theirs.
	if err := names.Write(example()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(real, []byte("nameserver 203.0.113.7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := names.Restore(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(link); string(b) != "nameserver 203.0.113.7\n" {
		t.Errorf("another's file was changed to %q", b)
	}
	// Where there was none, there is none.
	fresh := File{Path: filepath.Join(dir, "fresh")}
	if err := fresh.Write(example()); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fresh.Path); err == nil {
		t.Error("a file is left where there was none")
	}
	// As in an image, whose root links to where things may be written.
	for name, target := range map[string]string{"relative": "run/made", "absolute": filepath.Join(dir, "run/made")} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "run"), 0o755), os.Symlink(target, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		dangling := File{Path: filepath.Join(dir, name)}
		if err := dangling.Write(example()); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "run/made")); !strings.Contains(string(b), "nameserver 192.0.2.1") {
			t.Errorf("behind the %s link stands %q", name, b)
		}
		if err := dangling.Restore(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(dangling.Path); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the %s link is %v, %v", name, info, err)
		}
		if _, err := os.Stat(dangling.Path); err == nil {
			t.Errorf("a file is left behind the %s link", name)
		}
	}
}
