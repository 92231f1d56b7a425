package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"flexphone/audio"
	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	"flexphone/firmware/internal/sip"
	"flexphone/firmware/internal/watchdog"
	registry "flexphone/registry-client"
)

// Well-known ports of SIP (RFC 3261, section 19.1.2).
const (
	sipPort  = 5060
	sipsPort = 5061
)

// streetSpread is over how long phones that are switched on together announce
// themselves for the first time. Each takes the storing server half a millisecond
// of a processor for its handshake (docs/scale.md): a street of a thousand has come
// by then, and nobody waits longer than for a dial tone.
const streetSpread = 500 * time.Millisecond

// releaseWait bounds how long a phone that is switched off tries to tell the
// storing server. Two of CoAP's first retransmissions fit in (RFC 7252 4.8).
const releaseWait = 4 * time.Second

type runCommand struct {
	Config   string `help:"Settings, in TOML. Without it every setting has its default." type:"path" placeholder:"FILE"`
	Fallback string `help:"Settings to take, saying so, for what is wrong in those of --config: a phone must start." type:"path" placeholder:"FILE"`
	Trouble  string `help:"What whoever starts the phone found broken, as PART: WHY. The display and the log tell it." placeholder:"TEXT"`
	Log      string `help:"How to log: text or json." enum:"text,json" default:"text"`
	Verbose  bool   `help:"Log every step."`
}

// Run works as a phone until ctx is done.
func (r *runCommand) Run(ctx context.Context, errs errsWriter) error {
	settings, board, wrong := settingsOf(r.Config, r.Fallback)
	if wrong != nil && r.Fallback == "" {
		return fmt.Errorf("%w: %w", errUsage, wrong)
	}
	if control.Answers(ctx, settings.Control) {
		return fmt.Errorf("flexphone: another phone answers at %s; stop it, or give this one another `control` in its settings", settings.Control)
	}
	broken := map[string]error{}
	if wrong != nil {
		broken["settings"] = wrong
	}
	if r.Trouble != "" {
		part, why, _ := strings.Cut(r.Trouble, ": ")
		broken[part] = errors.New(why)
	}
	runPhone(ctx, settings, board, broken, newLog(errs, r.Log, r.Verbose))
	return nil
}

// runPhone is the phone: its parts, and then the two arrows of the method between
// them. It returns when ctx is done and everything is released; a part that fails or
// panics is told of and run again. broken are parts that failed before, and why.
func runPhone(ctx context.Context, settings config.Config, board boards.Board, broken map[string]error, log *slog.Logger) {
	// What the phone is made of. Nothing is opened, read or sent yet.
	told := &teller{}
	crashes := &crashes{path: filepath.Join(settings.Data, "crash"), log: log}
	keeper := parts.New(told, crashes.keep)
	events := control.NewEvents()
	boot := bootOf(board, log)
	self := &self{}
	folder := registry.OpenFolder(settings.Data)
	resolver := finder.NewResolver()
	storing := &storing{keys: &self.key, folder: folder, resolver: resolver, token: settings.Token, spread: spreadOf(boot), log: log}
	finding := finder.New(finder.Config{
		Fixed: settings.StoringServer, Services: finder.ServicesOf(resolver), Found: storing.setServers, Log: log,
	})
	line := &line{keys: &self.key, cfg: sip.Config{
		Owns: self.owns, DisplayName: self.displayName,
		Answerable: media.Answerable(codecs()), SIPPort: sipPort, SIPSPort: sipsPort, Panicked: keeper.Panicked, Log: log,
	}}
	engine := audio.NewEngine(audio.Config{Open: soundOf(board.Sound, settings.Audio, log), Formats: formats(), Log: log})
	hardware := newHardware(board, settings)
	ph := phone.New(phone.Parts{
		Keypad: hardware.keypad, Hook: &hardware.hook, Lamp: &hardware.lamp, Display: &hardware.display,
		Directory: directory{storing}, Line: line, Sound: newSound(engine, self.addressFor),
		Report: reporting(events, storing), Panicked: keeper.Panicked, Log: log,
	})
	told.phone = ph
	for part, why := range broken {
		keeper.Found(part, why)
	}
	network := &network{
		settings: settings, self: self, finder: finding, resolver: resolver, storing: storing, phone: ph, events: events, boot: boot, keeper: keeper, log: log,
	}
	storing.report = func(o registry.Outcome, server string) {
		self.announced(ctx, o, ph, events)
		switch o.Kind {
		case registry.Registered:
			finding.Answers(server)
			booted(ctx, boot, events, log)
		case registry.Failed:
			finding.Doubt()
			network.doubt()
		}
	}

	// lease -> announce. This half goes on while a call and the row are released.
	// The address comes first: the rest is made while it is waited for.
	lower := newHalf(context.WithoutCancel(ctx), keeper)
	lower.keep("network", network.run(ctx))
	lower.keep("interface", numbered(self, settings.Interface, keeper))
	lower.keep("key", keyed(self, folder))
	lower.keep("data", kept(folder, crashes))
	lower.keep("finder", running(finding.Run))
	lower.keep("storing server", storing.run)
	lower.keep("line", line.run)
	lower.keep("sound engine", sounding(engine, keeper))

	// keypad -> dial -> resolve -> call -> talk -> release
	upper := newHalf(ctx, keeper)
	upper.keep("call control", running(ph.Run))
	upper.keep("control socket", controlled(settings.Control, events, controls{ph, self, hardware, keeper}, log))
	for part, life := range hardware.lives() {
		upper.keep(part, life)
	}
	upper.group.Go(func() { keeper.Tell(ctx) })
	upper.group.Go(func() {
		guard(ctx, board.Watchdog, []watchdog.Check{ph.Alive, engine.Alive}, func(err error) { keeper.Failed(ctx, "watchdog", err) }, log)
	})
	upper.group.Wait() // until ctx is done, and the call released

	release, done := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer done()
	if err := storing.release(release); err != nil {
		log.Warn("storing server not told that the phone leaves", "err", err)
	}
	lower.end()
	lower.group.Wait()
}

// reporting publishes what call control tells. Who lifts the handset is about to ask
// the storing server: one that was restarted is found out while the number is dialled.
func reporting(watchers *control.Events, storing *storing) func(events.Event) {
	return func(e events.Event) {
		if s, ok := e.(events.State); ok && s.State == string(phone.Dialing) {
			storing.check()
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
