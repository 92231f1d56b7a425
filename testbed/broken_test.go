package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A breakage is something wrong with a phone before it is switched on.
type breakage struct {
	name  string
	part  string // that the phone says is broken; empty: it is only in the log
	says  string // of why
	works bool   // it registers nevertheless
	// spoil breaks p, whose settings and data folder it is given, and returns the
	// settings to start with; mend mends it, and is nil where nobody can.
	spoil func(t *testing.T, p *Phone, settings, data string) (broken string, mend func())
}

// inPlace breaks a file or folder of the data folder, and mends it by removing it.
func inPlace(name string, folder bool) func(*testing.T, *Phone, string, string) (string, func()) {
	return func(t *testing.T, _ *Phone, settings, data string) (string, func()) {
		path := filepath.Join(data, name)
		if folder {
			must(t, os.MkdirAll(filepath.Join(path, "x"), 0o700))
		} else {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, nil, 0o600))
		}
		return settings, func() { must(t, os.RemoveAll(path)) }
	}
}

// with replaces a line of the settings.
func with(key, line string) func(*testing.T, *Phone, string, string) (string, func()) {
	return func(_ *testing.T, _ *Phone, settings, _ string) (string, func()) {
		var out []string
		for l := range strings.Lines(settings) {
			if strings.HasPrefix(l, key+" = ") {
				l = line + "\n"
			}
			out = append(out, l)
		}
		return strings.Join(out, ""), nil
	}
}

func breakages() []breakage {
	return []breakage{
		{"the data folder is a file", "data", "make the data folder", true, inPlace("", false)},
		{"the disk is full", "data", "no space left", true, fullDisk},
		{"an empty key", "key", "device.key.bad", true, func(t *testing.T, p *Phone, settings, data string) (string, func()) {
			inPlace("device.key", false)(t, p, settings, data)
			return settings, nil
		}},
		{"a key that cannot be read", "key", "device.key", true, inPlace("device.key", true)},
		{"a sequence that cannot be read", "data", "sequence", true, inPlace("sequence", true)},
		{"servers' keys that cannot be read", "data", "servers.json", true, inPlace("servers.json", true)},
		{"known phones that cannot be read", "known phones", "phones.json", true, inPlace("phones.json", true)},
		{"a board that does not exist", "settings", `board = "hosst"`, true, with("board", `board = "hosst"`)},
		{"a server that is none", "settings", "storing_server", true, with("storing_server", `storing_server = "http://192.0.2.1/"`)},
		{"a setting of another type", "settings", "board", true, with("board", `board = 7`)},
		{"taken ports", "line", "5060", true, func(t *testing.T, p *Phone, settings, _ string) (string, func()) {
			var c net.PacketConn
			must(t, p.host.within(func() (err error) {
				c, err = net.ListenPacket("udp", ":5060")
				return err
			}))
			return settings, func() { c.Close() }
		}},
		{"an interface that comes later", "interface", "usb0", false, func(t *testing.T, p *Phone, settings, data string) (string, func()) {
			broken, _ := with("interface", `interface = "usb0"`)(t, p, settings, data)
			return broken, func() {
				l, err := p.host.find("eth0")
				must(t, err)
				must(t, p.host.link.LinkSetName(l, "usb0"))
			}
		}},
		// It works without.
		{"a VLAN that cannot be made", "voice VLAN", "makes no VLAN 7", true, func(t *testing.T, p *Phone, settings, _ string) (string, func()) {
			eth0, err := p.host.find("eth0")
			must(t, err)
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.ParentIndex = "probe", eth0.Attrs().Index
			if p.host.link.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 8}) == nil {
				t.Skip("this kernel can make VLANs")
			}
			return settings + "vlan = \"7\"\n", nil // of [address], which is the last
		}},
	}
}

// fullDisk gives the data folder a disk of its own, without room.
func fullDisk(t *testing.T, _ *Phone, settings, data string) (string, func()) {
	must(t, os.MkdirAll(data, 0o700))
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(data, unix.MNT_DETACH) })
	fill := filepath.Join(data, "fill")
	f, err := os.Create(fill)
	must(t, err)
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	f.Close()
	return settings, func() { must(t, os.Remove(fill)) }
}

