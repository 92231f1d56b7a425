package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"flexphone/audio"
	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/poweron"
	"flexphone/firmware/internal/sip"
	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
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
	Fallback string `help:"Settings to take, saying so, when those of --config are wrong: a phone must start." type:"path" placeholder:"FILE"`
	Trouble  string `help:"What whoever starts the phone found broken, as PART: WHY. The display and the log tell it." placeholder:"TEXT"`
	Log      string `help:"How to log: text or json." enum:"text,json" default:"text"`
	Verbose  bool   `help:"Log every step."`
}

// Run works as a phone until ctx is done.
func (r *runCommand) Run(ctx context.Context, errs errsWriter) error {
	// The sound card's callback waits for Go's scheduler while all of its
	// processors collect garbage: with three for each real one it was late by
	// 2 ms at most, where it had been by 43.
	runtime.GOMAXPROCS(3 * runtime.NumCPU())
	settings, wrong := r.load()
	if wrong != nil && r.Fallback == "" {
		return fmt.Errorf("%w: %w", errUsage, wrong)
	}
	broken := map[string]error{}
	if wrong != nil {
		broken["settings"] = wrong
	}
	if r.Trouble != "" {
		part, why, _ := strings.Cut(r.Trouble, ": ")
		broken[part] = errors.New(why)
	}
	return runPhone(ctx, settings, broken, newLog(errs, r.Log, r.Verbose))
}

// load reads the settings. With --fallback there always are some; wrong is then
// why they are not those that were asked for.
func (r *runCommand) load() (settings config.Config, wrong error) {
	if r.Config == "" {
		return config.Default(), nil
	}
	settings, wrong = config.Load(r.Config)
	if wrong == nil || r.Fallback == "" {
		return settings, wrong
	}
	settings, err := config.Load(r.Fallback)
	if err != nil {
		return config.Default(), errors.Join(wrong, err)
	}
	return settings, wrong
}

