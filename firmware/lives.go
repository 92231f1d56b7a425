package main

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"flexphone/audio"
	"flexphone/boards"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	registry "flexphone/registry-client"
)

// streetSpread is over how long phones that are switched on together announce
// themselves for the first time. Each takes the storing server half a millisecond
// of a processor for its handshake (docs/scale.md): a street of a thousand has come
// by then, and nobody waits longer than for a dial tone.
const streetSpread = 500 * time.Millisecond

// A half is parts that end together.
type half struct {
	keep  func(part string, life func(context.Context, func()) error)
	end   context.CancelFunc
	group *sync.WaitGroup
}

func newHalf(ctx context.Context, keeper *parts.Keeper) half {
	ctx, end := context.WithCancel(ctx)
	h := half{end: end, group: &sync.WaitGroup{}}
	h.keep = func(part string, life func(context.Context, func()) error) {
		h.group.Go(func() { keeper.Keep(ctx, part, life) })
	}
	return h
}

// addressFirst bounds how long the rest of a phone leaves the processor to who gets
// its address. A DHCP server answers within a few milliseconds; who has waited for
// longer than this waits for a network, and the rest is not felt.
const addressFirst = 50 * time.Millisecond

// A headStart is what one part has before others. A second processor makes it no less
// worth: the kernel wants it, and so does a server on the same machine.
type headStart struct {
	over chan struct{}
	once sync.Once
}

// newHeadStart returns one that is over when end is called, and soon without that.
func newHeadStart() *headStart {
	h := &headStart{over: make(chan struct{})}
	time.AfterFunc(addressFirst, h.end)
	return h
}

func (h *headStart) end() { h.once.Do(func() { close(h.over) }) }

// then is a life that begins when the head start is over.
func (h *headStart) then(life func(context.Context, func()) error) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		select {
		case <-h.over:
			return life(ctx, works)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// teller tells call control of parts.
type teller struct{ phone *phone.Phone }

// PartFailed implements parts.Teller.
func (t *teller) PartFailed(ctx context.Context, part string, err error) {
	t.phone.PartFailed(ctx, part, err)
}

// PartWorks implements parts.Teller.
func (t *teller) PartWorks(ctx context.Context, part string) { t.phone.PartWorks(ctx, part) }

// running is the life of a part that works as soon as it runs.
func running(run func(context.Context) error) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		works()
		return run(ctx)
	}
}

// numbered is the life of what gives the phone its permanent number.
func numbered(self *self, ifname string, keeper *parts.Keeper) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		mac, err := awaitMAC(ctx, ifname, func(err error) { keeper.Failed(ctx, "interface", err) })
		if err != nil {
			return err
		}
		self.mac.Set(mac)
		works()
		<-ctx.Done()
		return ctx.Err()
	}
}

// kept is the life of the data folder.
func kept(folder *registry.Folder, crashes *crashes) func(context.Context, func()) error {
	begun := false
	return func(ctx context.Context, works func()) error {
		for {
			if err := folder.Keep(); err != nil {
				return err
			}
			if !begun {
				if err := crashes.begin(); err != nil {
					return err
				}
				begun = true
			}
			works()
			select {
			case <-folder.Trouble():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// keyed is the life of what the phone proves itself with: it is there as soon as
// the number is, though something may be wrong with it.
func keyed(self *self, folder *registry.Folder) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		mac, _, err := self.mac.Get(ctx)
		if err != nil {
			return err
		}
		id, wrong := folder.Identity(mac)
		if len(id.Certificate.Certificate) == 0 {
			return wrong
		}
		if now, ok := self.key.Now(); !ok || !slices.EqualFunc(now.Certificate.Certificate, id.Certificate.Certificate, bytes.Equal) {
			self.key.Set(id)
		}
		if wrong != nil {
			return wrong
		}
		works()
		<-ctx.Done()
		return ctx.Err()
	}
}

// controlled is the life of the control socket.
func controlled(path string, events *control.Events, c controls, log *slog.Logger) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		socket, err := control.Listen(path, events, c.handle, log)
		if err != nil {
			return err
		}
		works()
		return socket.Run(ctx)
	}
}

// sounding is the life of the sound engine, which opens its device by itself: a
// phone without one still rings by its lamp.
func sounding(engine *audio.Engine, keeper *parts.Keeper) func(context.Context, func()) error {
	return func(ctx context.Context, works func()) error {
		works()
		return engine.Run(ctx, func(err error) {
			if err == nil {
				keeper.Works("sound")
			} else {
				keeper.Failed(ctx, "sound", err)
			}
		})
	}
}

// spreadOf returns over how long the first announcement is spread: on a machine
// whose power came back, to others as well.
func spreadOf(boot *poweron.Chain) time.Duration {
	if boot == nil {
		return 0
	}
	return streetSpread
}

// bootOf returns the chain from power-on, nil on a board that does not start this
// program by itself.
func bootOf(board boards.Board, log *slog.Logger) *poweron.Chain {
	if len(board.Compatible) == 0 {
		return nil
	}
	chain, err := poweron.Start()
	if err != nil {
		log.Warn("times since power-on are not known", "err", err)
		return nil
	}
	return chain
}

// reporting publishes what call control tells. Who lifts the handset is about to ask
// the storing server: one that was restarted is found out while the number is dialled.
// Who talks wants to hear of the peer's moves: from then on it is asked more often.
func reporting(watchers *control.Events, storing *storing, tidy *tidier) func(events.Event) {
	return func(e events.Event) {
		if s, ok := e.(events.State); ok {
			tidy.in(s.State == string(phone.Standby))
			if s.State == string(phone.Dialing) || s.State == string(phone.Talking) {
				storing.check()
			}
		}
		watchers.Publish(e)
	}
}

// booted tells how long it took from power-on to the first row.
func booted(ctx context.Context, boot *poweron.Chain, to *control.Events, log *slog.Logger) {
	if boot != nil && boot.Reached("registered") {
		to.Publish(events.Booted{Steps: boot.Steps()})
		log.LogAttrs(ctx, slog.LevelInfo, "from power-on", boot.Steps()...)
	}
}
