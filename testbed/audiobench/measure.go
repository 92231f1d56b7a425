package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"flexphone/audio/audiotest"
	"flexphone/audio/resample"
	"flexphone/testbed"
)

// stuck is how much longer than it should a call may take. Nothing is timed against it.
const stuck = 30 * time.Second

// A kind is how two telephones talk.
type kind struct {
	codec    string // empty: what they agree upon
	packet   time.Duration
	directly bool // not by the exchange
}

func (k kind) String() string {
	if k.directly {
		return "private"
	}
	return fmt.Sprintf("%s %d ms", k.codec, k.packet.Milliseconds())
}

var kinds = []kind{
	{"PCMU", 10 * time.Millisecond, false}, {"PCMU", 20 * time.Millisecond, false},
	{"opus", 10 * time.Millisecond, false}, {"opus", 20 * time.Millisecond, false},
	{directly: true},
}

// A bench is what is measured on.
type bench struct {
	options
	report   *report
	bed      *testbed.Bed
	studio   *studio
	exchange *testbed.Exchange
	makers   []maker
	speech   []int16 // half a minute of four speakers, of cardRate
}

// period is that of the card: 5 ms.
const period = cardRate / 200

func open(ctx context.Context, o options, r *report) (b *bench, err error) {
	b = &bench{options: o, report: r}
	if b.speech, err = readSpeech(); err != nil {
		return nil, err
	}
	if b.studio, err = openStudio(ctx, period); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	r.prompt = b.studio.prompt
	if b.bed, err = testbed.New(ctx, testbed.Config{}); err != nil {
		return b, err
	}
	if b.exchange, err = b.bed.AddExchange(); err != nil {
		return b, err
	}
	ours, err := addOurs(ctx, b.bed, b.exchange, b.tail > 0)
	if err != nil {
		return b, err
	}
	b.makers = append(b.makers, maker{ours, flexphone})
	if b.tail > 0 {
		return b, nil
	}
	r.absent = append(r.absent, "pjsua: Debian has none", "linphone: Debian's knows no JACK server")
	if _, err := exec.LookPath(baresip); err != nil {
		r.absent = append(r.absent, "baresip: not installed (apt-get install baresip-core)")
		return b, nil
	}
	return b, b.addTheirs(ctx, baresip, testbed.Buffers{})
}

func (b *bench) addTheirs(ctx context.Context, name string, buffers testbed.Buffers) error {
	theirs, err := addTheirs(ctx, b.bed, b.exchange, theirFirst+len(b.makers), buffers)
	if err != nil {
		return err
	}
	b.makers = append(b.makers, maker{theirs, name})
	return nil
}

// theirFirst is the first place in each pool that another maker's telephones have.
const theirFirst = 50

func (b *bench) close() (err error) {
	if b.bed != nil {
		err = b.bed.Close()
	}
	return errors.Join(err, b.studio.close())
}

// keepLogs copies what the programs have said to where people look for what was heard.
func (b *bench) keepLogs() {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		b.say("%v", err)
	}
	for _, path := range b.bed.Logs() {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(b.out, filepath.Base(filepath.Dir(path))+"-"+filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			b.say("%v", err)
		}
	}
}

// readSpeech returns recorded speech of four people, at the card's rate.
func readSpeech() (speech []int16, err error) {
	for _, name := range []string{"goforward", "something", "numbers", "cards/002", "cards/004", "cards/005"} {
		s, err := testbed.Speech(name)
		if err != nil {
			return nil, err
		}
		speech = append(speech, s[:len(s)/160*160]...)
	}
	const factor = cardRate / 16000
	fast := make([]int16, len(speech)*factor)
	resample.NewUp(factor).Process(fast, speech)
	return fast, nil
}

