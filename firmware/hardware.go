package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"flexphone/audio"
	"flexphone/audio/echo"
	"flexphone/audio/portaudio"
	"flexphone/audio/wav"
	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/hal"
	terminal "flexphone/hal/display"
	"flexphone/hal/evdev"
	"flexphone/hal/gpio"
	"flexphone/hal/sim"
)

// hardware is a board's parts. A part that cannot be opened, or fails, is told of
// and opened again: a phone without keys can still be called, and so can one whose
// settings name a keypad that the board does not have.
type hardware struct {
	board    boards.Board
	settings config.Config

	keypad  keypad
	hook    hook
	lamp    lamp
	display display

	simKeypad *sim.Keypad // nil: the keypad is real
	simHook   *sim.Hook   // nil: the hook switch is real
	inputs    inputs
}

// newHardware returns parts that nobody has opened.
func newHardware(board boards.Board, settings config.Config) *hardware {
	h := &hardware{board: board, settings: settings, keypad: keypad{newInput[hal.KeyEvent]()}, hook: hook{input: newInput[hal.HookState]()}}
	pad, err := board.Keypad(settings.Keypad)
	if err == nil && pad.Simulated {
		h.simKeypad = sim.NewKeypad()
	}
	if err == nil && board.HookWith(pad).Simulated {
		h.simHook = sim.NewHook()
	}
	return h
}

// lives returns the life of each part, as parts.Keeper runs it, but for sound.
func (h *hardware) lives() map[string]func(context.Context, func()) error {
	return map[string]func(context.Context, func()) error{
		"keypad":      h.keypad.run(h.openKeypad),
		"hook switch": h.hook.run(h.openHook),
		"lamp":        h.lamp.run(h.openLamp),
		"display":     h.display.run(h.openDisplay),
	}
}

func (h *hardware) openKeypad(ctx context.Context) (func(context.Context) (hal.KeyEvent, error), io.Closer, error) {
	k, err := h.board.Keypad(h.settings.Keypad)
	switch {
	case err != nil:
		return nil, nil, err
	case k.Simulated:
		return h.simKeypad.ReadKey, nothing{}, nil
	case k.Device != "":
		d, err := h.inputs.open(ctx, k.Device)
		if err != nil {
			return nil, nil, err
		}
		return d.ReadKey, d, nil
	case k.Direct != nil:
		d, err := gpio.OpenKeys(gpio.KeysConfig{
			Keys: []hal.Key(k.Direct.Keys), Lines: gpioLines(k.Direct.Lines), ActiveLow: k.Direct.ActiveLow, Bias: biasOf(k.Direct.Bias),
		})
		if err != nil {
			return nil, nil, err
		}
		return d.ReadKey, d, nil
	case k.Matrix != nil:
		d, err := gpio.OpenMatrix(ctx, gpio.MatrixConfig{
			Rows: gpioLines(k.Matrix.Rows), Cols: gpioLines(k.Matrix.Cols), Keys: k.Matrix.Keys, PushPull: k.Matrix.PushPull, Settle: k.Matrix.Settle,
		})
		if err != nil {
			return nil, nil, err
		}
		return d.ReadKey, d, nil
	}
	return nil, nil, errNoPart
}

func (h *hardware) openHook(ctx context.Context) (func(context.Context) (hal.HookState, error), io.Closer, error) {
	pad, err := h.board.Keypad(h.settings.Keypad)
	if err != nil {
		return nil, nil, err
	}
	k := h.board.HookWith(pad)
	switch {
	case k.Simulated:
		return h.simHook.ReadHook, nothing{}, nil
	case k.Device != "":
		d, err := h.inputs.open(ctx, k.Device)
		if err != nil {
			return nil, nil, err
		}
		return d.ReadHook, d, nil
	case k.Input != nil:
		d, err := gpio.OpenHook(gpio.HookConfig{Line: gpio.Line(k.Input.Line), ActiveLow: k.Input.ActiveLow, Bias: biasOf(k.Input.Bias)})
		if err != nil {
			return nil, nil, err
		}
		return d.ReadHook, d, nil
	}
	return nil, nil, errNoPart
}

