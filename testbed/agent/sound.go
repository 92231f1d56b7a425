package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/testbed/serial"
)

// The loop-back card: what is played at one of its devices is captured at the
// other. The phone has device 0. Both sides have to agree: the phone plays and
// captures in mono, at the first of its rates that the card takes, which is ours.
const (
	mouth = "/dev/snd/pcmC0D1p"
	ear   = "/dev/snd/pcmC0D1c"
)

const (
	channels  = 1
	chunk     = serial.Rate / 10 // frames that are spoken or heard at a time: few wake-ups
	mouthFull = 4                // chunks that are spoken ahead
	earFull   = 20               // chunks that may wait to be heard
)

// A loop speaks into the phone's microphone and hears its ear-piece.
type loop struct {
	speech []int16
}

func newLoop(speech []int16) *loop { return &loop{speech: speech} }

// run speaks, and sends what it hears, until the listener goes.
func (l *loop) run(to io.Writer) error {
	if err := awaitCard(); err != nil {
		return err
	}
	in, err := openPCM(ear, serial.Rate, channels, chunk, earFull)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := openPCM(mouth, serial.Rate, channels, chunk, mouthFull)
	if err != nil {
		return err
	}
	defer out.Close()
	var speaking sync.WaitGroup
	var over atomic.Bool
	speaking.Go(func() {
		if err := l.speak(out, &over); err != nil { // said at once: hearing goes on
			fmt.Fprintln(os.Stderr, "<3>agent: sound:", err)
		}
	})
	err = hear(in, to)
	over.Store(true)
	speaking.Wait()
	return err
}

// openTape opens the disk of that path, past the kernel's memory of it; none if
// the path is empty.
func openTape(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	return await(path, unix.O_DIRECT)
}

// sound speaks and hears, by way of the tape if there is one.
func (a *agent) sound(t *serial.Talk) error {
	if a.tape == nil {
		return a.loop.run(t)
	}
	size, err := a.tape.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	page, err := unix.Mmap(-1, 0, serial.MaxTaped, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(page)
	return a.loop.run(serial.NewTapeWriter(t, a.tape, size, page))
}

// awaitCard waits until the kernel has the card.
func awaitCard() error {
	for look := time.NewTicker(20 * time.Millisecond); ; <-look.C {
		if _, err := os.Stat(ear); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

// speak plays the speech over and over.
func (l *loop) speak(out *pcm, over *atomic.Bool) error {
	frames := make([]int16, chunk*channels)
	for n := 0; !over.Load(); n += chunk {
		for i := range frames {
			frames[i] = l.speech[(n+i/channels)%len(l.speech)]
		}
		err := out.write(frames)
		if stopped(err) { // it ran dry, or the phone's end was: the speech goes on from here
			err = out.prepare()
		}
		if err != nil {
			return fmt.Errorf("speak: %w", err)
		}
	}
	return nil
}

// stopped reports whether err is that of a device which goes on once it is
// prepared again: it ran dry or over (EPIPE), it stood still for ten seconds with
// the whole machine (EIO), or the other end of the loop was opened anew (EBADFD).
func stopped(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EBADFD)
}

// hear sends what the phone plays.
func hear(in *pcm, to io.Writer) error {
	frames := make([]int16, chunk*channels)
	var bytes []byte
	for {
		n, err := in.read(frames)
		if stopped(err) { // it ran over, or the phone's end was: some sound is lost
			n, err = 0, in.prepare()
		}
		if err != nil {
			return fmt.Errorf("hear: %w", err)
		}
		bytes = bytes[:0]
		for i := 0; i < n; i++ {
			bytes = binary.LittleEndian.AppendUint16(bytes, uint16(frames[i*channels]))
		}
		if _, err := to.Write(bytes); err != nil {
			return nil // nobody listens any more
		}
	}
}

// readSamples reads 16-bit samples.
func readSamples(from io.Reader) ([]int16, error) {
	b, err := io.ReadAll(from)
	if err != nil {
		return nil, fmt.Errorf("read the speech: %w", err)
	}
	samples := make([]int16, len(b)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	if len(samples) == 0 {
		return nil, errors.New("nothing is to be spoken")
	}
	return samples, nil
}
