package voice

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/steptest"
)

// What a Source tells in TestPlace.
type (
	says132 struct{ vlan int } // on the untagged network
	leased  struct{}           // on a VLAN
)

// TestPlace plays what happens to a telephone, and looks at where it belongs
// after each moment; -1: too early to say.
func TestPlace(t *testing.T) {
	const wait = 2 * time.Second
	says := func(vlan uint16, life time.Duration) lldp.Message {
		return lldp.Message{From: "switch 1", Device: lldp.Connectivity, Voice: true, Policy: lldp.Policy{VLAN: vlan, Life: life}}
	}
	with := func(s lldp.Message, edit func(*lldp.Message)) lldp.Message { edit(&s); return s }
	good := says(42, 2*time.Minute)
	phone := with(good, func(s *lldp.Message) { s.From, s.Device = "phone", 3 })
	mute := with(good, func(s *lldp.Message) { s.Device = 0 })
	silent := with(good, func(s *lldp.Message) { s.Voice, s.Policy.VLAN = false, 0 })
	second := with(says(43, 2*time.Minute), func(s *lldp.Message) { s.From = "switch 2" })
	up, down, gone := below{index: 2, up: true}, below{index: 2, up: false}, below{}
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
		{"another telephone withdraws it", 0, []moment{{0, up, -1}, {0, good, 42}, {0, with(phone, func(s *lldp.Message) { s.Voice = false }), 42}}},
		{"a second switch says another", 0, []moment{{0, up, -1}, {0, good, 42}, {0, second, 42}, {2 * time.Minute, second, 43}}},
		{"the cable flaps", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {link.Grace - 1, up, 42}, {time.Minute, tick{}, 42}}},
		{"the cable is plugged in elsewhere", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {link.Grace, up, 42}, {wait - 1, tick{}, 42}, {1, tick{}, 0}}},
		{"and in again where it was", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {time.Second, up, 42}, {time.Second, good, 42}, {time.Minute, tick{}, 42}}},
		{"and at another switch with another VLAN", 0, []moment{{0, up, -1}, {0, good, 42}, {wait, down, 42}, {time.Second, up, 42}, {time.Second, second, 43}}},
		{"a server says so", 0, []moment{{0, up, -1}, {wait, tick{}, 0}, {0, says132{44}, 44}, {time.Second, leased{}, 44}, {time.Hour, tick{}, 44}}},
		{"a server does, a switch says another", 0, []moment{{0, up, -1}, {wait, says132{44}, 44}, {0, good, 42}, {time.Second, silent, 44}}},
		{"a server does, then elsewhere none", 0, []moment{{0, up, -1}, {wait, says132{44}, 44}, {0, leased{}, 44}, {time.Hour, down, 44}, {time.Second, up, 0}, {time.Second, says132{0}, 0}}},
		{"a server names a VLAN that gives nothing", 0, []moment{{0, up, -1}, {wait, says132{44}, 44}, {barrenWait - 1, tick{}, 44}, {1, tick{}, 0}, {time.Second, says132{44}, 0}, {0, says132{45}, 45}}},
		{"and is asked again when the cable was out", 0, []moment{{0, up, -1}, {wait, says132{44}, 44}, {barrenWait, tick{}, 0}, {0, down, 0}, {time.Second, up, 0}, {0, says132{44}, 44}}},
		{"by settings", 42, []moment{{0, gone, -1}, {time.Minute, up, 42}, {0, second, 42}, {0, down, 42}, {time.Hour, up, 42}}},
		{"by settings, on an adapter", 42, []moment{{0, up, 42}, {0, gone, -1}, {time.Hour, below{index: 3, up: true}, 42}}},
		{"by settings, and a kernel that cannot", 42, []moment{{0, up, 42}, {0, notMade{unix.EOPNOTSUPP}, 0}, {time.Hour, tick{}, 0}, {0, gone, -1}, {0, below{index: 3, up: true}, 42}}},
		{"by a switch, and a kernel that cannot", 0, []moment{{0, up, -1}, {0, good, 42}, {0, notMade{unix.EOPNOTSUPP}, 0}, {0, says(43, time.Minute), 43}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			m := newMachine(now, tt.fixed, wait)
			for i, moment := range tt.moments {
				steptest.Elapse(t, &now, moment.after, func() time.Time { return m.deadline(now) }, func() { m.step(now, tick{}) })
				switch in := moment.in.(type) {
				case says132:
					m.step(now, told{netlink.Event{Kind: netlink.Bound, Lease: netlink.Lease{VoiceVLAN: in.vlan}}})
				case leased:
					m.step(now, told{netlink.Event{Kind: netlink.Bound}})
				default:
					m.step(now, in)
				}
				got, ok := m.place.vlan(now)
				if !ok {
					got = -1
				}
				if got != moment.want {
					t.Fatalf("moment %d: %d; want %d", i, got, moment.want)
				}
			}
		})
	}
}
