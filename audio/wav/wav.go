// Package wav is an audio.Device made of two WAV files and a clock: what a
// phone without a sound card speaks and hears.
//
// It knows WAV files of 16-bit mono PCM at 8, 16 or 48 kHz, and when the next
// tick is due. The clock is absolute: a tick that was late is made up for, so
// that no sound is lost and two devices do not drift apart; only after a stop
// of a fifth of a second, when nobody could play so much any more, does it begin
// anew.
package wav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"flexphone/audio"
)

const (
	defaultRate = 16000 // with no file to say another
	stop        = 200 * time.Millisecond
	// flushTicks of recorded sound are written at a time: a reader, and a
	// phone that is killed, miss half a second at most.
	flushTicks = 50
)

// A device is the two files. It belongs to the engine's goroutine, but for Close: who has
// given it up closes it, whether or not an Exchange is over.
type device struct {
	mu      sync.Mutex // of record and due
	rate    int
	capture []int16 // played round and round
	at      int
	record  *recording // nil: discard
	due     time.Time  // of the next tick
	timer   *time.Timer
}

// Open returns a device whose microphone hears the file capture, over and over,
// and whose ear-piece is recorded into the file playback. An empty capture is
// silence, an empty playback is not recorded. A playback file that is there
// already is continued, and must be of the same rate. The rate is that of
// capture, else of playback, else 16 kHz.
func Open(capture, playback string) (audio.Device, error) {
	d := &device{timer: time.NewTimer(time.Hour)}
	if capture != "" {
		var err error
		if d.capture, d.rate, err = readFile(capture); err != nil {
			return nil, err
		}
	}
	if playback != "" {
		r, err := openRecording(playback, d.rate)
		if err != nil {
			return nil, err
		}
		d.record, d.rate = r, r.rate
	}
	if d.rate == 0 {
		d.rate = defaultRate
	}
	return d, nil
}

func readFile(name string) (samples []int16, rate int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("wav: open file: %w", err)
	}
	defer f.Close()
	if samples, rate, err = Decode(f); err != nil {
		return nil, 0, fmt.Errorf("%w (file %s)", err, name)
	}
	return samples, rate, nil
}

func (d *device) Rate() int { return d.rate }

func (d *device) Exchange(ctx context.Context, play, captured []int16) error {
	if err := d.wait(ctx); err != nil {
		return err
	}
	if d.record != nil {
		d.mu.Lock()
		err := d.record.add(play)
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
	clear(captured)
	for n := 0; n < len(captured) && len(d.capture) > 0; {
		k := copy(captured[n:], d.capture[d.at:])
		n += k
		d.at = (d.at + k) % len(d.capture)
	}
	return nil
}

// wait returns when the next tick is due.
func (d *device) wait(ctx context.Context) error {
	left, err := d.tick(time.Now())
	if err != nil {
		return err
	}
	if left <= 0 {
		return ctx.Err()
	}
	d.timer.Reset(left)
	select {
	case <-d.timer.C:
		return nil
	case <-ctx.Done():
		d.timer.Stop()
		return ctx.Err()
	}
}

// tick returns in how long the next tick is due.
func (d *device) tick(now time.Time) (left time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due.IsZero() && d.record != nil {
		if err := d.record.writeHeader(); err != nil {
			return 0, err
		}
	}
	if d.due.IsZero() || now.Sub(d.due) > stop {
		d.due = now
	}
	d.due = d.due.Add(audio.TickDuration)
	return d.due.Sub(now), nil
}

// Rest writes what was recorded but not yet written. The clock begins anew with
// the next tick, and the recording says then that it does: a reader takes the
// time of the file for that of its end.
func (d *device) Rest() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due = time.Time{}
	if d.record == nil {
		return nil
	}
	return d.record.flush()
}

// Close writes what was recorded but not yet written, and closes the file.
func (d *device) Close() error {
	d.timer.Stop()
	if d.record == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.record.close()
}

// A recording is a WAV file that grows, and is whole after each write: the
// sound is written first, the lengths in the header after it.
type recording struct {
	f       *os.File
	rate    int
	samples int // written
	waiting []byte
	head    [headerSize]byte
}

func openRecording(name string, rate int) (*recording, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("wav: open recording: %w", err)
	}
	r := &recording{f: f, rate: rate}
	if err := r.begin(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w (file %s)", err, name)
	}
	r.waiting = make([]byte, 0, flushTicks*r.rate/100*2)
	return r, nil
}

// begin continues a file that has sound in it, or begins one.
func (r *recording) begin() error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("wav: look at recording: %w", err)
	}
	if info.Size() == 0 {
		if r.rate == 0 {
			r.rate = defaultRate
		}
		return r.writeHeader()
	}
	samples, rate, err := Decode(r.f)
	if err != nil {
		return err
	}
	end, err := r.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("wav: look at recording: %w", err)
	}
	if r.rate != 0 && rate != r.rate {
		return fmt.Errorf("wav: continue recording: it has %d Hz, we have %d", rate, r.rate)
	}
	if end/2 != int64(headerSize/2+len(samples)) { // whoever was killed may have left half a sample
		return errors.New("wav: continue recording: not one of ours")
	}
	r.rate, r.samples = rate, len(samples)
	return nil
}

func (r *recording) add(pcm []int16) error {
	n := len(r.waiting)
	r.waiting = r.waiting[:n+2*len(pcm)]
	putSamples(r.waiting[n:], pcm)
	if len(r.waiting)+2*len(pcm) > cap(r.waiting) {
		return r.flush()
	}
	return nil
}

func (r *recording) flush() error {
	if _, err := r.f.WriteAt(r.waiting, int64(headerSize+2*r.samples)); err != nil {
		return fmt.Errorf("wav: record: %w", err)
	}
	r.samples += len(r.waiting) / 2
	r.waiting = r.waiting[:0]
	return r.writeHeader()
}

func (r *recording) writeHeader() error {
	if _, err := r.f.WriteAt(appendHeader(r.head[:0], r.rate, r.samples), 0); err != nil {
		return fmt.Errorf("wav: record: %w", err)
	}
	return nil
}

func (r *recording) close() error {
	if err := errors.Join(r.flush(), r.f.Close()); err != nil {
		return fmt.Errorf("wav: end recording: %w", err)
	}
	return nil
}
