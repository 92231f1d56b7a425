package netlink

import (
	"slices"
	"testing"
	"time"
)

// switchSays is the LLDPDU of a switch with a policy for voice.
func switchSays(p voicePolicy) []byte {
	return medLLDP(otherMAC, "switch", medConnectivity, p.life, p, true)
}

func TestLLDP(t *testing.T) {
	want := voicePolicy{vlan: 42, priority: 5, dscp: 46, life: 2 * time.Minute}
	good := switchSays(want)
	if says, err := parseLLDP(append(slices.Clone(good), make([]byte, 20)...)); err != nil || !says.voice || says.policy != want || says.device != medConnectivity {
		t.Errorf("read as %+v, %v", says, err)
	}
	if says, err := parseLLDP(switchSays(voicePolicy{dscp: 46})); err != nil || !says.voice || says.policy.vlan != 0 {
		t.Errorf("untagged: %+v, %v", says, err)
	}
	if says, err := parseLLDP(voiceLLDP(simMAC, "", time.Minute, voicePolicy{}, false)); err != nil || says.voice || says.device != 3 {
		t.Errorf("a phone that asks: %+v, %v", says, err)
	}
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"cut":           good[:len(good)-3],
		"no end":        good[:len(good)-2],
		"another order": append(slices.Clone(good[9:]), good[:9]...),
		"a short time":  slices.Concat(good[:18], []byte{lldpTTL << 1, 1, 9}, good[22:]),
		"VLAN 4095":     switchSays(voicePolicy{vlan: 0xfff, life: time.Minute}),
	} {
		if says, err := parseLLDP(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, says)
		}
	}
}

func FuzzLLDP(f *testing.F) {
	f.Add(switchSays(voicePolicy{vlan: 42, priority: 5, dscp: 46, life: 2 * time.Minute}))
	f.Add(voiceLLDP(simMAC, "phone", time.Minute, voicePolicy{}, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		says, err := parseLLDP(b)
		if err != nil {
			return
		}
		again, err := parseLLDP(medLLDP(simMAC, "x", says.device, says.policy.life, says.policy, says.voice))
		if again.from = says.from; err != nil || again != says {
			t.Errorf("%+v became %+v, %v", says, again, err)
		}
	})
}