func measure(ctx context.Context, o options, r *report) (err error) {
	b, err := open(ctx, o, r)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.keepLogs()
		}
		err = errors.Join(err, b.close())
	}()
	if b.tail > 0 {
		return b.longCall(ctx)
	}
	if err := b.costs(ctx); err != nil {
		return err
	}
	// Their memory would be counted in smaller parts before.
	if len(b.makers) > 1 && b.n > 0 {
		if err := b.addTheirs(ctx, smallest, testbed.Buffers{Packet: 10 * time.Millisecond, Sound: "5-20", Jitter: "0-1"}); err != nil {
			return err
		}
	}
	for i := range b.n {
		b.say("delay, %d. calls of %d", i+1, b.n)
		for _, m := range b.makers {
			for _, k := range kinds {
				if b.wants(m, k) {
					if err := b.delay(ctx, m, k); err != nil {
						return err
					}
				}
			}
		}
	}
	return b.speak(ctx)
}

// wants says whether a call is measured: what they agree upon, of ours alone.
func (b *bench) wants(m maker, k kind) bool {
	return (!k.directly || m.name == flexphone) && b.calls.MatchString(m.name+", "+k.String())
}

// call begins a call, and returns the ports of its ends.
func (b *bench) call(ctx context.Context, m maker, k kind) (mouths, error) {
	user, addr := m.callee()
	b.exchange.Set(testbed.Terms{To: addr, User: user, Codec: k.codec, Packet: k.packet})
	if err := m.call(ctx, k.directly); err != nil {
		return mouths{}, fmt.Errorf("audiobench: %s, %v: %w", m.name, k, err)
	}
	ends, err := b.studio.await(ctx, m.ports())
	return ends, err
}

func (b *bench) hangUp(ctx context.Context, m maker, ends mouths) error {
	err := m.hangUp(ctx)
	b.studio.part(ends)
	return err
}

// loop returns how much later the ear hears the mouth if these are joined. The mouth
// is not joined to anything else yet.
func (b *bench) loop(ctx context.Context) (time.Duration, error) {
	s := b.studio
	if err := s.join("jack_connect", s.mouth(), s.ear()); err != nil {
		return 0, err
	}
	s.begin()
	said := b.speech[:2*cardRate]
	heard, err := s.perform(ctx, said)
	if err := errors.Join(err, s.join("jack_disconnect", s.mouth(), s.ear())); err != nil {
		return 0, err
	}
	_, delays := audiotest.Follow(said, heard, cardRate)
	if len(delays) == 0 {
		return 0, errors.New("audiobench: the ear does not hear the mouth")
	}
	return middle(delays), nil
}

func middle(d []time.Duration) time.Duration { return slices.Sorted(slices.Values(d))[len(d)/2] }

// again does what was disturbed by the bench's own lateness once more, a few times.
func (b *bench) again(what func() error) error {
	const most = 10
	for range most {
		err := what()
		if !errors.Is(err, errLate) {
			return err
		}
		b.report.late++
	}
	return fmt.Errorf("audiobench: %w, %d times in a row: this machine has no processor to spare", errLate, most)
}

// delay measures a call from mouth to ear.
func (b *bench) delay(ctx context.Context, m maker, k kind) error {
	return b.again(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, stuck+b.talk)
		defer cancel()
		ends, err := b.call(ctx, m, k)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.hangUp(ctx, m, ends)) }()
		own, err := b.loop(ctx)
		if err != nil {
			return err
		}
		if err := b.studio.listen(ends, ends.in[0]); err != nil {
			return err
		}
		said := b.speech[:int(b.talk*cardRate/time.Second)]
		heard, err := b.studio.perform(ctx, said)
		if err != nil {
			return err
		}
		if account := m.account(ctx); account != "" {
			b.say("%s, %v: %s", m.name, k, account)
		}
		_, delays := audiotest.Follow(said, heard, cardRate)
		if len(delays) == 0 {
			return fmt.Errorf("audiobench: %s, %v: nothing was heard", m.name, k)
		}
		for i := range delays {
			delays[i] -= own
		}
		b.report.add(m.name, k, delays)
		return nil
	})
}
