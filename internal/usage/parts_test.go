package usage

import (
	"os"
	"testing"
)

func TestPartsIn(t *testing.T) {
	const smaps = `00400000-00b00000 r-xp 00001000 08:01 123 /opt/phone
Size:               7168 kB
Rss:                5000 kB
Pss:                2500 kB
Pss_Dirty:             0 kB
00b00000-01500000 r--p 00701000 08:01 123 /opt/phone
Pss:                2000 kB
01500000-01580000 rw-p 01101000 08:01 123 /opt/phone
Pss:                 100 kB
01580000-015c0000 rw-p 00000000 00:00 0
Pss:                  30 kB
1c000000-1c021000 rw-p 00000000 00:00 0    [heap]
Pss:                   8 kB
a2c51000000-a2c51c00000 rw-p 00000000 00:00 0
Pss:                3000 kB
7f0000000000-7f0000800000 rw-s 00000000 00:19 7 /dev/shm/a server's
Pss:                 700 kB
7f0000800000-7f0000900000 r-xp 00000000 08:01 9 /usr/lib/libjack.so.0.1.0
Pss:                  40 kB
7f0000900000-7f0000a00000 r-xp 00000000 08:01 9 /usr/lib/libspeexdsp.so.1
Pss:                  20 kB
7f0000a00000-7f0000b00000 r-xp 00000000 08:01 9 /usr/lib/libc.so.6
Pss:                  10 kB
7fb4a4000000-7fb4a406b000 rw-p 00000000 00:00 0
Pss:                   2 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0    [stack]
Pss:                   1 kB
7ffe00000000-7ffe00002000 r-xp 00000000 00:00 0    [vdso]
VmFlags: rd ex mr mw me de sd
`
	want := [Parts]int64{Code: 2500, Tables: 2000, Variables: 130, GoHeap: 3000, Anonymous: 11, Shared: 700, Card: 40, Codecs: 20, Library: 10}
	got := partsIn(smaps, "/opt/phone")
	for p := range want {
		if got[p] != want[p]<<10 {
			t.Errorf("%v: %d kB, want %d", Part(p), got[p]>>10, want[p])
		}
	}
}

// The parts are all there is.
func TestPartsOf(t *testing.T) {
	var sum int64
	for p, n := range PartsOf(os.Getpid()) {
		t.Log(Part(p), n)
		sum += n
	}
	if whole := Proportional(os.Getpid()); sum < whole/2 || sum > 2*whole {
		t.Errorf("the parts are %d bytes, the whole %d", sum, whole)
	}
}
