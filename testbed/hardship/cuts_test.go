package hardship

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"flexphone/testbed"
)

// cuts is how often the power is cut.
func cuts() int {
	if n, err := strconv.Atoi(os.Getenv("FLEXPHONE_CUTS")); err == nil {
		return n
	}
	return 3
}

// TestPowerCuts takes the phone's power away at random moments of its start, of
// its lease, and of standby. Nothing runs beside the image.
func TestPowerCuts(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	_, usual, err := s.BootAsFlashed(ctx)
	must(t, err)
	must(t, s.bed.Server.SetNumber(ctx, s.MAC, "101"))
	before, err := s.bed.Server.Row(ctx, s.MAC)
	must(t, err)
	for n := range cuts() {
		after := rand.N(usual + usual/2)
		short, cancel := context.WithTimeout(ctx, after)
		_, _, err := s.BootAsFlashed(short)
		<-short.Done()
		cancel()
		how := fmt.Sprintf("%v after power-on", after.Round(time.Millisecond))
		if err == nil {
			how = fmt.Sprintf("when it had registered, less than %v after power-on", after.Round(time.Millisecond))
		}
		line, _, err := s.BootAsFlashed(ctx)
		must(t, err)
		row, err := s.bed.Server.Row(ctx, s.MAC)
		must(t, err)
		// The server refuses a MAC with another key.
		if row.Sequence <= before.Sequence || row.Number != "101" || row.State != "online" {
			t.Errorf("after a cut %s the row is %+v; it was %+v", how, row, before)
		}
		_, chain, _ := strings.Cut(line, "from power-on")
		t.Logf("cut %d, %s: again registered as %s, sequence %d: %s", n+1, how, row.Number, row.Sequence, strings.Trim(chain, "\" "))
		before = row
	}
}

// cutSoon cuts the power within a second, and returns the row once the phone is
// in standby again.
func (s street) cutSoon(ctx context.Context, t *testing.T) testbed.Row {
	t.Helper()
	after := time.NewTimer(rand.N(time.Second))
	<-after.C
	s.PowerCut()
	s.Mark()
	must(t, s.PowerOn(ctx))
	return s.standby(ctx, t, "101")
}

// TestPowerCutsOfSettings takes it away while the settings are written.
func TestPowerCutsOfSettings(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	s.enrol(ctx, t)
	for n := range cuts() {
		must(t, s.Save("data = \"/data\"\n", true))
		row := s.cutSoon(ctx, t)
		for _, e := range s.Events() {
			// An emulated sound card stands still whenever its machine does.
			if e.Name == "failed" && e.Field("part") != "sound" {
				t.Errorf("after cut %d: %s", n+1, e)
			}
		}
		t.Logf("cut %d: in standby again as %s, sequence %d", n+1, row.Number, row.Sequence)
	}
}

// TestPowerCutsInACall takes it away while somebody talks.
func TestPowerCutsInACall(t *testing.T) {
	ctx, s := move(t, testbed.GuestConfig{})
	s.enrol(ctx, t)
	voice, err := testbed.Speech("cards/005")
	must(t, err)
	other, err := s.bed.AddBaresip(ctx, testbed.BaresipConfig{Codec: "pcmu", Speech: voice})
	must(t, err)
	call := func() {
		_, err := s.Dial(ctx, testbed.DialledAddr(other.Addr))
		must(t, err)
		_, err = s.Await(ctx, "established")
		must(t, err)
	}
	for n := range cuts() {
		call()
		row := s.cutSoon(ctx, t)
		t.Logf("cut %d: in standby again as %s, sequence %d", n+1, row.Number, row.Sequence)
		must(t, other.Hangup()) // the phone has its address again, and knows of no call
		_, err = other.Await(ctx, "CALL_CLOSED")
		must(t, err)
	}
	call()
	must(t, s.OnHook(ctx))
	_, err = other.Await(ctx, "CALL_CLOSED")
	must(t, err)
}
