package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"flexphone/audio"
	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/directory"
	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/firmware/internal/trace"
	"flexphone/firmware/internal/watchdog"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// releaseWait bounds how long a phone that is switched off tries to tell the
// storing server. Two of CoAP's first retransmissions fit in (RFC 7252 4.8).
const releaseWait = 4 * time.Second

// A runCommand works as a phone until it is stopped.
type runCommand struct {
	config, fallback, trouble string
	log                       string
	verbose                   bool
	trace                     []string
}

func (r *runCommand) flags(fs *flag.FlagSet) {
	fs.StringVar(&r.config, "config", "", "Settings, in TOML: `FILE`. Without it every setting has its default.")
	fs.StringVar(&r.fallback, "fallback", "", "`FILE` of settings to take, saying so, for what is wrong in those of --config: a phone must start.")
	fs.StringVar(&r.trouble, "trouble", "", "What whoever starts the phone found broken, as `PART: WHY`. The display and the log tell it.")
	fs.BoolVar(&r.verbose, "verbose", false, "Log every step.")
	r.log = "text"
	fs.Func("log", "How to log: `text or json`.", func(how string) error {
		r.log = how
		return oneOf(how, []string{"text", "json"})
	})
	fs.Func("trace", "Write to the log what goes over the wire: some of `"+strings.Join(trace.Names(), ",")+"`. Keys, tokens and digests are blanked.", func(some string) error {
		for name := range strings.SplitSeq(some, ",") {
			if err := oneOf(name, trace.Names()); err != nil {
				return err
			}
			r.trace = append(r.trace, name)
		}
		return nil
	})
}

// run works as a phone until ctx is done.
func (r *runCommand) run(ctx context.Context, errs io.Writer) error {
	settings, board, wrong := settingsOf(r.config, r.fallback)
	if wrong != nil && r.fallback == "" {
		return fmt.Errorf("%w: %w", errUsage, wrong)
	}
	if control.Answers(ctx, settings.Control) {
		return fmt.Errorf("flexphone: another phone answers at %s; stop it, or give this one another `control` in its settings", settings.Control)
	}
	broken := map[string]error{}
	if wrong != nil {
		broken["settings"] = wrong
	}
	if r.trouble != "" {
		part, why, _ := strings.Cut(r.trouble, ": ")
		broken[part] = errors.New(why)
	}
	log := newLog(errs, r.log, r.verbose)
	runPhone(ctx, settings, board, broken, trace.New(r.trace, log), log)
	return nil
}

