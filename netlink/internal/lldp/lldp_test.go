package lldp

import (
	"slices"
	"testing"
	"time"

	"flexphone/internal/mac"
)

var (
	ours   = mac.Address{2, 0, 0x5e, 0, 0x53, 1}
	theirs = mac.Address{2, 0, 0x5e, 0, 0x53, 2}
)

// switchSays is the LLDPDU of a switch with a policy for voice.
func switchSays(p Policy) []byte {
	return Build(theirs, "switch", Connectivity, p.Life, p, true)
}

func TestLLDP(t *testing.T) {
	want := Policy{VLAN: 42, Priority: 5, DSCP: 46, Life: 2 * time.Minute}
	good := switchSays(want)
	if says, err := Parse(append(slices.Clone(good), make([]byte, 20)...)); err != nil || !says.Voice || says.Policy != want || says.Device != Connectivity {
		t.Errorf("read as %+v, %v", says, err)
	}
	if says, err := Parse(switchSays(Policy{DSCP: 46})); err != nil || !says.Voice || says.Policy.VLAN != 0 {
		t.Errorf("untagged: %+v, %v", says, err)
	}
	if says, err := Parse(Telephone(ours, "", time.Minute, Policy{}, false)); err != nil || says.Voice || says.Device != 3 {
		t.Errorf("a phone that asks: %+v, %v", says, err)
	}
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"cut":           good[:len(good)-3],
		"no end":        good[:len(good)-2],
		"another order": append(slices.Clone(good[9:]), good[:9]...),
		"a short time":  slices.Concat(good[:18], []byte{lifetime << 1, 1, 9}, good[22:]),
		"VLAN 4095":     switchSays(Policy{VLAN: 0xfff, Life: time.Minute}),
	} {
		if says, err := Parse(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, says)
		}
	}
}

func FuzzLLDP(f *testing.F) {
	f.Add(switchSays(Policy{VLAN: 42, Priority: 5, DSCP: 46, Life: 2 * time.Minute}))
	f.Add(Telephone(ours, "phone", time.Minute, Policy{}, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		says, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(Build(ours, "x", says.Device, says.Policy.Life, says.Policy, says.Voice))
		if again.From = says.From; err != nil || again != says {
			t.Errorf("%+v became %+v, %v", says, again, err)
		}
	})
}
