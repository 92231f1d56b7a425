package audio_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
)

// The device that rings is there for the ring alone, in place of the other one; if it
// cannot, or fails while it rings, the other one rings.
func TestRinger(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		opens  error // the ringer
		fails  func() error
		loud   bool // the ringer was heard
		spoken bool // the other one was heard while it rang
	}{
		"rings":           {loud: true},
		"is not there":    {opens: gone, spoken: true},
		"fails meanwhile": {fails: func() error { return gone }, loud: true, spoken: true},
		"stands still":    {fails: func() error { time.Sleep(time.Hour); return gone }, loud: true, spoken: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open atomic.Int32
				closes := func() error { open.Add(-1); return nil }
				var spoke, rang []*shaky
				ctx, stop := context.WithCancel(t.Context())
				e := audio.NewEngine(audio.Config{Log: quiet(), Open: func() (audio.Device, error) {
					open.Add(1)
					spoke = append(spoke, &shaky{card: newCard(8000, nil), closes: closes})
					return spoke[len(spoke)-1], nil
				}, Ringer: func() (audio.Device, error) {
					if c.opens != nil {
						return nil, c.opens
					}
					open.Add(1)
					rang = append(rang, &shaky{card: newCard(16000, nil), good: 300, fails: c.fails, closes: closes})
					return rang[len(rang)-1], nil
				}})
				ended := make(chan error, 1)
				go func() { ended <- e.Run(ctx, func(error) {}) }()
				heard := func(by []*shaky) bool {
					return slices.ContainsFunc(by, func(s *shaky) bool { return slices.Max(append(s.card.ear, 0)) > 1000 })
				}
				time.Sleep(time.Second) // simulated
				synctest.Wait()
				for range 3 { // rings, each of them twice
					spoke, rang = nil, nil
					e.Ring(audio.Germany().Ringing)
					time.Sleep(8 * time.Second)
					synctest.Wait()
					if err := e.Alive(t.Context()); err != nil {
						t.Error(err)
					}
					if open.Load() != 1 {
						t.Errorf("%d devices are open while it rings", open.Load())
					}
					e.Play(audio.Tone{})
					time.Sleep(4 * time.Second)
					synctest.Wait()
					if heard(rang) != c.loud || heard(spoke) != c.spoken {
						t.Errorf("the ringer was heard: %v, the other one: %v", heard(rang), heard(spoke))
					}
					quiet := len(rang)
					e.Play(audio.Germany().Dial) // somebody lifts the handset
					time.Sleep(time.Second)
					synctest.Wait()
					if len(rang) != quiet || open.Load() != 1 {
						t.Errorf("%d ringers after the ring, %d devices are open", len(rang)-quiet, open.Load())
					}
					e.Play(audio.Tone{})
					time.Sleep(4 * time.Second)
					synctest.Wait()
				}
				if !heard(spoke) {
					t.Error("no dial tone")
				}
				stop()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if open.Load() != 0 {
					t.Errorf("%d devices are open at the end", open.Load())
				}
				time.Sleep(4 * time.Hour) // whatever hung comes to its end
			})
		})
	}
}
