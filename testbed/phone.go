package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Phone is one of ours: on the board "host" the real binary on a host of its
// own, with WAV files for a sound card; on others the real image in a virtual
// machine that is plugged into such a host.
//
// On the host it is driven as a person at a shell drives it, by `flexphone ctl`;
// a virtual machine by the GPIO lines of its keys and hook switch. Either is
// watched by its events.
type Phone struct {
	Name   string // of its host and files, such as "phone-101"
	MAC    MAC
	Speech string // WAV file that is spoken into it
	Heard  string // WAV file of what it plays

	bed       *Bed
	host      *host
	dir       string
	binary    string
	machine   machine
	special   GuestConfig
	server    string // in its settings
	wifi      bool   // it has a second interface
	socket    *host  // whose switch it is plugged into: the provider's
	home      bool   // or that of a home
	fixed     bool   // its host has its address, and it leases none
	card      string // its sound card; empty: files
	talkative bool
	proc      *process
	board     string
	followed  chan struct{} // closed when it has told its last event

	mu        sync.Mutex
	spoken    []int16 // what Speech holds
	tapeStart int     // how many samples Heard held when the phone was started
	events    *journal[Event]
	pace      Pace // the least of what was measured since the last Mark
	next      int  // of the first event that Await has not passed
}

// A PhoneConfig says what phone to build.
type PhoneConfig struct {
	Name   string
	MAC    MAC
	Speech []int16 // what is spoken into it, over and over; 16 kHz
	// StoringServer is what the settings of a program say; empty: nothing, so that
	// the lease does.
	StoringServer string
	// Addr is the address, of East or West, that its host has from the beginning and
	// its program watches. Zero: it leases one. For programs alone.
	Addr netip.Addr
	// Home is what it is plugged into instead of the street; Addr is of that network.
	Home *Home
	// Card is the sound card that its program opens, by PortAudio's name; empty: it
	// has files for one. For programs alone.
	Card string
	// WiFi is the MAC of its second interface, wlan0, which takes the place of eth0 while
	// that has no address. Zero: it has none. For programs alone.
	WiFi MAC
	// Talkative: its program logs every step, and all that goes over the wire.
	Talkative bool
	// Board is what it is; empty: as the bed says.
	Board string
	Guest GuestConfig
}

// AddPhone builds a phone and its cable, which is not plugged in yet: PowerOn
// starts it, Plug joins it to the street.
func (b *Bed) AddPhone(ctx context.Context, c PhoneConfig) (*Phone, error) {
	binary, err := findBinary("flexphone")
	if err != nil {
		return nil, err
	}
	p := &Phone{
		Name: c.Name, MAC: c.MAC, bed: b, binary: binary, spoken: c.Speech, special: c.Guest, server: c.StoringServer, wifi: c.WiFi != MAC{}, fixed: c.Addr.IsValid(), card: c.Card, talkative: c.Talkative,
		board:  cmp.Or(c.Board, b.Board),
		dir:    filepath.Join(b.Dir, c.Name),
		events: newJournal[Event](),
		pace:   fullPace,
	}
	p.Speech, p.Heard = filepath.Join(p.dir, "speech.wav"), filepath.Join(p.dir, "heard.wav")
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("testbed: make phone: %w", err)
	}
	if err := writeWAV(p.Speech, c.Speech, speechRate); err != nil {
		return nil, err
	}
	if p.host, err = newHost(c.Name); err != nil {
		return nil, err
	}
	b.hosts = append(b.hosts, p.host)
	mac := net.HardwareAddr(c.MAC[:])
	if p.board != hostBoard {
		mac = nil // any: that one is the virtual machine's
	}
	if p.socket, p.home = b.ISP.host, c.Home != nil; p.home {
		p.socket = c.Home.host
	}
	if err := p.host.cable(p.socket, p.bridge(), mac); err != nil {
		return nil, err
	}
	if p.wifi {
		if err := p.host.join(b.ISP.host, street, "w-"+c.Name, wifi, c.WiFi[:]); err != nil {
			return nil, err
		}
	}
	if p.fixed {
		if err := errors.Join(p.host.up("eth0"), p.host.readdress(c.Addr)); err != nil {
			return nil, err
		}
	}
	if p.machine, err = b.newMachine(p); err != nil {
		return nil, err
	}
	if err := p.Unplug(); err != nil {
		return nil, err
	}
	b.phones = append(b.phones, p)
	return p, nil
}

// wifi is the second interface of a phone that has one. Nothing about it is radio, but
// that its link stays when the cable is pulled.
const wifi = "wlan0"

// bridge is the switch that the phone is plugged into.
func (p *Phone) bridge() string {
	if p.home {
		return inHome
	}
	return street
}

// look is how often the phone is looked at for what it tells nobody unasked.
func (p *Phone) look() time.Duration {
	if p.board != hostBoard {
		return guestLook
	}
	return 5 * time.Millisecond
}

// Control returns the path of the phone's control socket.
func (p *Phone) Control() string { return filepath.Join(p.dir, "ctl") }

// PowerOn starts the phone and waits until it can be talked to.
func (p *Phone) PowerOn(ctx context.Context) error {
	if played, err := p.tape().position(); err == nil {
		p.tapeStart = played.samples
	}
	proc, err := p.machine.start(ctx)
	if err != nil {
		return err
	}
	p.proc = proc
	return p.listen(ctx)
}

// PowerOff asks the phone to end, as its switch does: it gives its lease and
// its row back.
func (p *Phone) PowerOff() error {
	err := p.machine.stop()
	if p.followed != nil {
		<-p.followed
	}
	return err
}

// PowerCut ends the phone without a warning.
func (p *Phone) PowerCut() {
	p.machine.cut()
	if p.followed != nil {
		<-p.followed
	}
}

// Forget has a phone that is switched off know nothing of others.
func (p *Phone) Forget() error { return os.RemoveAll(filepath.Join(p.dir, "data", "phones.json")) }

// on reports whether the phone is switched on.
func (p *Phone) on() bool { return p.proc != nil && p.proc.running() }

// Pid returns the process of a phone that is switched on: its program, or QEMU.
func (p *Phone) Pid() int { return p.proc.cmd.Process.Pid }

// Plug joins the phone's cable to the street.
func (p *Phone) Plug() error { return p.machine.plug(true) }

// Unplug cuts the phone's link: its carrier is gone.
func (p *Phone) Unplug() error { return p.machine.plug(false) }

// Replug pulls the phone's plug and puts it back as soon as the phone has
// noticed.
func (p *Phone) Replug(ctx context.Context) error {
	if err := p.Pull(ctx); err != nil {
		return err
	}
	return p.Plug()
}

// Pull pulls the phone's plug, and returns when the phone has noticed.
func (p *Phone) Pull(ctx context.Context) error {
	from := p.proc.log.length()
	if err := p.Unplug(); err != nil {
		return err
	}
	_, _, err := p.proc.await(ctx, from, func(line string) bool {
		return strings.Contains(line, "msg=carrier") && strings.Contains(line, "up=false")
	})
	if err != nil {
		return fmt.Errorf("testbed: pull the plug of %s: %w", p.Name, err)
	}
	return nil
}

// Ctl runs `flexphone ctl` and returns what it prints.
func (p *Phone) Ctl(ctx context.Context, args ...string) (string, error) {
	out, err := p.host.output(ctx, p.binary, append([]string{"ctl", "--control", p.Control()}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// LastWords returns the end of the phone's log.
func (p *Phone) LastWords() string {
	lines := p.proc.log.since(0)
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
