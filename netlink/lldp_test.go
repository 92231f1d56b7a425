package netlink

import (
	"slices"
	"testing"
	"time"
)

// switchSays is the LLDPDU of a switch with a policy for voice.
func switchSays(p voicePolicy) []byte { return voiceLLDP(otherMAC, "switch", p.life, p, true) }

func TestLLDP(t *testing.T) {
	want := voicePolicy{vlan: 42, priority: 5, dscp: 46, life: 2 * time.Minute}
	good := switchSays(want)
	if p, ok, err := parseLLDP(append(slices.Clone(good), make([]byte, 20)...)); err != nil || !ok || p != want {
		t.Errorf("read as %+v, %v, %v", p, ok, err)
	}
	if p, ok, err := parseLLDP(switchSays(voicePolicy{dscp: 46})); err != nil || !ok || p.vlan != 0 {
		t.Errorf("untagged: %+v, %v, %v", p, ok, err)
	}
	if _, ok, err := parseLLDP(voiceLLDP(simMAC, "", time.Minute, voicePolicy{}, false)); err != nil || ok {
		t.Errorf("a phone that asks: %v, %v", ok, err)
	}
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"cut":           good[:len(good)-3],
		"no end":        good[:len(good)-2],
		"another order": append(slices.Clone(good[9:]), good[:9]...),
		"a short time":  slices.Concat(good[:18], []byte{lldpTTL << 1, 1, 9}, good[22:]),
		"VLAN 4095":     switchSays(voicePolicy{vlan: 0xfff, life: time.Minute}),
	} {
		if p, ok, err := parseLLDP(b); err == nil {
			t.Errorf("%s: accepted as %+v, %v", name, p, ok)
		}
	}
}

func FuzzLLDP(f *testing.F) {
	f.Add(switchSays(voicePolicy{vlan: 42, priority: 5, dscp: 46, life: 2 * time.Minute}))
	f.Add(voiceLLDP(simMAC, "phone", time.Minute, voicePolicy{}, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok, err := parseLLDP(b)
		if err != nil {
			return
		}
		again, okAgain, err := parseLLDP(voiceLLDP(simMAC, "x", p.life, p, ok))
		if err != nil || okAgain != ok || again != p {
			t.Errorf("%+v, %v became %+v, %v, %v", p, ok, again, okAgain, err)
		}
	})
}
