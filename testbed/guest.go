package testbed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"flexphone/testbed/serial"
)

// A guest is a board that QEMU plays, with the image that is flashed: its disk
// is a copy of disk.img, byte for byte. The testbed's agent comes beside it, in
// an initramfs.
//
// Its link is a tap device, which a bridge on the phone's host joins to the
// phone's cable. Keys and hook switch are GPIO lines. Its sound card is ALSA's
// loop-back: what the phone plays is recorded into the phone's file Heard.
type guest struct {
	p     *Phone
	board guestBoard
	image string // folder of what `make image` made

	mu      sync.Mutex
	plugged bool
	monitor *monitor // nil: switched off
	life    *life
}

// A life of a guest lasts from PowerOn until its process ends.
type life struct {
	line  *serial.Line
	pins  *pins // nil: the agent moves keys and hook switch
	ended sync.WaitGroup
}

// The patience with a guest, which every instruction costs ten or more of the
// real machine's. Nothing is timed against it: it keeps a guest that hangs from
// being waited for for ever.
const (
	offPatience     = 5 * time.Minute // until it is off
	monitorPatience = 5 * time.Minute // until QEMU or the agent does as told
	guestLook       = 100 * time.Millisecond
)

// newGuest makes the machine of a phone that is built already.
func newGuest(p *Phone, name string) (*guest, error) {
	board, err := findGuestBoard(name)
	if err != nil {
		return nil, err
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	g := &guest{p: p, board: board, image: filepath.Join(root, "build", name)}
	disk := filepath.Join(g.image, "disk.img")
	if err := copySparse(g.disk(), disk, board.diskSize); err != nil {
		return nil, fmt.Errorf("testbed: make the disk of %s: %w (run `make image BOARD=%s` first)", p.Name, err, name)
	}
	if err := p.host.tap(); err != nil {
		return nil, err
	}
	if g.board.tape != nil {
		if err := g.newTapeDisk(); err != nil {
			return nil, err
		}
	}
	return g, g.writeInitrd(p.spoken)
}

// tapeSize is the size of the disk that sound goes by: a quarter of an hour.
const tapeSize = 32 << 20

func (g *guest) newTapeDisk() error {
	f, err := os.Create(g.file("tape.img"))
	if err != nil {
		return fmt.Errorf("testbed: make the tape of %s: %w", g.p.Name, err)
	}
	if err := errors.Join(f.Truncate(tapeSize), f.Close()); err != nil {
		return fmt.Errorf("testbed: make the tape of %s: %w", g.p.Name, err)
	}
	return nil
}

func (g *guest) file(name string) string { return filepath.Join(g.p.dir, name) }
func (g *guest) disk() string            { return g.file("disk.img") }
func (g *guest) initrd() string          { return g.file("initrd") }

// start switches the guest on. What its kernel and its phone print is the
// process's log.
func (g *guest) start(ctx context.Context) (*process, error) {
	if err := newTape(g.p.Heard); err != nil {
		return nil, err
	}
	args, err := g.arguments()
	if err != nil {
		return nil, err
	}
	path, err := findQEMU(g.board.qemu)
	if err != nil {
		return nil, err
	}
	proc, err := g.p.host.run(g.p.dir, command{name: g.p.Name, path: path, args: args})
	if err != nil {
		return nil, err
	}
	if err := g.begin(ctx, proc); err != nil {
		proc.kill()
		return nil, fmt.Errorf("testbed: start %s: %w: %s", g.p.Name, err, strings.Join(proc.log.since(0), "\n"))
	}
	return proc, nil
}

// begin connects to QEMU, which waits for it, lets the guest go, and waits for
// the agent.
func (g *guest) begin(ctx context.Context, proc *process) error {
	m, err := openMonitor(ctx, g.file("qmp"), proc)
	if err != nil {
		return err
	}
	go func() { // ends with QEMU
		<-proc.done
		m.close()
	}()
	g.mu.Lock()
	g.monitor = m
	err = errors.Join(m.setLink(g.plugged), m.do("cont", nil))
	g.mu.Unlock()
	if err != nil {
		return err
	}
	life := &life{}
	if g.board.pins != nil {
		if life.pins, err = openPins(ctx, g.file("qtest"), *g.board.pins, proc); err != nil {
			return err
		}
	}
	wires, err := dialSocket(ctx, g.file("agent"), proc)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { wires.Close() })
	in := bufio.NewReader(wires)
	err = serial.AwaitHello(in)
	if !stop() || err != nil {
		wires.Close()
		return errors.Join(err, context.Cause(ctx))
	}
	life.line = serial.NewLine(wires, in)
	g.mu.Lock()
	g.life = life
	g.mu.Unlock()
	return errors.Join(g.openControl(life, proc), g.record(life, proc))
}

