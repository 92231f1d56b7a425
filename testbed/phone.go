package testbed

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

// An Event is one line of `flexphone ctl events`.
type Event struct {
	Time   time.Time // of a virtual machine, whose clock strays: when we were told
	Name   string
	Fields map[string]any // all of the line
}

// Field returns a field of the event as text, empty if it has none.
func (e Event) Field(name string) string {
	v, ok := e.Fields[name]
	if !ok || v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Addr returns the address that the event tells of.
func (e Event) Addr() netip.Addr { return parseAddr(e.Field("address")) }

// String returns the event as one line for people.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Time.Format("15:04:05.000"), e.Name)
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if name != "time" && name != "event" {
			fmt.Fprintf(&b, " %s=%v", name, e.Fields[name])
		}
	}
	return b.String()
}

// Status is what `flexphone ctl status` prints.
type Status struct {
	MAC        string          `json:"mac"`
	Number     string          `json:"number"`
	State      string          `json:"state"`
	Address    string          `json:"address"`
	Registered bool            `json:"registered"`
	Call       json.RawMessage `json:"call"`
	Display    []string        `json:"display"`
	Tone       string          `json:"tone"`
}

// Addr returns the phone's address, zero when it has none.
func (s Status) Addr() netip.Addr { return parseAddr(s.Address) }

// parseAddr reads an address with or without the length of its prefix.
func parseAddr(text string) netip.Addr {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr()
	}
	addr, _ := netip.ParseAddr(text) // zero when there is none
	return addr
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

// listen connects to the phone's control socket, as soon as there is one, and
// reads its events from then on.
func (p *Phone) listen(ctx context.Context) error {
	tick := time.NewTicker(p.look())
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", p.Control())
		if err == nil {
			err = p.follow(conn)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.proc.done:
			return fmt.Errorf("testbed: start %s: it has ended: %s: %s", p.Name, p.proc.cmd.ProcessState, p.LastWords())
		case <-ctx.Done():
			return fmt.Errorf("testbed: start %s: %w: %w", p.Name, ctx.Err(), err)
		}
	}
}

// follow reads events off the control socket until the phone ends. It returns
// once no later event can be missed, which the first, empty answer says.
func (p *Phone) follow(conn net.Conn) error {
	r := bufio.NewReader(conn)
	if err := json.NewEncoder(conn).Encode(request{Command: "events"}); err != nil {
		conn.Close()
		return fmt.Errorf("testbed: follow %s: %w", p.Name, err)
	}
	if _, err := r.ReadBytes('\n'); err != nil {
		conn.Close()
		return fmt.Errorf("testbed: follow %s: %w", p.Name, err)
	}
	followed := make(chan struct{})
	p.followed = followed
	go func() {
		defer close(followed)
		defer conn.Close()
		for lines := json.NewDecoder(r); ; {
			var answer response
			var fields map[string]any
			if lines.Decode(&answer) != nil || json.Unmarshal(answer.Result, &fields) != nil {
				return
			}
			e := Event{Name: fmt.Sprint(fields["event"]), Fields: fields}
			if e.Time = time.Now(); p.board == hostBoard {
				e.Time, _ = time.Parse(time.RFC3339Nano, fmt.Sprint(fields["time"]))
			}
			p.events.add(e)
		}
	}()
	return nil
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

// Press presses keys: digits, * and #.
func (p *Phone) Press(ctx context.Context, keys string) error {
	_, err := p.machine.press(ctx, keys)
	return err
}

// interdigit is how long the phone waits for another key before it dials what it has.
const interdigit = 4 * time.Second

// StoodStill reports whether a phone that had to wait for so long between two keys may
// have dialled what it had: a person is not as slow, a machine that stands still is.
func StoodStill(between time.Duration) bool { return between >= interdigit }

// dialings is how often a number is dialled at most, until the machine does not stand
// still meanwhile.
const dialings = 10

// Dial marks, lifts the handset, presses the keys of number and #, and returns the
// event that the phone has dialled it. It does so once more if the machine stood still
// between two keys, for which the phone cannot but dial the first of them.
func (p *Phone) Dial(ctx context.Context, number string) (Event, error) {
	for range dialings {
		p.Mark()
		if err := p.OffHook(ctx); err != nil {
			return Event{}, err
		}
		between, err := p.machine.press(ctx, number+"#")
		if err != nil {
			return Event{}, err
		}
		dialed, err := p.Await(ctx, "dialed")
		switch {
		case err != nil || dialed.Field("number") == number:
			return dialed, err
		case !StoodStill(between):
			return dialed, fmt.Errorf("testbed: dial %s at %s: it dialled %s", number, p.Name, dialed.Field("number"))
		}
		if err := p.OnHook(ctx); err != nil {
			return Event{}, err
		}
		if _, err := p.Await(ctx, "state", "state", "standby"); err != nil {
			return Event{}, err
		}
	}
	return Event{}, fmt.Errorf("testbed: dial %s at %s: the machine stood still between two keys, %d times", number, p.Name, dialings)
}

// OffHook lifts the handset.
func (p *Phone) OffHook(ctx context.Context) error {
	return p.machine.hook(ctx, true)
}

// OnHook puts the handset back.
func (p *Phone) OnHook(ctx context.Context) error {
	return p.machine.hook(ctx, false)
}

// Status asks for the phone's state.
func (p *Phone) Status(ctx context.Context) (Status, error) {
	out, err := p.Ctl(ctx, "status")
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Status{}, fmt.Errorf("testbed: read status of %s: %w: %s", p.Name, err, out)
	}
	return s, nil
}

// Await waits for the next event of that name whose fields are as given
// ("address", "192.0.2.7", …), and passes it: the next Await looks behind it.
// The empty name is any.
func (p *Phone) Await(ctx context.Context, name string, fields ...string) (Event, error) {
	p.mu.Lock()
	from := p.next
	p.mu.Unlock()
	e, next, err := p.events.await(ctx, from, func(e Event) bool {
		if name != "" && e.Name != name {
			return false
		}
		for i := 0; i+1 < len(fields); i += 2 {
			if e.Field(fields[i]) != fields[i+1] {
				return false
			}
		}
		return true
	})
	if err != nil {
		return Event{}, fmt.Errorf("testbed: wait for %q %v of %s: %w", name, fields, p.Name, err)
	}
	p.mu.Lock()
	p.next = next
	p.mu.Unlock()
	return e, nil
}

// Mark passes all events so far: the next Await looks behind them. Whoever calls
// marks first, so that the pace of the phone is that of one call.
func (p *Phone) Mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.events.length()
	p.pace = fullPace
}

// Events returns all events so far.
func (p *Phone) Events() []Event { return p.events.since(0) }

// LastWords returns the end of the phone's log.
func (p *Phone) LastWords() string {
	lines := p.proc.log.since(0)
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
