package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A lateness is what one end of a long call tells of its card.
type lateness struct {
	late, silent uint64 // periods that came more than a period late, and that had nothing to play
}

// longCall counts what was late in a long call, beside all that a phone and a server do.
func (b *bench) longCall(ctx context.Context) (err error) {
	ours := b.makers[0]
	b.say("%v of a call, beside registrations, pages and logs", b.tail)
	if _, err := b.call(ctx, ours, kind{directly: true}); err != nil {
		return err
	}
	busy, stop := context.WithTimeout(ctx, b.tail)
	defer stop()
	var loads sync.WaitGroup
	var pages atomic.Int64
	failed := make(chan error, 2)
	loads.Go(func() {
		for busy.Err() == nil {
			if _, err := b.bed.Server.Metrics(busy); err != nil && busy.Err() == nil {
				failed <- err
				return
			}
			pages.Add(1)
			_ = pause(busy, 50*time.Millisecond) // it is over, or goes on
		}
	})
	loads.Go(func() {
		for busy.Err() == nil {
			if err := b.bed.Server.Load(busy, b.tail); err != nil {
				failed <- err
				return
			}
		}
	})
	loads.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	for _, end := range ours.pair.(*phones).ends {
		s, e := end.Status(ctx)
		if e != nil {
			return errors.Join(err, e)
		}
		var call struct {
			Statistics struct {
				Underruns uint64 `json:"underruns"`
				CardLate  uint64 `json:"card_late"`
			} `json:"statistics"`
		}
		if e := json.Unmarshal(s.Call, &call); e != nil {
			return errors.Join(err, fmt.Errorf("audiobench: %s has no call any more: %w", end.Name, e))
		}
		b.report.tails = append(b.report.tails, lateness{call.Statistics.CardLate, call.Statistics.Underruns})
		b.say("%s, %d pages loaded: %s", end.Name, pages.Load(), s.Call)
	}
	b.report.lasted = b.tail
	return errors.Join(err, ours.hangUp(ctx))
}
