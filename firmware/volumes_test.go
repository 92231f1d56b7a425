package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio/echo"
)

// What a user has turned is as loud after a restart, also one that comes at once; a file
// that is damaged is told of and costs nothing but what it said.
func TestVolumesOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volumes.json")
	// life runs a phone for a time, in which use uses it.
	life := func(use func(*sound), for_ time.Duration) (v *volumes, err error) {
		synctest.Test(t, func(t *testing.T) {
			v = newVolumes(path, echo.NewDesk(echo.Handset, false))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- v.keep(ctx, func() {}) }()
			synctest.Wait()
			use(&sound{soundConfig: soundConfig{loud: v}})
			time.Sleep(for_)
			cancel()
			err = <-ended
		})
		return v, err
	}
	nothing := func(*sound) {}
	want := func(v *volumes, handset, loudspeaker, ringer int) {
		t.Helper()
		if got := v.all(); got["handset"] != handset || got["loudspeaker"] != loudspeaker || got["ringer"] != ringer {
			t.Errorf("%v; want %d, %d, %d", got, handset, loudspeaker, ringer)
		}
	}
	v, err := life(func(s *sound) {
		for _, tt := range []struct {
			by     int
			ringer bool
			mode   echo.Mode
			want   string
		}{
			{+1, false, echo.Handset, "handset 7 of 10"}, {+1, false, echo.Off, "handset 8 of 10"}, {-1, false, echo.HandsFree, "loudspeaker 5 of 10"},
			{-9, true, echo.HandsFree, "ringer off"}, {+1, true, echo.HandsFree, "ringer 1 of 10"}, {-1, true, echo.HandsFree, "ringer off"},
		} {
			s.loud.desk.SetMode(tt.mode)
			if got := s.Turn(tt.by, tt.ringer); got != tt.want {
				t.Errorf("%+v: the display says %q", tt, got)
			}
		}
		s.Mute(true)
	}, time.Minute)
	if want(v, 8, 5, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if v, _ = life(func(s *sound) { s.loud.set(echo.Ringer, 3) }, 0); v.desk.Muted() {
		t.Error("still muted")
	}
	v, _ = life(nothing, time.Minute)
	want(v, 8, 5, 3)

	for _, text := range []string{"", "{", "[]", `{"ringer":"loud"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		v = newVolumes(path, echo.NewDesk(echo.Handset, false))
		if err := v.keep(t.Context(), func() { t.Errorf("%q works", text) }); err == nil {
			t.Errorf("%q is read", text)
		}
		want(v, 6, 6, 6)
	}
	if err := os.WriteFile(path, []byte(`{"ringer":-7,"handset":700,"trumpet":5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	v, _ = life(nothing, 0)
	want(v, 10, 6, 0)
}
