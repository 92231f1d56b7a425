package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"flexphone/testbed/pace"
)

// A machine is what a phone's program runs on.
type machine interface {
	// start switches it on. What it prints is the process's log.
	start(context.Context) (*process, error)
	// stop switches it off in order, and returns once it is off.
	stop() error
	// cut takes its power away.
	cut()
	// plug plugs its cable into the street, or pulls it.
	plug(in bool) error
	// press returns how long the phone may have waited between two keys, by the
	// machine's own clock.
	press(ctx context.Context, keys string) (between time.Duration, err error)
	hook(ctx context.Context, lifted bool) error
	// sysctl sets one of its kernel's switches, such as net/ipv4/ip_forward.
	sysctl(name, value string) error
	// spoke returns when the first sample of the speech was spoken into it; the
	// zero time when that is not known.
	spoke() (time.Time, error)
	// pace begins to measure how it keeps pace, until stop is called; nil: as this
	// machine does.
	pace() (stop func() (pace.Report, error), err error)
}

// newMachine makes the machine of a phone that has a host and a cable.
func (b *Bed) newMachine(p *Phone) (machine, error) {
	if p.board != hostBoard {
		return newGuest(p, p.board)
	}
	m := program{p}
	if err := os.WriteFile(m.config(), []byte(m.settings()), 0o600); err != nil {
		return nil, fmt.Errorf("testbed: make phone: %w", err)
	}
	return m, nil
}

// hostBoard is the board that needs no virtual machine.
const hostBoard = "host"

// A program is the board "host": the phone's program as a process of this
// machine, on a host of its own.
type program struct{ p *Phone }

func (m program) config() string { return filepath.Join(m.p.dir, "flexphone.toml") }

func (m program) settings() string {
	source := "dhcp"
	if m.p.fixed {
		source = "watch"
	}
	backend, capture, playback := "wav", m.p.Speech, m.p.Heard
	if m.p.card != "" {
		backend, capture, playback = "portaudio", m.p.card, m.p.card
	}
	fallback := ""
	if m.p.wifi {
		fallback = wifi
	}
	return fmt.Sprintf(`board = "host"
interface = "eth0"
fallback_interface = %q
storing_server = %q
data = %q
control = %q

[audio]
backend = %q
capture = %q
playback = %q

[address]
source = %q
`, fallback, m.p.server, filepath.Join(m.p.dir, "data"), m.p.Control(), backend, capture, playback, source)
}

func (m program) start(context.Context) (*process, error) {
	args := []string{"run", "--config", m.config()}
	if m.p.talkative {
		args = append(args, "--verbose", "--trace", "sip,rtp,dhcp,coap")
	}
	return m.p.host.run(m.p.dir, command{name: m.p.Name, path: m.p.binary, args: args})
}

func (m program) stop() error { return m.p.proc.stop() }

func (m program) cut() { m.p.proc.kill() }

func (m program) plug(in bool) error {
	if in {
		return m.p.socket.up(m.p.Name)
	}
	return m.p.socket.down(m.p.Name)
}

// press takes as long, by this machine's clock, as the command that presses all keys.
func (m program) press(ctx context.Context, keys string) (between time.Duration, err error) {
	from := time.Now()
	_, err = m.p.Ctl(ctx, "press", keys)
	return time.Since(from), err
}

func (m program) hook(ctx context.Context, lifted bool) error {
	to := "on"
	if lifted {
		to = "off"
	}
	_, err := m.p.Ctl(ctx, "hook", to)
	return err
}

func (m program) sysctl(name, value string) error { return m.p.host.sysctl(name, value) }

// spoke: the phone's engine captures and plays on one clock, so that its tape
// tells when which sample was spoken.
func (m program) spoke() (time.Time, error) {
	now, err := m.p.tape().position()
	return now.timeOf(m.p.tapeStart), err
}
