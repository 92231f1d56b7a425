package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"flexphone/audio/portaudio"
	"flexphone/internal/realtime"
)

// cardRate is the rate of the virtual card.
const cardRate = 48000

// A studio is a virtual sound card, a JACK server whose clock is the machine's, and a
// mouth and an ear that are joined to telephones there. As that of a real one, this clock
// waits for no program, if the kernel permits it.
type studio struct {
	server *exec.Cmd
	out    bytes.Buffer
	device *portaudio.Device
	prompt bool     // the card's clock has SCHED_RR, and may give it to telephones' threads
	own    []string // our ports
	known  uint64   // how often the device had nothing to play when its loop was measured

	mu    sync.Mutex
	scene *scene
	stop  context.CancelFunc
	ended chan struct{}
	err   error // why it ended
}

// A scene is what the mouth says, and what the ear hears meanwhile and a little longer.
type scene struct {
	said, heard []int16
	at          int
	over        chan struct{}
}

// errNoCard is the error of a machine where there is no virtual card.
var errNoCard = errors.New("no virtual sound card")

// openStudio starts the server and opens the mouth and the ear. period is in samples.
func openStudio(ctx context.Context, period int) (s *studio, err error) {
	for _, tool := range []string{"jackd", "jack_wait", "jack_lsp", "jack_connect", "jack_disconnect"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("audiobench: %w: %w (Debian's package jackd2)", errNoCard, err)
		}
	}
	name := fmt.Sprintf("flexphone-bench-%d", os.Getpid())
	for k, v := range map[string]string{"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1", "JACK_NO_AUDIO_RESERVATION": "1"} {
		if err := os.Setenv(k, v); err != nil { // telephones inherit it
			return nil, fmt.Errorf("audiobench: %w", err)
		}
	}
	s = &studio{ended: make(chan struct{})}
	clock := "--no-realtime"
	if s.prompt = prompt() == nil; s.prompt {
		clock = "--realtime"
	}
	s.server = exec.Command("jackd", clock, "--port-max", fmt.Sprint(mostPorts), "--name", name, "-d", "dummy", "-r", fmt.Sprint(cardRate), "-p", fmt.Sprint(period))
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.server.Stdout, s.server.Stderr = &s.out, &s.out
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("audiobench: start jackd: %w", err)
	}
	defer func(opened *studio) {
		if err != nil {
			opened.endServer()
		}
	}(s)
	if b, err := exec.CommandContext(ctx, "jack_wait", "-s", name, "-w", "-t", "20").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("audiobench: %w: jackd does not run: %w\n%s", errNoCard, err, b)
	}
	if s.device, err = portaudio.Open(portaudio.Config{Capture: card, Playback: card, Rate: cardRate, Buffer: ahead}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, fmt.Errorf("audiobench: %w: %w", errNoCard, err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.turn(run)
	for len(s.own) < 2 {
		if err := s.alive(ctx); err != nil {
			return nil, errors.Join(err, s.close())
		}
		ports, err := s.ports()
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		for p, wired := range ports {
			if wired && strings.HasPrefix(p, "PortAudio") {
				s.own = append(s.own, p)
			}
		}
	}
	return s, nil
}

// ahead is how much the mouth has said before it is heard: what the bench may be late.
const ahead = 30 * time.Millisecond

// mostPorts is how many ports there may be. JACK has its clients lock memory for as many,
// which would be a hundred MB, and is not a telephone's.
const mostPorts = 64

// card is PortAudio's name for whatever plays and records at the server.
const card = "system"

// alive waits for a moment, and returns an error if the card's clock is gone.
func (s *studio) alive(ctx context.Context) error {
	select {
	case <-s.ended:
		return fmt.Errorf("audiobench: the virtual card has ended: %w", s.err)
	default:
		return pause(ctx, 50*time.Millisecond)
	}
}

// prompt keeps the threads of the bench, as they are now, from being late; what they start
// has to ask for that itself.
func prompt() error { return realtime.Prompt(urgency, realtime.Nothing) }

// urgency is below that of telephones.
const urgency = 5

// turn keeps the card's clock.
func (s *studio) turn(ctx context.Context) {
	defer close(s.ended)
	play, captured := make([]int16, cardRate/100), make([]int16, cardRate/100)
	for {
		s.mu.Lock()
		scene := s.scene
		s.mu.Unlock()
		clear(play)
		if scene != nil && scene.at < len(scene.said) {
			copy(play, scene.said[scene.at:])
		}
		if s.err = s.device.Exchange(ctx, play, captured); s.err != nil {
			return
		}
		if scene == nil {
			continue
		}
		scene.at += copy(scene.heard[scene.at:], captured)
		if scene.at == len(scene.heard) {
			close(scene.over)
			s.mu.Lock()
			s.scene = nil
			s.mu.Unlock()
		}
	}
}

// tail is how much longer the ear listens than the mouth speaks.
const tail = 800 * time.Millisecond

// errLate is the error of a scene in which the bench itself was late.
var errLate = errors.New("the bench was late")

// begin forgets that the bench was late: its own loop is measured anew, and holds from
// now on until it is late again, after which the mouth is heard later.
func (s *studio) begin() { s.known = s.device.Underruns() }

// perform says speech of cardRate and returns what the ear heard meanwhile and a
// tail longer.
func (s *studio) perform(ctx context.Context, speech []int16) ([]int16, error) {
	c := &scene{said: speech, heard: make([]int16, len(speech)+int(tail*cardRate/time.Second)), over: make(chan struct{})}
	_ = prompt() // also the threads that were made since
	s.mu.Lock()
	s.scene = c
	s.mu.Unlock()
	select {
	case <-c.over:
	case <-s.ended:
		return nil, fmt.Errorf("audiobench: the virtual card has ended: %w", s.err)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.device.Underruns() != s.known {
		return c.heard, errLate
	}
	return c.heard, nil
}

// ports returns all ports of programs, and whether each is joined to another.
func (s *studio) ports() (map[string]bool, error) {
	var b []byte
	err := patiently(func() (err error) {
		b, err = exec.Command("jack_lsp", "-c").Output()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audiobench: list ports: %w", err)
	}
	ports := map[string]bool{}
	port := ""
	for line := range strings.Lines(string(b)) {
		name := strings.TrimSpace(line)
		switch {
		case name == "" || strings.Contains(name, "JackRemoveClient"):
		case strings.HasPrefix(line, " "):
			if port != "" {
				ports[port] = true
			}
		case strings.HasPrefix(name, card+":"):
			port = ""
		case strings.Contains(name, ":"):
			port = name
			ports[port] = false
		}
	}
	return ports, nil
}

// patiently tries what a server that is changing, or has no processor, may refuse: ten
// times in four seconds.
func patiently(try func() error) (err error) {
	for range 10 {
		if err = try(); err == nil {
			return nil
		}
		time.Sleep(400 * time.Millisecond)
	}
	return err
}

// hears reports whether a port takes sound in, by its name.
func hears(port string) bool {
	_, name, _ := strings.Cut(port, ":")
	return strings.HasPrefix(name, "in")
}

// mouths and ears are the ports of both telephones of a call.
type mouths struct{ in, out []string }

// await waits until both telephones of a maker have their card, and returns its ports.
func (s *studio) await(ctx context.Context, prefix string) (m mouths, err error) {
	for {
		ports, err := s.ports()
		if err != nil {
			return m, err
		}
		m = mouths{}
		for p, wired := range ports {
			switch {
			case !wired || !strings.HasPrefix(p, prefix) || p == s.own[0] || p == s.own[1]:
			case hears(p):
				m.in = append(m.in, p)
			default:
				m.out = append(m.out, p)
			}
		}
		if len(m.in) == 2 && len(m.out) == 2 {
			return m, nil
		}
		if err := s.alive(ctx); err != nil {
			return m, fmt.Errorf("audiobench: wait for the cards of two %s: there are %v: %w", prefix, ports, err)
		}
	}
}

// join joins ports, or parts them.
func (s *studio) join(tool, from, to string) error {
	var b []byte
	err := patiently(func() (err error) {
		b, err = exec.Command(tool, from, to).CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("audiobench: %s %s %s: %w: %s", tool, from, to, err, bytes.TrimSpace(b))
	}
	return nil
}

// mouth and ear are our own ports.
func (s *studio) mouth() string {
	if hears(s.own[0]) {
		return s.own[1]
	}
	return s.own[0]
}

func (s *studio) ear() string {
	if hears(s.own[0]) {
		return s.own[0]
	}
	return s.own[1]
}

// listen joins the mouth to these telephones, and the ear to all: who is not spoken to
// is spoken from, and the other says nothing.
func (s *studio) listen(m mouths, spoken ...string) error {
	for _, in := range spoken {
		if err := s.join("jack_connect", s.mouth(), in); err != nil {
			return err
		}
	}
	for _, out := range m.out {
		if err := s.join("jack_connect", out, s.ear()); err != nil {
			return err
		}
	}
	return nil
}

// part undoes listen, whatever is left of it: some telephones keep their card open, and
// others do not.
func (s *studio) part(m mouths) {
	for _, in := range m.in {
		_ = exec.Command("jack_disconnect", s.mouth(), in).Run()
	}
	for _, out := range m.out {
		_ = exec.Command("jack_disconnect", out, s.ear()).Run()
	}
}

func (s *studio) close() error {
	s.stop()
	<-s.ended
	err := s.device.Close()
	return errors.Join(err, s.endServer())
}

// endServer asks it to end: one that is killed leaves its place in a table of all servers.
func (s *studio) endServer() error {
	if err := s.server.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("audiobench: stop jackd: %w", err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = s.server.Process.Kill() })
	defer late.Stop()
	_ = s.server.Wait() // by our signal
	return nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
