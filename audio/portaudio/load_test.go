//go:build !image

package portaudio

import (
	"debug/elf"
	"os"
	"strings"
	"testing"
)

// A program that has a sound card loads no library for it before it begins.
func TestLoadsPortAudioWhenItIsUsed(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if len(libraries) == 0 {
		t.Error("the program needs no library at all, so this test sees nothing")
	}
	for _, l := range libraries {
		if strings.Contains(l, "portaudio") || strings.Contains(l, "jack") || strings.Contains(l, "stdc++") {
			t.Errorf("the program needs %s to begin; load.c is to load it with the first call", l)
		}
	}
}
