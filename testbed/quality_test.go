package testbed

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// A phone that is set to it tells the storing server how its calls were, with its next
// announcement, and one that is not tells nothing. Both ends tell each other, and the
// user reads it when * is pressed.
func TestQualityIsTold(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it changes a program's settings")
	}
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	must(t, a.PowerOff())
	m := program{a}
	must(t, os.WriteFile(m.config(), []byte("tell_quality = true\n"+m.settings()), 0o600))
	a.Mark()
	must(t, a.PowerOn(ctx))
	await(ctx, t, a, "registered")

	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	var figures struct {
		Statistics struct {
			MOS     float64  `json:"mos"`
			PeerMOS *float64 `json:"peer_mos"`
		} `json:"statistics"`
	}
	for _, p := range phones {
		for figures.Statistics.PeerMOS = nil; figures.Statistics.PeerMOS == nil; { // the first report comes within four seconds
			s, err := p.Status(ctx)
			must(t, err)
			must(t, json.Unmarshal(s.Call, &figures))
		}
		if f := figures.Statistics; f.MOS < 3 || f.MOS > 4.5 || *f.PeerMOS < 3 || *f.PeerMOS > 4.5 {
			t.Errorf("%s hears with %v, and is heard with %v", p.Name, f.MOS, *f.PeerMOS)
		}
	}
	must(t, a.Press(ctx, "*"))
	s, err := a.Status(ctx)
	for err == nil && !strings.HasPrefix(s.Display[1], "MOS ") {
		s, err = a.Status(ctx)
	}
	must(t, err)
	if !strings.HasSuffix(s.Display[1], " of 4.5, direct") {
		t.Errorf("* shows %q", s.Display)
	}
	for err == nil && s.Display[1] != "private" {
		s, err = a.Status(ctx)
	}
	must(t, err)
	must(t, talk.HangUp(ctx, b))

	for i, p := range phones {
		move(ctx, t, bed, p, East.Address(70+i))
	}
	metrics, err := bed.Server.Metrics(ctx)
	must(t, err)
	for _, name := range []string{"storing_server_call_mos", "storing_server_call_lost_ratio", "storing_server_call_delay_seconds"} {
		if !strings.Contains(metrics, "\n"+name+"_count 1\n") {
			t.Errorf("%s does not count the one call that was told of", name)
		}
	}
	if !strings.Contains(metrics, `storing_server_calls_total{way="direct"} 1`) {
		t.Error("the way of its sound is not told")
	}
}