// runPhone is the phone: its parts, and then the two arrows of the method between
// them. It returns when ctx is done and everything is released; a part that fails or
// panics is told of and run again. broken are parts that failed before, and why.
func runPhone(ctx context.Context, settings config.Config, board boards.Board, broken map[string]error, tracing trace.Trace, log *slog.Logger) {
	told := &teller{}
	tidy := newTidier(runtime.GC)
	crashes := &crashes{path: filepath.Join(settings.Data, "crash"), log: log}
	keeper := parts.New(told, crashes.keep)

	// The address comes first: what a phone is made of is made while the DHCP server
	// is waited for. This half goes on while a call and the row are released.
	granted, first := newHeadStart(), newHeadStart()
	agent := &agent{settings: settings, granted: granted, first: first, keeper: keeper, trace: tracing.DHCP(), log: log}
	lower := newHalf(context.WithoutCancel(ctx), keeper)
	lower.keep("network", agent.run(ctx))
	runtime.Gosched() // its question leaves before anything else is done

	// What the phone is made of. Nothing is opened, read or sent yet.
	realTime(board.RealTime, log)
	events := control.NewEvents()
	boot := bootOf(board, log)
	self := &self{}
	folder := registry.OpenFolder(settings.Data)
	resolver := finder.NewResolver()
	storing := &storing{keys: &self.key, folder: folder, resolver: resolver, token: settings.Token, spread: spreadOf(boot), tap: tracing.CoAP(), log: log}
	finding := finder.New(finder.Config{
		Fixed: settings.StoringServer, Services: finder.ServicesOf(resolver), Found: storing.setServers, Log: log,
	})
	line := &line{keys: &self.key, cfg: sip.Config{
		Owns: self.owns, DisplayName: self.name,
		Answerable: media.Answerable(codecs(settings.Audio.Codecs), settings.OnlyPrivate), SIPPort: sip.Port, SIPSPort: sip.SecurePort, Relay: storing, AddressFor: self.addressFor, Trace: tracing.SIP(), Panicked: keeper.Panicked, Log: log,
	}}
	desk := deskOf(board.Sound, settings.Audio)
	loud := newVolumes(filepath.Join(settings.Data, "volumes.json"), desk)
	engine := audio.NewEngine(audio.Config{Open: soundOf(board.Sound, board.RealTime.Priority, settings.Audio, log), Ringer: ringerOf(board.Sound, board.RealTime.Priority, settings.Audio, log), Formats: formats(), Processor: desk.Processor, Log: log})
	var heard func(wire.Heard)
	if settings.TellQuality {
		storing.heard = &heardCalls{full: storing.announce}
		heard = storing.heard.add
	}
	rows := directory.New(storing, directory.Config{Path: filepath.Join(settings.Data, "phones.json"), Prepare: line.Prepare, Log: log})
	storing.peers, storing.urgent = rows.Followed, rows.Urgent
	around := &neighbourhood{addrs: self.addresses, server: storing.client.Now, log: log}
	pages := newBrowsers(self.certificate, around, keeper.Panicked, log)
	storing.browsers = pages.take
	if settings.Relayed == "known" {
		line.cfg.Acquainted = rows.Acquainted
	}
	hardware := newHardware(board, settings)
	ph := phone.New(phone.Parts{
		Keypad: hardware.keypad, Hook: &hardware.hook, Lamp: &hardware.lamp, Display: &hardware.display,
		Directory: rows, Book: rows, Line: newLines(line, pages), Sound: newSound(engine, soundConfig{
			address: self.addressFor, near: self.near, own: self.certificate, around: around, onlyPrivate: settings.OnlyPrivate, codecs: codecs(settings.Audio.Codecs), loud: loud, heard: heard, traced: tracing.RTP, log: log,
		}),
		Report: reporting(events, storing, tidy), Panicked: keeper.Panicked, Log: log,
	})
	told.phone = ph
	for part, why := range broken {
		keeper.Found(part, why)
	}
	network := &network{
		agent: agent, self: self, finder: finding, resolver: resolver, storing: storing, phone: ph, events: events, boot: boot, log: log,
	}
	mapping := newMapped(storing.announce, log)
	storing.mapped = mapping.at
	storing.report = func(o registry.Outcome, server string) {
		self.announced(ctx, o, ph, events)
		switch o.Kind {
		case registry.Registered:
			if storing.heard != nil {
				storing.heard.told()
			}
			around.registered(o.Registration, o.Receipt)
			rows.Told(o.Receipt.Peers)
			mapping.registered(self.held(), o)
			finding.Answers(server)
			network.reached()
			booted(ctx, boot, events, log)
		case registry.Failed:
			finding.Doubt()
			network.doubt(server, o.Err)
		}
	}

	// lease -> announce. What a row needs beside the address begins when one is granted,
	// all else when it is there; both when there is none soon.
	agent.network.Set(network)
	upper := newHalf(ctx, keeper)
	upper.keep("control socket", controlled(settings.Control, events, controls{ph, self, hardware, loud, keeper}, log)) // it tells of the address
	lower.keep("interface", granted.then(numbered(self, settings.Interface, keeper)))
	lower.keep("key", granted.then(keyed(self, folder)))
	lower.keep("data", first.then(kept(folder, crashes)))
	lower.keep("finder", granted.then(running(finding.Run)))
	lower.keep("storing server", granted.then(storing.run))
	lower.keep("router", first.then(running(mapping.run)))
	lower.keep("line", first.then(line.run))
	lower.keep("known phones", first.then(rows.Run))
	lower.keep("volumes", first.then(loud.keep))
	lower.keep("sound engine", first.then(sounding(engine, keeper)))

	// keypad -> dial -> resolve -> call -> talk -> release
	upper.keep("call control", first.then(running(ph.Run)))
	for part, life := range hardware.lives() {
		upper.keep(part, first.then(life))
	}
	upper.group.Go(func() { keeper.Tell(ctx) })
	upper.group.Go(func() { settle(ctx, board.RealTime.Lock, log) })
	upper.group.Go(func() { tidy.run(ctx) })
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
