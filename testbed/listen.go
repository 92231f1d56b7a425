package testbed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"flexphone/audio/audiotest"
)

// Heard says how much of what was spoken at one end arrived at the other.
type Heard struct {
	Arrived     float64       // share of the voiced parts that were found, 0 to 1
	Correlation float64       // of these with the original, -1 to 1
	Delay       time.Duration // mouth to ear, to about 10 ms; 0: not measured
	Pace        Pace          // of the phones meanwhile
	Wanted      float64       // what Arrived should be at least
}

// Enough reports whether as much was heard as is wanted.
func (h Heard) Enough() bool { return h.Arrived >= h.Wanted }

// Judged reports whether the machine kept pace, so that what was not heard is the
// phones' fault.
func (h Heard) Judged() bool { return h.Pace.Fair() }

// String returns h for people.
func (h Heard) String() string {
	s := fmt.Sprintf("%.0f %% arrived, correlation %.3f", 100*h.Arrived, h.Correlation)
	if h.Delay != 0 {
		s += fmt.Sprintf(", delay %d ms", h.Delay.Milliseconds())
	}
	return s
}

// settle is how long sound may take to flow after a call is established: the
// first packets fill the playout buffer.
const settle = 300 * time.Millisecond

// Enough is the share of the voiced parts of a speech that has to be heard on
// the host. What may be missing is what a busy machine drops at the edges.
const Enough = 0.9

// guestEnough is the same in virtual machines, whose processors are emulated. The
// best of a few rounds was 0.67 to 1 on two real processors that eight to twenty
// programs wanted besides, on either board; with the processors to themselves,
// 0.68 to 1 in three stories of imx6ul-evk and 0.85 to 1 in twenty talks of
// qemu-virt. It says that the words came through, not that they came well.
const guestEnough = 0.6

// wanted returns the share of the voiced parts of a speech that has to be heard
// where these phones talk.
func wanted(phones ...*Phone) float64 {
	for _, p := range phones {
		if p.board != hostBoard {
			return guestEnough
		}
	}
	return Enough
}

// A speech is listened to until enough of it was heard: phones and testers share
// one machine, and when it stands still for a while, so does the sound.
const (
	rounds = 8 // at most
	// fairRounds are those in which the machine kept pace when it is the phones' fault
	// that too little was heard in any. One does not say so: a playout buffer that finds
	// its size at the beginning of a call drops and inserts sound.
	fairRounds = 4
)

// HearEachOther listens at both ends of a call at once, for as long as the
// longer speech takes. The first result is what a hears of b.
func HearEachOther(ctx context.Context, a, b *Phone) (atA, atB Heard, err error) {
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() { atA, errA = a.Hear(ctx, b) })
	both.Go(func() { atB, errB = b.Hear(ctx, a) })
	both.Wait()
	return atA, atB, errors.Join(errA, errB)
}

// Hear listens to what arrives at p of what is spoken into the other phone
// from now on.
func (p *Phone) Hear(ctx context.Context, other *Phone) (Heard, error) {
	if _, err := other.tape().read(ctx, other.tapeStart, 1); err != nil {
		return Heard{}, err
	}
	before, err := other.machine.spoke()
	if err != nil {
		return Heard{}, err
	}
	heard, at, err := p.hear(ctx, other.spoken, nil, other)
	if err != nil {
		return heard, err
	}
	after, err := other.machine.spoke()
	if err != nil {
		return heard, err
	}
	if before.IsZero() || p.board != hostBoard { // whose clock is not ours
		return heard, nil
	}
	// The speech began anew whenever it had passed.
	round := time.Duration(len(other.spoken)) * time.Second / speechRate
	delay := at.Sub(better(before, after)) % round
	if delay < round/2 { // else the machine stood still, and the clocks are of no use
		heard.Delay = delay
	}
	return heard, nil
}

// better returns the better of two readings of one moment, the second of which
// was taken later. What delays the recorder makes the moment seem later; a
// moment that seems much later is another one: the recorder stood still.
func better(first, second time.Time) time.Time {
	const stoodStill = 150 * time.Millisecond
	if first.Before(second) && second.Sub(first) < stoodStill {
		return first
	}
	return second
}

