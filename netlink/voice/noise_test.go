package voice

import (
	"testing"
	"time"

	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/noise"
)

// TestMachineAmongNoise: the VLAN that the switch says is kept.
func TestMachineAmongNoise(t *testing.T) {
	n := noise.New(t)
	now := time.Unix(1_800_000_000, 0)
	m := newMachine(now, 0, time.Second)
	m.step(now, below{index: 2, up: true})
	for i := range noise.Many {
		frame := n.LLDP()
		if i%100 == 0 {
			frame = switchSays(lldp.Policy{VLAN: 42, Life: voiceLife})
		}
		if says, err := lldp.Parse(frame); err == nil {
			m.step(now, says)
		}
		now = now.Add(time.Duration(n.Int64N(int64(time.Second))))
		m.step(now, tick{})
		if m.on != 42 {
			t.Fatalf("after %d: %d", i, m.on)
		}
	}
}
