package boards

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryBoardIsWhole(t *testing.T) {
	names, compatible := map[string]bool{}, map[string]bool{}
	for _, b := range All() {
		t.Run(b.Name, func(t *testing.T) {
			if b.Name == "" || names[b.Name] {
				t.Errorf("the name %q is none, or another board's, too", b.Name)
			}
			names[b.Name] = true
			for _, c := range b.Compatible {
				if compatible[c] {
					t.Errorf("another board is compatible with %q, too", c)
				}
				compatible[c] = true
			}
			if b.Port == "" {
				t.Error("no network port")
			}
			real := len(b.Compatible) > 0 // hardware, not a program on a desk
			if real && (b.Sound.Card == "" || b.Watchdog == "" || b.Arch.GOARCH == "") {
				t.Errorf("sound %+v, watchdog %q, arch %+v: want all of them", b.Sound, b.Watchdog, b.Arch)
			}
			if r := b.RealTime; r.Priority < 0 || r.Priority > 49 || r.Garbage < 0 || r.MemoryMiB < 0 || real && (!r.Lock || r.Garbage == 0 || r.MemoryMiB == 0) {
				t.Errorf("real time %+v: want a priority below the kernel's own, and all of it on hardware", r)
			}
			if real {
				wholeImage(t, b)
			}
			if (b.Arch.GOARCH == "arm") != (b.Arch.GOARM != "") {
				t.Errorf("arch %+v: GOARM belongs to arm", b.Arch)
			}
			if len(b.Keypads) == 0 {
				t.Error("no keypad")
			}
			seen := map[string]bool{}
			for _, k := range b.Keypads {
				if seen[k.Name] {
					t.Errorf("two keypads are called %q", k.Name)
				}
				seen[k.Name] = true
				wholeKeypad(t, b, k)
			}
			one(t, "display", b.Display.TTY != "", b.Display.Simulated)
			one(t, "lamp", b.Lamp.Output != nil, b.Lamp.LED != "", b.Lamp.Simulated)
		})
	}
}

// wholeImage checks that there is all that an image is made of.
func wholeImage(t *testing.T, b Board) {
	t.Helper()
	i := b.Image
	if want := map[string]string{"arm64": "arm64", "arm": "armhf"}[b.Arch.GOARCH]; i.Arch != want {
		t.Errorf("the image's packages are for %q, the program for %+v; want %q", i.Arch, b.Arch, want)
	}
	if i.Kernel == "" || i.Console == "" || i.BootMiB <= 0 || i.Boot != Extlinux && i.Boot != Raspberry {
		t.Errorf("image %+v: want kernel, console, boot and the size of its partition", i)
	}
	one(t, "device tree", i.Overlay != "", len(i.Trees) > 0)
	if (i.Kernel == OwnKernel) != (len(i.InitrdModules) == 0) {
		t.Errorf("kernel %q with initramfs of %q: ours needs none, Debian's has its disk drivers in modules", i.Kernel, i.InitrdModules)
	}
	seen := map[string]bool{}
	for _, m := range slices.Concat(i.InitrdModules, i.Modules) {
		if m == "" || seen[m] {
			t.Errorf("module %q is none, or named twice", m)
		}
		seen[m] = true
	}
}

