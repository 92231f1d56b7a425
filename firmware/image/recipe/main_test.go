package main

import (
	"os/exec"
	"strings"
	"testing"

	"flexphone/boards"
)

// The shell reads what the board says.
func TestRecipe(t *testing.T) {
	for _, b := range boards.All() {
		text, err := recipe(b.Name)
		if b.Image.Kernel == "" {
			if err == nil || !strings.Contains(err.Error(), b.Name) {
				t.Errorf("recipe(%s) = %v; want an error that names it", b.Name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-euc", text+`printf '%s|' "$arch" "$kernel" "$dtb$overlay" "$console" "$boot_by" $modules`).Output()
		i := b.Image
		want := strings.Join(append([]string{i.Arch, i.Kernel, strings.Join(i.Trees, " ") + i.Overlay, i.Console, string(i.Boot)}, i.Modules...), "|") + "|"
		if err != nil || string(out) != want {
			t.Errorf("the shell reads %q, %v; want %q", out, err, want)
		}
	}
	if _, err := recipe("toaster"); err == nil || !strings.Contains(err.Error(), "qemu-virt") {
		t.Errorf("recipe(toaster) = %v; want an error that names the boards", err)
	}
}