// Spoken is what is spoken into p, over and over.
func (p *Phone) Spoken() []int16 { return p.spoken }

// HearSpeech listens to what arrives at p of a speech that is repeated at the
// other end.
func (p *Phone) HearSpeech(ctx context.Context, speech []int16) (Heard, error) {
	heard, _, err := p.hear(ctx, speech, nil)
	return heard, err
}

// HearBrowser listens to what arrives at p of what is spoken into the microphone of a browser.
func (p *Phone) HearBrowser(ctx context.Context, w *Browser) (Heard, error) {
	heard, _, err := p.hear(ctx, w.speech, w)
	return heard, err
}

// hear also returns when the beginning of the speech was heard. A page is who speaks, unless
// it is nil. If too little was
// heard, the pace is the least of all rounds, or full if the machine kept it in enough
// of them.
func (p *Phone) hear(ctx context.Context, speech []int16, page *Browser, speakers ...*Phone) (heard Heard, at time.Time, err error) {
	rounds, fairRounds := rounds, fairRounds
	if page != nil {
		rounds, fairRounds = browserRounds, browserFair
	}
	least, fair, unfair := fullPace, 0, 0
	for fair+unfair < rounds && unfair <= rounds-fairRounds {
		if heard, at, err = p.hearOnce(ctx, speech, page, speakers...); err != nil || heard.Enough() {
			return heard, at, err
		}
		if least = least.and(heard.Pace); heard.Judged() {
			fair++
		} else {
			unfair++
		}
	}
	if heard.Pace = least; fair >= fairRounds {
		heard.Pace = fullPace
	}
	return heard, at, nil
}

// hearOnce listens for as long as the speech takes.
func (p *Phone) hearOnce(ctx context.Context, speech []int16, page *Browser, speakers ...*Phone) (Heard, time.Time, error) {
	m, err := startPace(append([]*Phone{p}, speakers...)...)
	if err != nil {
		return Heard{}, time.Time{}, err
	}
	if page != nil {
		if err := m.hasMicrophone(ctx, page); err != nil {
			return Heard{}, time.Time{}, errors.Join(err, m.end())
		}
	}
	heard, at, card, err := p.recordOnce(ctx, speech)
	pace, problem := m.stop()
	if err := errors.Join(err, problem); err != nil {
		return heard, at, err
	}
	heard.Pace, heard.Wanted = pace.and(Pace{1, 1, card, 1}), wanted(append(speakers, p)...)
	p.mu.Lock()
	p.pace = p.pace.and(heard.Pace)
	p.mu.Unlock()
	return heard, at, nil
}

// recordOnce is hearOnce without the pace, but for that of the sound card: the share
// of the time that it played.
func (p *Phone) recordOnce(ctx context.Context, speech []int16) (heard Heard, at time.Time, card float64, err error) {
	// Of what was recorded before the phone was last started nobody knows when.
	if _, err := p.tape().read(ctx, p.tapeStart, 1); err != nil {
		return Heard{}, at, 0, err
	}
	now, err := p.tape().position()
	if err != nil {
		return Heard{}, at, 0, err
	}
	samples := func(d time.Duration) int { return int(d * time.Duration(now.rate) / time.Second) }
	// What the recorder has not written yet was played before now.
	from := now.samples + samples(time.Since(now.at)+settle)
	recorded, err := p.tape().read(ctx, from, len(speech))
	if err != nil {
		return Heard{}, at, 0, err
	}
	after, err := p.tape().position()
	if err != nil {
		return Heard{}, at, 0, err
	}
	// The tape holds one round of the speech, which begins anywhere in it. Where,
	// is found first; then all of it is compared.
	begin := audiotest.Compare(speech, recorded, now.rate).Delay
	turn := (2*len(speech) - samples(begin)) % len(speech)
	turned := append(append([]int16(nil), speech[turn:]...), speech[:turn]...)
	r := audiotest.Compare(turned, recorded, now.rate)
	n := from + samples(begin+r.Delay)
	return Heard{Arrived: r.Arrived, Correlation: r.Correlation}, better(now.timeOf(n), after.timeOf(n)), now.played(after), nil
}