// runPhone is the phone: the parts, then the two arrows between them. It
// returns when ctx is done and everything is released, or when a part without
// which there is no phone has failed. broken are parts that failed before, and
// why; the phone tells of them.
func runPhone(ctx context.Context, settings config.Config, broken map[string]error, log *slog.Logger) error {
	// What this phone is made of.
	board, err := findBoard(settings.Board)
	if err != nil {
		return err
	}
	if settings.Interface == "" {
		settings.Interface = board.Port
	}
	mac, err := macOf(settings.Interface)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(settings.Data, 0o700); err != nil {
		return fmt.Errorf("flexphone: make the data folder: %w; set `data` to a folder that may be written", err)
	}
	identity, err := registry.LoadIdentity(settings.Data, mac)
	if err != nil {
		return err
	}
	sequence, err := registry.OpenSequence(filepath.Join(settings.Data, "sequence"))
	if err != nil {
		return err
	}
	events := control.NewEvents()
	if err := reportCrashes(settings.Data, log); err != nil {
		log.Warn("crashes are not reported", "err", err)
	}
	parts := openHardware(ctx, board, settings, log)
	defer parts.close(log)
	source, err := openNetwork(settings, log)
	if err != nil {
		return err
	}
	server, err := registry.NewClient(registry.Config{
		Server: settings.StoringServer, Identity: identity, Log: log,
		Pins: registry.NewFilePins(filepath.Join(settings.Data, "servers.json")),
	})
	if err != nil {
		return err
	}
	defer server.Close()
	self := newSelf(mac)
	line, err := sip.NewAgent(sip.Config{
		Identity: identity.Certificate, Owns: self.owns, User: self.user, DisplayName: self.displayName,
		Codecs: codecs(), SIPPort: sipPort, SIPSPort: sipsPort, Log: log,
	})
	if err != nil {
		return err
	}
	engine := audio.NewEngine(audio.Config{Open: parts.openSound, Formats: formats(), Log: log})
	ph := phone.New(phone.Parts{
		Keypad: parts.keypad, Hook: parts.hook, Lamp: parts.lamp, Display: parts.display,
		Directory: directory{server}, Line: lineOf{line}, Sound: newSound(engine, self.addressFor),
		Report: events.Publish, Log: log,
	})
	boot := bootOf(board, log)
	spread := time.Duration(0)
	if boot != nil { // power came back, to others as well
		spread = streetSpread
	}
	announcer := registry.NewAnnouncer(registry.AnnouncerConfig{
		MAC: wire.MAC(mac), Ports: wire.Ports{SIP: sipPort, SIPS: sipsPort},
		Registrar: server, Link: server, Sequence: sequence, Token: settings.Token, Log: log, Spread: spread,
		Report: func(o registry.Outcome) {
			self.announced(ctx, o, ph, events)
			if o.Kind == registry.Failed {
				netlink.Doubt(source)
			}
			if boot != nil && o.Kind == registry.Registered && boot.Reached("registered") {
				events.Publish("booted", boot.Steps()...)
				log.LogAttrs(ctx, slog.LevelInfo, "from power-on", boot.Steps()...)
			}
		},
	})
	links := network{source: source, server: server, announcer: announcer, phone: ph, self: self, events: events,
		fixedServer: settings.StoringServer != "", boot: boot, log: log}
	socket, err := control.Listen(settings.Control, events, controls{ph, self, parts}.handle, log)
	if err != nil {
		return err
	}

	// What it does. The lower half goes on while a call and the row are released.
	lowerCtx, stopLower := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLower()
	lower, lowerCtx := errgroup.WithContext(lowerCtx)
	lower.Go(func() error { return source.Run(lowerCtx) })        // lease
	lower.Go(func() error { return links.follow(lowerCtx, ctx) }) // -> announce, and the phone's network
	lower.Go(func() error { return announcer.Run(lowerCtx) })     // -> storing server
	lower.Go(func() error { return line.Run(lowerCtx) })          // calls of others
	lower.Go(func() error { return keepSounding(lowerCtx, engine, ph, log) })

	upper, upperCtx := errgroup.WithContext(ctx)
	upper.Go(func() error { return ph.Run(upperCtx) }) // keypad -> dial -> resolve -> call -> talk -> release
	upper.Go(func() error { return socket.Run(upperCtx) })
	upper.Go(func() error {
		for part, why := range broken {
			ph.PartFailed(upperCtx, part, why)
		}
		return nil
	})
	upper.Go(func() error { return guard(upperCtx, board.Watchdog, ph, engine, log) })
	upper.Go(func() error { // a lower part without which there is no phone
		select {
		case <-upperCtx.Done():
			return nil
		case <-lowerCtx.Done():
			return errors.New("flexphone: a part has failed")
		}
	})
	upperErr := upper.Wait()

	releaseCtx, done := context.WithTimeout(lowerCtx, releaseWait)
	if err := announcer.Release(releaseCtx); err != nil {
		log.Warn("storing server not told that the phone leaves", "err", err)
	}
	done()
	stopLower()
	if err := lower.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return upperErr
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

// macOf returns the permanent number of the phone: the MAC of its interface.
func macOf(ifname string) (netlink.MAC, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netlink.MAC{}, fmt.Errorf("flexphone: find network interface %q: %w; set `interface` to one that `ip link` lists", ifname, err)
	}
	if len(ifi.HardwareAddr) != len(netlink.MAC{}) {
		return netlink.MAC{}, fmt.Errorf("flexphone: network interface %q has no MAC address; set `interface` to an Ethernet or Wi-Fi one", ifname)
	}
	return netlink.MAC(ifi.HardwareAddr), nil
}

// keepSounding runs the engine. A phone without a sound device still rings by its
// lamp and says what is wrong, and the engine tries again.
func keepSounding(ctx context.Context, engine *audio.Engine, ph *phone.Phone, log *slog.Logger) error {
	return engine.Run(ctx, func(err error) {
		if err == nil {
			log.Info("sound device works again")
			return
		}
		ph.PartFailed(ctx, "sound", err)
	})
}
