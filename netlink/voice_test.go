package netlink

import (
	"testing"
	"time"

	"flexphone/netlink/internal/link"
)

// TestVoicing plays what happens to a telephone, and looks at where it belongs
// after each moment; -1: too early to say.
func TestVoicing(t *testing.T) {
	const wait = 2 * time.Second
	says := func(vlan uint16, life time.Duration) lldpSays {
		return lldpSays{from: "switch 1", device: medConnectivity, voice: true, policy: voicePolicy{vlan: vlan, life: life}}
	}
	with := func(s lldpSays, edit func(*lldpSays)) lldpSays { edit(&s); return s }
	good := says(42, 2*time.Minute)
	phone := with(good, func(s *lldpSays) { s.from, s.device = "phone", 3 })
	mute := with(good, func(s *lldpSays) { s.device = 0 })
	silent := with(good, func(s *lldpSays) { s.voice, s.policy.vlan = false, 0 })
	second := with(says(43, 2*time.Minute), func(s *lldpSays) { s.from = "switch 2" })
	up, down, gone := parentSeen{2, true}, parentSeen{2, false}, parentSeen{}
	type moment struct {
		after time.Duration
		in    any
		want  int
	}
	for _, tt := range []struct {
		name    string
		fixed   int
		moments []moment
	}{
		{"nobody says anything", 0, []moment{{0, up, -1}, {wait - 1, tick{}, -1}, {1, tick{}, 0}, {time.Hour, tick{}, 0}}},
		{"a switch does", 0, []moment{{0, up, -1}, {0, good, 42}, {time.Minute, good, 42}, {2*time.Minute - 1, tick{}, 42}}},
		{"a switch does later", 0, []moment{{0, up, -1}, {wait, tick{}, 0}, {time.Minute, good, 42}}},
		{"its time runs out", 0, []moment{{0, up, -1}, {0, good, 42}, {2 * time.Minute, tick{}, 0}, {0, good, 42}}},
		{"it says goodbye", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, says(42, 0), 0}}},
		{"it withdraws its policy", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, silent, 0}}},
		{"it says another", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, says(43, time.Minute), 43}, {0, says(0, time.Minute), 0}}},
		{"another telephone says so", 0, []moment{{0, up, -1}, {0, phone, -1}, {wait, phone, 0}}},
		{"who does not speak LLDP-MED says so", 0, []moment{{0, up, -1}, {0, mute, -1}, {wait, mute, 0}}},
		{"another telephone withdraws it", 0, []moment{{0, up, -1}, {0, good, 42}, {0, with(phone, func(s *lldpSays) { s.voice = false }), 42}}},
		{"a second switch says another", 0, []moment{{0, up, -1}, {0, good, 42}, {0, second, 42}, {2 * time.Minute, second, 43}}},
		{"the cable flaps", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {link.Grace - 1, up, 42}, {time.Minute, tick{}, 42}}},
		{"the cable is plugged in elsewhere", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {link.Grace, up, 42}, {wait - 1, tick{}, 42}, {1, tick{}, 0}}},
		{"and in again where it was", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {time.Second, up, 42}, {time.Second, good, 42}, {time.Minute, tick{}, 42}}},
		{"and at another switch with another VLAN", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {time.Second, up, 42}, {time.Second, second, 43}}},
		{"a server says so", 0, []moment{{0, up, -1}, {wait, tick{}, 0}, {0, serverSays{44}, 44}, {time.Second, leaseOnVLAN{}, 44}, {time.Hour, tick{}, 44}}},
		{"a server does, a switch says another", 0, []moment{{0, up, -1}, {wait, serverSays{44}, 44}, {0, good, 42}, {time.Second, silent, 44}}},
		{"a server does, then elsewhere none", 0, []moment{{0, up, -1}, {wait, serverSays{44}, 44}, {0, leaseOnVLAN{}, 44}, {time.Hour, down, 44}, {time.Second, up, 0}, {time.Second, serverSays{0}, 0}}},
		{"a server names a VLAN that gives nothing", 0, []moment{{0, up, -1}, {wait, serverSays{44}, 44}, {barrenWait - 1, tick{}, 44}, {1, tick{}, 0}, {time.Second, serverSays{44}, 0}, {0, serverSays{45}, 45}}},
		{"and is asked again when the cable was out", 0, []moment{{0, up, -1}, {wait, serverSays{44}, 44}, {barrenWait, tick{}, 0}, {0, down, 0}, {time.Second, up, 0}, {0, serverSays{44}, 44}}},
		{"by settings", 42, []moment{{0, gone, -1}, {time.Minute, up, 42}, {0, second, 42}, {0, down, 42}, {time.Hour, up, 42}}},
		{"by settings, on an adapter", 42, []moment{{0, up, 42}, {0, gone, -1}, {time.Hour, parentSeen{3, true}, 42}}},
		{"by settings, and a kernel that cannot", 42, []moment{{0, up, 42}, {0, cannotMake{42}, 0}, {time.Hour, tick{}, 0}, {0, gone, -1}, {0, parentSeen{3, true}, 42}}},
		{"by a switch, and a kernel that cannot", 0, []moment{{0, up, -1}, {0, good, 42}, {0, cannotMake{42}, 0}, {0, says(43, time.Minute), 43}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			v := voicing{fixed: tt.fixed, wait: wait}
			v.start(now)
			for i, m := range tt.moments {
				end := now.Add(m.after)
				for d := v.deadline(now); !d.IsZero() && d.Before(end); d = v.deadline(now) {
					now = d
					v.step(now, tick{})
				}
				now = end
				v.step(now, m.in)
				got, ok := v.vlan(now)
				if !ok {
					got = -1
				}
				if got != m.want {
					t.Fatalf("moment %d: %d; want %d", i, got, m.want)
				}
			}
		})
	}
}