// brokenOf returns what the phone says is broken, and why.
func brokenOf(ctx context.Context, p *Phone) (map[string]string, error) {
	out, err := p.Ctl(ctx, "status")
	if err != nil {
		return nil, err
	}
	var s struct{ Broken map[string]string }
	return s.Broken, json.Unmarshal([]byte(out), &s)
}

// awaitBroken waits until the phone says, or does not say any more, that a part is
// broken.
func awaitBroken(ctx context.Context, t *testing.T, p *Phone, part string, want bool) string {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		broken, err := brokenOf(ctx, p)
		if why, is := broken[part]; err == nil && is == want {
			return why
		}
		select {
		case <-look.C:
		case <-p.proc.done:
			t.Fatalf("the phone has ended: %s", p.LastWords())
		case <-ctx.Done():
			t.Fatalf("%s broken: want %v, status says %v, %v", part, want, broken, err)
		}
	}
}

// Nothing that is wrong with a part ends the phone: it says so on its control
// socket and in its log, does what it can, and mends itself.
func TestBrokenPartsDoNotEndThePhone(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it breaks what a program finds")
	}
	ctx, bed := ownTown(t, Config{})
	fallback := filepath.Join(bed.Dir, "fallback.toml")
	must(t, os.WriteFile(fallback, []byte("board = \"host\"\n"), 0o600))
	for i, b := range breakages() {
		t.Run(b.name, func(t *testing.T) {
			p, err := bed.AddPhone(ctx, PhoneConfig{Name: fmt.Sprintf("b%d", i), MAC: MAC{2, 0, 0x5e, 0, 0x54, byte(i)}})
			must(t, err)
			m := program{p}
			settings, mend := b.spoil(t, p, m.settings(), filepath.Join(p.dir, "data"))
			must(t, os.WriteFile(m.config(), []byte(settings), 0o600))
			must(t, p.Plug())
			p.proc, err = p.host.run(p.dir, command{name: p.Name, path: p.binary, args: []string{"run", "--config", m.config(), "--fallback", fallback}})
			must(t, err)
			must(t, p.listen(ctx))
			if why := awaitBroken(ctx, t, p, b.part, true); !strings.Contains(why, b.says) {
				t.Errorf("%s is broken: %s; want it to say %q", b.part, why, b.says)
			}
			if _, _, err := p.AwaitLog(ctx, 0, "part of the phone failed", b.part); err != nil {
				t.Error(err)
			}
			if b.works {
				must(t, bed.Server.AwaitState(ctx, p.MAC, "online"))
			}
			if b.works {
				awaitDisplay(ctx, t, p, "broken: ")
			}
			if mend != nil {
				mend()
				awaitBroken(ctx, t, p, b.part, false)
				must(t, bed.Server.AwaitState(ctx, p.MAC, "online"))
			}
			must(t, p.PowerOff())
		})
	}
}

// awaitDisplay waits until a line of the display holds text.
func awaitDisplay(ctx context.Context, t *testing.T, p *Phone, text string) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		s, err := p.Status(ctx)
		if err == nil && strings.Contains(strings.Join(s.Display, "\n"), text) {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("the display shows %q, %v; want %q", s.Display, err, text)
		}
	}
}

// A phone whose control socket cannot be made works, and makes it when it can.
func TestControlSocketComesLater(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it breaks what a program finds")
	}
	ctx, bed := ownTown(t, Config{})
	p, err := bed.AddPhone(ctx, PhoneConfig{Name: "late", MAC: MAC{2, 0, 0x5e, 0, 0x55, 1}})
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(p.Control(), "x"), 0o700))
	must(t, p.Plug())
	p.proc, err = p.machine.start(ctx)
	must(t, err)
	if _, _, err := p.AwaitLog(ctx, 0, "part of the phone failed", "control socket"); err != nil {
		t.Fatal(err)
	}
	must(t, bed.Server.AwaitState(ctx, p.MAC, "online"))
	must(t, os.RemoveAll(p.Control()))
	must(t, p.listen(ctx))
	// Another phone beside it would take its address and its ports.
	code, said := exitOf(t, p.binary, "run", "--config", program{p}.config())
	if code != 1 || !strings.Contains(said, "another phone") {
		t.Errorf("a second phone at the same socket: exit %d, %s", code, said)
	}
}