func (h *hardware) openLamp() (func(hal.LampState) error, io.Closer, error) {
	k := h.board.Lamp
	var d *gpio.Lamp
	var err error
	switch {
	case k.Simulated:
		return sim.NewLamp().SetLamp, nothing{}, nil
	case k.LED != "":
		d, err = gpio.OpenLED(k.LED)
	case k.Output != nil:
		d, err = gpio.OpenLamp(gpio.LampConfig{Line: gpio.Line(k.Output.Line), ActiveLow: k.Output.ActiveLow})
	default:
		err = errNoPart
	}
	if err != nil {
		return nil, nil, err
	}
	return d.SetLamp, d, nil
}

func (h *hardware) openDisplay() (func([2]string) error, io.Closer, error) {
	both := func(d hal.Display) func([2]string) error {
		return func(lines [2]string) error { return d.Show(lines[0], lines[1]) }
	}
	k := h.board.Display
	if k.Simulated {
		return both(sim.NewDisplay()), nothing{}, nil
	}
	if k.TTY == "" {
		return nil, nil, errNoPart
	}
	tty, err := os.OpenFile(k.TTY, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("flexphone: open display: %w", err)
	}
	return both(terminal.NewTerminal(tty)), tty, nil
}

// soundOf returns what opens the sound device, whose own thread has a priority of
// SCHED_RR, or none (0).
func soundOf(k boards.Sound, priority int, settings config.Audio, log *slog.Logger) func() (audio.Device, error) {
	if settings.Backend == "wav" {
		return func() (audio.Device, error) { return wav.Open(settings.Capture, settings.Playback) }
	}
	return func() (audio.Device, error) {
		return portaudio.Open(portaudio.Config{
			Capture: cmp.Or(settings.Capture, k.Capture), Playback: cmp.Or(settings.Playback, k.Playback),
			Buffer: k.Buffer, Priority: priority,
		}, log)
	}
}

// ringerOf returns what opens the device that rings, for as long as it does; nil: there
// is none but the one for speech.
func ringerOf(k boards.Sound, priority int, settings config.Audio, log *slog.Logger) func() (audio.Device, error) {
	name := cmp.Or(settings.Ringer, k.Ringer)
	if name == "" || settings.Backend == "wav" {
		return nil
	}
	return func() (audio.Device, error) {
		return portaudio.Open(portaudio.Config{Playback: name, Speaker: true, Buffer: k.Buffer, Priority: priority}, log)
	}
}

// deskOf returns how the phone is talked into. Of WAV files there comes no echo.
func deskOf(k boards.Sound, settings config.Audio) *echo.Desk {
	usual := cmp.Or(k.Mode, "off")
	if settings.Backend == "wav" {
		usual = "off"
	}
	d := echo.NewDesk(echo.Modes()[cmp.Or(settings.Mode, usual)], settings.SideTone) // a mode that is none was refused
	for _, o := range echo.Outputs() {
		d.SetVolume(o, settings.Volume)
	}
	return d
}

// nothing is what a simulated part has to close.
type nothing struct{}

// Close implements io.Closer.
func (nothing) Close() error { return nil }

// inputs are the input devices that are open: keypad and hook switch may be on the
// same, which only one can open.
type inputs struct {
	mu     sync.Mutex
	opened map[string]*sharedInput
}

// A sharedInput is open as long as somebody uses it.
type sharedInput struct {
	*evdev.Device
	of    *inputs
	name  string
	users int
}

func (i *inputs) open(ctx context.Context, name string) (*sharedInput, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d := i.opened[name]; d != nil {
		d.users++
		return d, nil
	}
	d, err := evdev.Open(context.WithoutCancel(ctx), name) // until it is closed
	if err != nil {
		return nil, err
	}
	if i.opened == nil {
		i.opened = map[string]*sharedInput{}
	}
	i.opened[name] = &sharedInput{d, i, name, 1}
	return i.opened[name], nil
}

// Close implements io.Closer. Who comes next opens the device anew, which the
// kernel allows when all have closed it.
func (s *sharedInput) Close() error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.opened[s.name] == s {
		delete(s.of.opened, s.name)
	}
	if s.users--; s.users > 0 {
		return nil
	}
	return s.Device.Close()
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