// stop switches the guest off in order, as its init does when it is told to.
func (g *guest) stop() error {
	_, err := g.ask(serial.Request{Do: serial.Off})
	late := time.NewTimer(offPatience)
	defer late.Stop()
	select {
	case <-g.p.proc.done:
		err = nil // it was off before it could say so
	case <-late.C:
		err = errors.Join(err, fmt.Errorf("testbed: switch %s off: not off within %s, killed", g.p.Name, offPatience))
		g.p.proc.kill()
	}
	g.life.ended.Wait()
	return err
}

// cut ends the guest without a warning.
func (g *guest) cut() {
	g.p.proc.kill()
	if g.life != nil {
		g.life.ended.Wait()
	}
}

func (g *guest) plug(in bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plugged = in
	if g.monitor == nil || !g.p.on() {
		return nil // start does it
	}
	return g.monitor.setLink(in)
}

func (g *guest) press(ctx context.Context, keys string) (between time.Duration, err error) {
	if g.life.pins != nil {
		return g.life.pins.press(keys, g.rest)
	}
	reply, err := g.ask(serial.Request{Do: serial.Press, Keys: keys})
	return reply.Between, err
}

func (g *guest) hook(ctx context.Context, lifted bool) error {
	if g.life.pins != nil {
		if err := g.life.pins.set(g.life.pins.hook, lifted); err != nil {
			return err
		}
		_, err := g.rest()
		return err
	}
	_, err := g.ask(serial.Request{Do: serial.Hook, Lifted: lifted})
	return err
}

// rest returns when the machine, which may stand still meanwhile, has had the time
// to see what was moved, with the machine's clock.
func (g *guest) rest() (now time.Duration, err error) {
	reply, err := g.ask(serial.Request{Do: serial.Rest})
	return reply.Now, err
}

func (g *guest) sysctl(name, value string) error {
	_, err := g.ask(serial.Request{Do: serial.Sysctl, Name: name, Value: value})
	return err
}

// spoke is not known: what its clock says, and what the sound card of a machine
// that is played says, differ by as much as sound takes on its way.
func (g *guest) spoke() (time.Time, error) { return time.Time{}, nil }

// ask has the agent do something, and returns what it says to it.
func (g *guest) ask(r serial.Request) (serial.Reply, error) {
	t, err := g.life.line.Open()
	if err != nil {
		return serial.Reply{}, fmt.Errorf("testbed: %s of %s: %w", r.Do, g.p.Name, err)
	}
	return g.converse(t, r)
}

// converse sends a request and returns the reply, which ends the conversation.
func (g *guest) converse(t *serial.Talk, r serial.Request) (serial.Reply, error) {
	var reply serial.Reply
	late := time.AfterFunc(monitorPatience, func() { t.Close() })
	defer func() {
		late.Stop()
		t.Close()
	}()
	if err := errors.Join(serial.Send(t, r), serial.Receive(t, &reply)); err != nil {
		return reply, fmt.Errorf("testbed: %s of %s: %w", r.Do, g.p.Name, err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("testbed: %s of %s: %s", r.Do, g.p.Name, reply.Error)
	}
	return reply, nil
}

// openControl makes the guest's control socket one of this machine's.
func (g *guest) openControl(life *life, proc *process) error {
	if err := os.Remove(g.p.Control()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("testbed: reach %s: %w", g.p.Name, err)
	}
	socket, err := net.Listen("unix", g.p.Control())
	if err != nil {
		return fmt.Errorf("testbed: reach %s: %w", g.p.Name, err)
	}
	life.ended.Go(func() { // ends with QEMU
		<-proc.done
		socket.Close()
		life.line.Close()
		if life.pins != nil {
			life.pins.close()
		}
	})
	life.ended.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			t, err := life.line.Open()
			if err != nil || serial.Send(t, serial.Request{Do: serial.Connect}) != nil {
				conn.Close()
				continue
			}
			life.ended.Go(func() { serial.Join(t, conn) })
		}
	})
	return nil
}

// record has the agent speak, and writes what it hears into the phone's file.
func (g *guest) record(life *life, proc *process) error {
	t, err := life.line.Open()
	if err != nil {
		return err
	}
	if err := serial.Send(t, serial.Request{Do: serial.Sound}); err != nil {
		return err
	}
	var heard io.Reader = t
	if g.board.tape != nil {
		disk, err := os.Open(g.file("tape.img"))
		if err != nil {
			return fmt.Errorf("testbed: record: %w", err)
		}
		life.ended.Go(func() {
			<-proc.done
			disk.Close()
		})
		heard = serial.NewTapeReader(t, disk, tapeSize)
	}
	life.ended.Go(func() {
		defer t.Close()
		if err := continueTape(g.p.Heard, heard); err != nil && !errors.Is(err, io.EOF) {
			proc.log.add("testbed: record: " + err.Error())
		}
	})
	return nil
}