// compareFile says how much of a repeated speech, sampled at 16 kHz, is in a
// WAV file of any rate and number of channels that ours divide or multiply.
func compareFile(path string, speech []int16) (Heard, error) {
	f, err := os.Open(path)
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen: %w", err)
	}
	defer f.Close()
	recorded, rate, err := readRecord(f)
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen to %s: %w", path, err)
	}
	switch rate {
	case 8000:
		speech = slower(speech, 2)
	case 48000:
		recorded, rate = slower(recorded, 3), speechRate
	case speechRate:
	default:
		return Heard{}, fmt.Errorf("testbed: listen to %s: %d Hz is not foreseen", path, rate)
	}
	r := audiotest.Compare(speech, recorded, rate)
	return Heard{Arrived: r.Arrived, Correlation: r.Correlation}, nil
}

// readRecord reads a 16-bit WAV file; of two channels it takes the mean. The
// length that its header claims is not believed.
func readRecord(r io.Reader) (samples []int16, rate int, err error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, err
	}
	if len(b) < wavHeader {
		return nil, 0, io.ErrUnexpectedEOF
	}
	channels := max(1, int(binary.LittleEndian.Uint16(b[22:])))
	rate = int(binary.LittleEndian.Uint32(b[24:]))
	b = b[wavHeader:]
	samples = make([]int16, len(b)/2/channels)
	for i := range samples {
		sum := 0
		for c := range channels {
			sum += int(int16(binary.LittleEndian.Uint16(b[2*(i*channels+c):])))
		}
		samples[i] = int16(sum / channels)
	}
	return samples, rate, nil
}

// A tape is the WAV file that a phone is recording: it grows.
type tape struct{ path string }

func (p *Phone) tape() tape { return tape{p.Heard} }

// wavHeader is the length of the header of the files that phones record.
const wavHeader = 44

// A position says how far a tape has come.
type position struct {
	samples int
	rate    int
	at      time.Time // when the last of the samples was played
}

// timeOf says when the n-th sample was or will be played.
func (p position) timeOf(n int) time.Time {
	return p.at.Add(time.Duration(n-p.samples) * time.Second / time.Duration(p.rate))
}

// played returns the share of the time from p to a later position that sound was
// played.
func (p position) played(later position) float64 {
	took := later.at.Sub(p.at)
	if took <= 0 {
		return 1
	}
	sound := time.Duration(later.samples-p.samples) * time.Second / time.Duration(p.rate)
	return min(1, float64(sound+tapeSlack)/float64(took))
}

// tapeSlack is how much later than the sound a position may be told: a piece of a
// guest's tape.
const tapeSlack = 100 * time.Millisecond

func (t tape) position() (position, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return position{}, fmt.Errorf("testbed: listen: %w", err)
	}
	defer f.Close()
	var head [wavHeader]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return position{}, fmt.Errorf("testbed: listen: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return position{}, fmt.Errorf("testbed: listen: %w", err)
	}
	return position{
		samples: int(binary.LittleEndian.Uint32(head[40:])) / 2,
		rate:    int(binary.LittleEndian.Uint32(head[24:])),
		at:      info.ModTime(),
	}, nil
}

// read returns n samples of the tape from position from on, once they are
// recorded.
func (t tape) read(ctx context.Context, from, n int) ([]int16, error) {
	look := time.NewTicker(20 * time.Millisecond) // the recorder writes twice a second
	defer look.Stop()
	for {
		now, err := t.position()
		if err != nil {
			return nil, err
		}
		if now.samples >= from+n {
			break
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("testbed: listen: %w: %d of %d samples recorded", ctx.Err(), now.samples, from+n)
		}
	}
	f, err := os.Open(t.path)
	if err != nil {
		return nil, fmt.Errorf("testbed: listen: %w", err)
	}
	defer f.Close()
	wanted := make([]byte, 2*n) // not all of it, which may be minutes long
	if _, err := f.ReadAt(wanted, int64(wavHeader+2*from)); err != nil {
		return nil, fmt.Errorf("testbed: listen: %w", err)
	}
	samples := make([]int16, n)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(wanted[2*i:]))
	}
	return samples, nil
}