// wholeKeypad checks that k has each key once, and no line twice or with
// another use.
func wholeKeypad(t *testing.T, b Board, k Keypad) {
	t.Helper()
	one(t, "keypad "+k.Name, k.Matrix != nil, k.Direct != nil, k.Device != "", k.Simulated)
	h := b.HookWith(k)
	one(t, "hook with "+k.Name, h.Input != nil, h.Device != "", h.Simulated)
	var keys string
	var used []Line
	if m := k.Matrix; m != nil {
		if len(m.Keys) != len(m.Rows) {
			t.Errorf("%s: %d rows of keys, %d row lines", k.Name, len(m.Keys), len(m.Rows))
		}
		for i, row := range m.Keys {
			if len(row) != len(m.Cols) {
				t.Errorf("%s: row %d has %d keys, there are %d column lines", k.Name, i, len(row), len(m.Cols))
			}
		}
		oneChip(t, k.Name, m.Rows)
		oneChip(t, k.Name, m.Cols)
		keys, used = strings.Join(m.Keys, ""), slices.Concat(m.Rows, m.Cols)
	}
	if d := k.Direct; d != nil {
		if len(d.Keys) != len(d.Lines) {
			t.Errorf("%s: %d keys, %d lines", k.Name, len(d.Keys), len(d.Lines))
		}
		oneChip(t, k.Name, d.Lines)
		keys, used = d.Keys, d.Lines
	}
	if used == nil {
		return
	}
	for _, key := range "0123456789*#" {
		if n := strings.Count(keys, string(key)); n != 1 {
			t.Errorf("%s: key %q appears %d times; want 1", k.Name, key, n)
		}
	}
	for _, key := range strings.ReplaceAll(keys, " ", "") {
		if !strings.ContainsRune("0123456789*#+-M", key) || strings.Count(keys, string(key)) > 1 {
			t.Errorf("%s: %q is no key, or there twice", k.Name, key)
		}
	}
	if h.Input != nil {
		used = append(slices.Clone(used), h.Input.Line)
	}
	if b.Lamp.Output != nil {
		used = append(slices.Clone(used), b.Lamp.Output.Line)
	}
	seen := map[Line]bool{}
	for _, l := range used {
		if seen[l] {
			t.Errorf("%s: line %+v has two uses", k.Name, l)
		}
		seen[l] = true
		if l.Chip == "" && l.Name == "" {
			t.Errorf("%s: a line has neither chip nor name", k.Name)
		}
	}
}

func oneChip(t *testing.T, keypad string, l []Line) {
	t.Helper()
	for _, line := range l {
		if line.Chip != l[0].Chip {
			t.Errorf("%s: lines of %q and %q; want one chip", keypad, l[0].Chip, line.Chip)
		}
	}
}

func one(t *testing.T, what string, set ...bool) {
	t.Helper()
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%s: %d kinds of it are set; want one", what, n)
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ compatible, want string }{
		{"linux,dummy-virt\x00", "qemu-virt"},
		{"fsl,imx6ul-14x14-evk\x00fsl,imx6ul\x00", "imx6ul-evk"},
		{"raspberrypi,4-model-b\x00brcm,bcm2711\x00", "rpi"},
		{"raspberrypi,model-zero-2-w\x00brcm,bcm2837\x00", "rpi"},
	} {
		if b, err := Find(c.compatible); err != nil || b.Name != c.want {
			t.Errorf("Find(%q) = %s, %v; want %s", c.compatible, b.Name, err, c.want)
		}
	}
	for _, unknown := range []string{"", "acme,toaster\x00acme,soc\x00"} {
		if b, err := Find(unknown); err == nil {
			t.Errorf("Find(%q) = %s; want an error", unknown, b.Name)
		}
	}
}

func TestNamed(t *testing.T) {
	for _, b := range All() {
		if got, err := Named(b.Name); err != nil || got.Name != b.Name {
			t.Errorf("Named(%q) = %s, %v", b.Name, got.Name, err)
		}
	}
	if _, err := Named("toaster"); err == nil || !strings.Contains(err.Error(), "qemu-virt") {
		t.Errorf("Named(toaster) = %v; want an error that names the boards", err)
	}
}

func TestKeypadByName(t *testing.T) {
	b, err := Named("qemu-virt")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": "evdev", "matrix": "matrix", "lines": "lines"} {
		if k, err := b.Keypad(name); err != nil || k.Name != want {
			t.Errorf("Keypad(%q) = %s, %v; want %s", name, k.Name, err, want)
		}
	}
	if _, err := b.Keypad("abacus"); err == nil || !strings.Contains(err.Error(), "matrix") {
		t.Errorf("Keypad(abacus) = %v; want an error that names the keypads", err)
	}
}
