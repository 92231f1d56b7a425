package audio_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

// Each part of the delay from mouth to ear is as long as it is said to be (see the
// package's comment), wherever the ticks of the two ends lie: a packet, the wait for the
// tick of whoever hears it, and the filters between the codec's rate and the card's.
func TestDelayIsWhereItIsSaidToBe(t *testing.T) {
	const (
		ms     = time.Millisecond
		packet = 10 * ms
		floor  = 3 * ms     // of the playout delay
		near   = 5 * ms / 2 // the shortest piece of sound that is left out to come nearer to it
	)
	pcmu := formats()[2].Codec()
	for rate, filters := range map[int]time.Duration{8000: 0, 48000: 3 * ms} {
		spoken := speech(t, speechA, rate)
		for apart := time.Duration(0); apart < audio.TickDuration; apart += 2 * ms {
			t.Run(fmt.Sprintf("%d Hz, %v", rate, apart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork()
					a, b := newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
					a.talkTo(t, b.addr, pcmu, packet)
					b.talkTo(t, a.addr, pcmu, packet)
					ctx, cancel := context.WithTimeout(t.Context(), length(spoken, rate)+time.Second)
					defer cancel()
					var wg sync.WaitGroup
					for _, p := range []*phone{a, b} {
						wg.Go(func() { p.engine.Run(ctx, func(err error) { t.Error(err) }) })
						time.Sleep(apart)
					}
					wg.Wait()
					got := audiotest.Compare(spoken, b.card.ear, rate).Delay + apart // b's clock began later
					wait := apart
					if wait < floor {
						wait += audio.TickDuration
					}
					if want := packet + wait + filters; got < want-ms/2 || got > want+near {
						t.Errorf("%v from mouth to ear, want %v", got, want)
					}
					a.Close()
					b.Close()
				})
			})
		}
	}
}
