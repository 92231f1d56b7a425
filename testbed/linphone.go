package testbed

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Linphone is Debian's linphonec on a host of its own: Linphone without a window,
// which is told what to do, and tells what happens, in lines.
type Linphone struct {
	Addr netip.Addr

	host *host
	proc *process
	in   io.WriteCloser
	next int // line that Await has not passed
}

// LinphonePath is the name of its program.
const LinphonePath = "linphonec"

// AddLinphone starts a linphonec at an address of East or West, which speaks those
// words, over and over; 16 kHz. It rings until Answer.
func (b *Bed) AddLinphone(ctx context.Context, speech []int16, addr netip.Addr) (*Linphone, error) {
	h, _, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	if err := h.readdress(addr); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.Dir, h.name)
	if err := os.MkdirAll(filepath.Join(dir, ".local", "share", "linphone"), 0o700); err != nil {
		return nil, fmt.Errorf("testbed: make linphone: %w", err)
	}
	voice := filepath.Join(dir, "speech.wav")
	if err := writeWAV(voice, slices.Repeat(speech, 1+baresipSpeaks*speechRate/len(speech)), speechRate); err != nil {
		return nil, err
	}
	settings := filepath.Join(dir, "linphonerc")
	if err := os.WriteFile(settings, []byte("[sip]\nsip_port=5060\nsip_tcp_port=0\nguess_hostname=1\n"), 0o600); err != nil {
		return nil, fmt.Errorf("testbed: make linphone: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("testbed: make linphone: %w", err)
	}
	defer r.Close()
	s := &Linphone{Addr: addr, host: h, in: w}
	b.onClose(w.Close)
	if s.proc, err = h.run(dir, command{name: "linphone", path: LinphonePath, args: []string{"-c", settings}, env: []string{"HOME=" + dir}, stdin: r}); err != nil {
		return nil, err
	}
	b.onClose(s.proc.stop)
	if err := s.say("soundcard use files"); err != nil {
		return nil, err
	}
	if _, err := s.Await(ctx, "Using wav files"); err != nil {
		return nil, err
	}
	return s, s.say("play " + voice)
}

// Await waits for the next line that has these words, and passes it. It returns when
// it was seen.
func (s *Linphone) Await(ctx context.Context, words string) (time.Time, error) {
	_, next, err := s.proc.await(ctx, s.next, func(line string) bool { return strings.Contains(line, words) })
	if err != nil {
		return time.Time{}, fmt.Errorf("testbed: wait for %q of linphone: %w", words, err)
	}
	s.next = next
	return time.Now(), nil
}

// Mark passes all lines so far: the next Await looks behind them.
func (s *Linphone) Mark() { s.next = s.proc.log.length() }

// Dial calls a SIP URI.
func (s *Linphone) Dial(uri string) error { return s.say("call " + uri) }

// Answer answers a call that rings.
func (s *Linphone) Answer() error { return s.say("answer") }

// Hangup ends the call.
func (s *Linphone) Hangup() error { return s.say("terminate") }

// Pid returns the process of linphone.
func (s *Linphone) Pid() int { return s.proc.cmd.Process.Pid }

// Move gives linphone's host another address, as Phone.Move does.
func (s *Linphone) Move(to netip.Addr) error {
	if err := s.host.readdress(to); err != nil {
		return err
	}
	s.Addr = to
	return nil
}

func (s *Linphone) say(line string) error {
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		return fmt.Errorf("testbed: tell linphone to %s: %w", line, err)
	}
	return nil
}
