package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/internal/usage"
)

// What a program has read of itself and does not need is given back, and it goes on.
func TestForget(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code := func() int64 {
		parts := usage.PartsOf(os.Getpid())
		return parts[usage.Code] + parts[usage.Tables]
	}
	if _, err := os.ReadFile(program); err != nil { // so that it is in the kernel's cache
		t.Fatal(err)
	}
	before := code()
	if before == 0 {
		t.Skip("the kernel does not say what is mapped")
	}
	if err := forget(false); err != nil {
		t.Fatal(err)
	}
	if after := code(); after >= before {
		t.Errorf("%d bytes of the program are mapped, before %d", after, before)
	}
}

// Pages that were locked are given back and then locked as they are touched.
func TestForgetWhatIsLocked(t *testing.T) {
	if err := lockMemory(); err != nil {
		t.Skip(err)
	}
	defer func() { // for the tests that follow
		if err := unix.Munlockall(); err != nil {
			t.Error(err)
		}
	}()
	if err := forget(true); err != nil {
		t.Fatal(err)
	}
	if err := forget(false); err == nil || !strings.Contains(err.Error(), "invalid argument") {
		t.Errorf("locked pages were given back: %v", err)
	}
}

func TestOnlyRead(t *testing.T) {
	const smaps = `00400000-00b00000 r-xp 00001000 08:01 123 /opt/a phone
Pss:                2500 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me de sd
00b00000-01500000 r--p 00701000 08:01 123                /opt/a phone
Anonymous:             0 kB
01500000-01540000 r--p 01101000 08:01 123                /opt/a phone
Anonymous:            12 kB
01540000-01580000 rw-p 01141000 08:01 123                /opt/a phone
Anonymous:             0 kB
00b00000-00400000 r--p 00001000 08:01 123                /opt/a phone
Anonymous:             0 kB
c000000000-c000800000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000800000-7f0000900000 r-xp 00000000 08:01 9          /usr/lib/libjack.so.0.1.0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x700000}, {0xb00000, 0xa00000}}
	if got := onlyRead(smaps, "/opt/a phone"); !slices.Equal(got, want) {
		t.Errorf("%x; want %x", got, want)
	}
}
