package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"flexphone/audio"
	"flexphone/audio/portaudio"
	"flexphone/audio/wav"
	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/hal"
	"flexphone/hal/evdev"
	"flexphone/hal/gpio"
	"flexphone/hal/sim"
)

// findBoard returns the named board, or the one that the device tree says this
// machine is.
func findBoard(name string) (boards.Board, error) {
	if name != "" {
		return boards.Named(name)
	}
	tree, err := os.ReadFile("/proc/device-tree/compatible")
	if err != nil {
		return boards.Board{}, fmt.Errorf("flexphone: this machine does not say which board it is: %w; set `board`, on a PC to \"host\"", err)
	}
	return boards.Find(string(tree))
}

// hardware is a board's parts, opened.
type hardware struct {
	keypad  hal.Keypad
	hook    hal.Hook
	lamp    hal.Lamp
	display hal.Display

	simKeypad *sim.Keypad // nil: the keypad is real
	simHook   *sim.Hook   // nil: the hook switch is real
	input     *evdev.Device
	inputName string
	opened    []io.Closer
	openSound func() (audio.Device, error) // by the engine, as often as it needs to
}

// openHardware opens the drivers that board names. A part that cannot be opened
// stays absent, and tells why to whoever reads it: a phone without keys can
// still be called, and so can one whose settings name a keypad that the board
// does not have.
func openHardware(ctx context.Context, board boards.Board, settings config.Config, log *slog.Logger) *hardware {
	h := &hardware{openSound: soundOf(board.Sound, settings.Audio, log)}
	pad, unknown := board.Keypad(settings.Keypad)
	for _, p := range []struct {
		name   string
		open   func() error
		absent func(absent)
	}{
		{"keypad", func() error {
			if unknown != nil {
				return unknown
			}
			return h.openKeypad(ctx, pad)
		}, func(a absent) { h.keypad = a }},
		{"hook switch", func() error { return h.openHook(ctx, board.HookWith(pad)) }, func(a absent) { h.hook = a }},
		{"lamp", func() error { return h.openLamp(board.Lamp) }, func(a absent) { h.lamp = a }},
		{"display", func() error { return h.openDisplay(board.Display) }, func(a absent) { h.display = a }},
	} {
		if err := p.open(); err != nil {
			log.Error("part of the phone not opened", "part", p.name, "err", err)
			p.absent(absent{err})
		}
	}
	return h
}

func (h *hardware) keep(c io.Closer) { h.opened = append(h.opened, c) }

// close closes all that was opened, the last first.
func (h *hardware) close(log *slog.Logger) {
	for i := len(h.opened) - 1; i >= 0; i-- {
		if err := h.opened[i].Close(); err != nil {
			log.Warn("part of the phone not closed", "err", err)
		}
	}
}

// openInput opens the input device of that name once, though keypad and hook
// switch may both be on it.
func (h *hardware) openInput(ctx context.Context, name string) (*evdev.Device, error) {
	if h.input != nil && h.inputName == name {
		return h.input, nil
	}
	d, err := evdev.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	h.keep(d)
	h.input, h.inputName = d, name
	return d, nil
}

func (h *hardware) openKeypad(ctx context.Context, k boards.Keypad) error {
	switch {
	case k.Simulated:
		h.simKeypad = sim.NewKeypad()
		h.keypad = h.simKeypad
	case k.Device != "":
		d, err := h.openInput(ctx, k.Device)
		if err != nil {
			return err
		}
		h.keypad = d
	case k.Direct != nil:
		d, err := gpio.OpenKeys(gpio.KeysConfig{
			Keys: []hal.Key(k.Direct.Keys), Lines: gpioLines(k.Direct.Lines), ActiveLow: k.Direct.ActiveLow, Bias: biasOf(k.Direct.Bias),
		})
		if err != nil {
			return err
		}
		h.keypad = d
		h.keep(d)
	case k.Matrix != nil:
		d, err := gpio.OpenMatrix(ctx, gpio.MatrixConfig{
			Rows: gpioLines(k.Matrix.Rows), Cols: gpioLines(k.Matrix.Cols), Keys: k.Matrix.Keys, PushPull: k.Matrix.PushPull, Settle: k.Matrix.Settle,
		})
		if err != nil {
			return err
		}
		h.keypad = d
		h.keep(d)
	default:
		return errNoPart
	}
	return nil
}

func (h *hardware) openHook(ctx context.Context, k boards.Hook) error {
	switch {
	case k.Simulated:
		h.simHook = sim.NewHook()
		h.hook = h.simHook
	case k.Device != "":
		d, err := h.openInput(ctx, k.Device)
		if err != nil {
			return err
		}
		h.hook = d
	case k.Input != nil:
		d, err := gpio.OpenHook(gpio.HookConfig{Line: gpio.Line(k.Input.Line), ActiveLow: k.Input.ActiveLow, Bias: biasOf(k.Input.Bias)})
		if err != nil {
			return err
		}
		h.hook = d
		h.keep(d)
	default:
		return errNoPart
	}
	return nil
}

func (h *hardware) openLamp(k boards.Lamp) error {
	var d *gpio.Lamp
	var err error
	switch {
	case k.Simulated:
		h.lamp = sim.NewLamp()
		return nil
	case k.LED != "":
		d, err = gpio.OpenLED(k.LED)
	case k.Output != nil:
		d, err = gpio.OpenLamp(gpio.LampConfig{Line: gpio.Line(k.Output.Line), ActiveLow: k.Output.ActiveLow})
	default:
		return errNoPart
	}
	if err != nil {
		return err
	}
	h.lamp = d
	h.keep(d)
	return nil
}

func (h *hardware) openDisplay(k boards.Display) error {
	if k.Simulated {
		h.display = sim.NewDisplay()
		return nil
	}
	if k.TTY == "" {
		return errNoPart
	}
	tty, err := os.OpenFile(k.TTY, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("flexphone: open display: %w", err)
	}
	h.keep(tty)
	h.display = sim.NewPrinter(tty)
	return nil
}

// soundOf returns what opens the sound device.
func soundOf(k boards.Sound, settings config.Audio, log *slog.Logger) func() (audio.Device, error) {
	if settings.Backend == "wav" {
		return func() (audio.Device, error) { return wav.Open(settings.Capture, settings.Playback) }
	}
	return func() (audio.Device, error) {
		return portaudio.Open(portaudio.Config{
			Capture: cmp.Or(settings.Capture, k.Capture), Playback: cmp.Or(settings.Playback, k.Playback),
			Buffer: k.Buffer,
		}, log)
	}
}

func gpioLines(ls []boards.Line) []gpio.Line {
	var g []gpio.Line
	for _, l := range ls {
		g = append(g, gpio.Line(l))
	}
	return g
}

func biasOf(b boards.Bias) gpio.Bias {
	switch b {
	case boards.PullUp:
		return gpio.PullUp
	case boards.PullDown:
		return gpio.PullDown
	}
	return gpio.AsIs
}

// errNoPart: the board lacks the part.
var errNoPart = errors.New("flexphone: this board has none")

// absent stands where a part should be, and says at every use why there is none.
type absent struct{ err error }

func (a absent) ReadKey(context.Context) (hal.KeyEvent, error)   { return hal.KeyEvent{}, a.err }
func (a absent) ReadHook(context.Context) (hal.HookState, error) { return hal.OnHook, a.err }
func (a absent) SetLamp(hal.LampState) error                     { return a.err }
func (a absent) Show(string, string) error                       { return a.err }
