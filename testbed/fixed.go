package testbed

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// addFixed makes a host whose address never changes, with a folder of its own.
func (b *Bed) addFixed() (*host, netip.Addr, error) {
	addr := b.nextFixed()
	h, err := b.addFixedAt(b.ISP.host, street, netip.PrefixFrom(addr, fixedPhones.Bits()), fixedRouter.Addr())
	return h, addr, err
}

// addFixedAt makes one on a bridge of sw.
func (b *Bed) addFixedAt(sw *host, bridge string, addr netip.Prefix, router netip.Addr) (*host, error) {
	b.fixed++
	name := fmt.Sprintf("fixed-%d", b.fixed)
	h, err := newHost(name)
	if err != nil {
		return nil, err
	}
	b.hosts = append(b.hosts, h)
	if err := os.Mkdir(filepath.Join(b.Dir, name), 0o700); err != nil {
		return nil, fmt.Errorf("testbed: make host %s: %w", name, err)
	}
	if err := h.cable(sw, bridge, nil); err != nil {
		return nil, err
	}
	if err := h.up("eth0"); err != nil {
		return nil, err
	}
	return h, h.address("eth0", addr, router)
}

// nextFixed is the address of the next host that addFixed makes.
func (b *Bed) nextFixed() netip.Addr {
	addr := fixedPhones.Addr()
	for range b.fixed {
		addr = addr.Next()
	}
	return addr
}

// DialledAddr returns an address as it is dialled on twelve keys.
func DialledAddr(a netip.Addr) string { return strings.ReplaceAll(a.String(), ".", "*") }

// A Sipp is Debian's sipp, which plays one scenario of SIP and checks what
// comes back against it.
type Sipp struct {
	Addr netip.Addr
	host *host
	dir  string
	proc *process
}

//go:embed sipp
var scenarios embed.FS

// StartSipp starts a scenario for one call: "uas" waits for a call and "uac" calls
// the user at target, as sipp itself has it; so do those of that beginning in the
// folder sipp, of which "uas-redirect" sends who calls to target, and "uas-redirect-sips" to TLS there.
// Who calls an IPv6 address has one as well.
func (b *Bed) StartSipp(scenario, user string, target netip.Addr) (*Sipp, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	if target.Is6() {
		addr = address6At(b.fixed)
		if err := h.address("eth0", netip.PrefixFrom(addr, 64), netip.Addr{}); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(b.Dir, h.name)
	play := []string{"-sn", scenario}
	if text, err := scenarios.ReadFile("sipp/" + scenario + ".xml"); err == nil {
		file := filepath.Join(dir, "scenario.xml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, fmt.Errorf("testbed: start sipp: %w", err)
		}
		play = []string{"-sf", file}
	}
	args := append(play, "-m", "1", "-nostdin", "-i", addr.String(), "-p", "5060",
		"-timeout", "600s", "-timeout_error", "-trace_err", "-trace_msg")
	if strings.HasPrefix(scenario, "uas-redirect") {
		args = append(args, "-key", "place", target.String())
	}
	if strings.HasPrefix(scenario, "uac") {
		// It talks for three seconds: its BYE is not to overtake its ACK at a slow phone,
		// for which the call would have ended before it was established.
		args = append(args, "-d", "3000", "-s", user, netip.AddrPortFrom(target, 5060).String())
	}
	proc, err := h.run(dir, command{name: "sipp", path: "sipp", args: args, env: []string{"TERM=dumb"}})
	if err != nil {
		return nil, err
	}
	b.onClose(proc.stop)
	return &Sipp{Addr: addr, host: h, dir: dir, proc: proc}, nil
}

// Wait returns once sipp has played its scenario, with an error if the other
// side did not play its part.
func (s *Sipp) Wait(ctx context.Context) error {
	select {
	case <-s.proc.done:
	case <-ctx.Done():
		return fmt.Errorf("testbed: wait for sipp: %w", ctx.Err())
	}
	if s.proc.err != nil {
		return fmt.Errorf("testbed: sipp's scenario failed: %w", s.proc.err)
	}
	return nil
}

// Listening returns once sipp waits for calls on its SIP port.
func (s *Sipp) Listening(ctx context.Context) error {
	const port5060 = ":13C4 "
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		var sockets []byte
		err := s.host.within(func() (err error) {
			sockets, err = os.ReadFile("/proc/thread-self/net/udp")
			return err
		})
		if err != nil {
			return fmt.Errorf("testbed: look at sipp's sockets: %w", err)
		}
		if bytes.Contains(sockets, []byte(port5060)) {
			return nil
		}
		select {
		case <-look.C:
		case <-s.proc.done:
			return fmt.Errorf("testbed: start sipp: %w", s.proc.err)
		case <-ctx.Done():
			return fmt.Errorf("testbed: start sipp: %w", ctx.Err())
		}
	}
}

// address6At is the n-th fixed address of a street that has IPv6 (RFC 3849).
func address6At(n int) netip.Addr {
	b := netip.MustParseAddr("2001:db8:77::f000").As16()
	b[15] = byte(n)
	return netip.AddrFrom16(b)
}

// AwaitBYE waits until the first BYE has come to sipp.
func (s *Sipp) AwaitBYE(ctx context.Context) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		logs, _ := filepath.Glob(filepath.Join(s.dir, "*_messages.log")) // the pattern is right
		for _, log := range logs {
			if text, err := os.ReadFile(log); err == nil && bytes.Contains(text, []byte("\nBYE sip:")) {
				return nil
			}
		}
		select {
		case <-look.C:
		case <-s.proc.done:
			return fmt.Errorf("testbed: wait for a BYE: sipp has ended: %w", s.proc.err)
		case <-ctx.Done():
			return fmt.Errorf("testbed: wait for a BYE: %w", ctx.Err())
		}
	}
}

var statusLine = regexp.MustCompile(`(?m)^SIP/2\.0 ([0-9]{3}) `)

// Answer returns the last status that sipp got or gave, such as "404".
func (s *Sipp) Answer() (string, error) {
	logs, err := filepath.Glob(filepath.Join(s.dir, "*_messages.log"))
	if err != nil || len(logs) == 0 {
		return "", fmt.Errorf("testbed: find sipp's messages: none in %s", s.dir)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		return "", fmt.Errorf("testbed: find sipp's messages: %w", err)
	}
	found := statusLine.FindAllSubmatch(text, -1)
	if len(found) == 0 {
		return "", fmt.Errorf("testbed: find sipp's messages: no answer in %s", logs[0])
	}
	return string(found[len(found)-1][1]), nil
}
