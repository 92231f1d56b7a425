package portaudio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"flexphone/audio"
)

// jack starts a JACK server of its own whose sound card is a clock, and makes
// PortAudio see it. It ends with the test.
func jack(t testing.TB, rate int) *os.Process {
	t.Helper()
	for _, tool := range []string{"jackd", "jack_wait", "jack_connect"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no virtual sound card here: install jackd2 (%v)", err)
		}
	}
	t.Setenv("JACK_DEFAULT_SERVER", fmt.Sprintf("flexphone-test-%d", os.Getpid()))
	t.Setenv("JACK_NO_START_SERVER", "1")
	t.Setenv("JACK_NO_AUDIO_RESERVATION", "1")
	return startJack(t, rate)
}

// startJack starts the server of that name, or another one when it is gone.
func startJack(t testing.TB, rate int) *os.Process {
	t.Helper()
	name := os.Getenv("JACK_DEFAULT_SERVER")
	var out bytes.Buffer
	c := exec.Command("jackd", "--no-realtime", "--name", name, "-d", "dummy", "-r", fmt.Sprint(rate), "-p", fmt.Sprint(rate/200))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // also when the test is killed
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// One that is killed leaves its place in a table of eight for all servers of
	// the machine.
	stop := func() {
		c.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		defer late.Stop()
		c.Wait()
	}
	t.Cleanup(stop)
	if b, err := exec.Command("jack_wait", "-s", name, "-w", "-t", "10").CombinedOutput(); err != nil {
		stop()
		t.Skipf("jackd does not run here: %v\n%s%s", err, b, out.String())
	}
	return c.Process
}

// opened is Open, which waits for a device that a test before has left behind.
func opened(c Config, log *slog.Logger) (*Device, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-again.C {
		d, err := Open(c, log)
		if !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
			return d, err
		}
	}
}

func openJack(t testing.TB) *Device {
	t.Helper()
	d, err := opened(Config{Capture: "JACK", Playback: "JACK"}, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if errors.Is(err, ErrNoDevice) {
		t.Skipf("PortAudio here does not know JACK: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSoundThroughJack plays a tone whose port is joined to our own capture
// port: what comes back has been through both rings and the callback.
func TestSoundThroughJack(t *testing.T) {
	for _, card := range []int{48000, 44100} {
		t.Run(fmt.Sprint(card), func(t *testing.T) { testSoundThroughJack(t, card) })
	}
}

func testSoundThroughJack(t *testing.T, card int) {
	const rate = 48000 // the engine's, whichever of the two the card has
	jack(t, card)
	d := openJack(t)
	defer d.Close()
	if d.Rate() != rate {
		t.Fatalf("rate %d", d.Rate())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	play, captured := make([]int16, rate/100), make([]int16, rate/100)
	if err := d.Exchange(ctx, play, captured); err != nil { // awake: a card at rest has no ports to join
		t.Fatal(err)
	}
	if err := join(t); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	const ticks = 100
	loud := 0
	for k := range ticks {
		for i := range play {
			play[i] = int16(10000 * math.Sin(2*math.Pi*1000*float64(k*len(play)+i)/rate))
		}
		if err := d.Exchange(ctx, play, captured); err != nil {
			t.Fatal(err)
		}
		var power float64
		for _, v := range captured {
			power += float64(v) * float64(v) / float64(len(captured))
		}
		if rms := math.Sqrt(power); rms > 6500 && rms < 7500 {
			loud++
		}
	}
	t.Logf("%d ticks in %v, %d heard, %d underruns", ticks, time.Since(begin), loud, d.Underruns())
	if loud < ticks/2 {
		t.Errorf("%d ticks of %d came back", loud, ticks)
	}
}

// TestServerThatIsKilledMeanwhile: a card whose server goes while it rests fails, and
// is closed.
func TestServerThatIsKilledMeanwhile(t *testing.T) {
	server := jack(t, 48000)
	d := openJack(t)
	play, captured := make([]int16, 480), make([]int16, 480)
	if err := d.Exchange(t.Context(), play, captured); err != nil {
		t.Fatal(err)
	}
	if err := d.Rest(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Exchange(ctx, play, captured); err == nil {
			t.Error("a card without a server plays")
		}
		d.Close() // whatever it says
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the card is not closed")
	}
}

// TestCardRests: what was waiting is forgotten, JACK does not know of us meanwhile, and
// the next tick comes soon.
func TestCardRests(t *testing.T) {
	jack(t, 48000)
	d := openJack(t)
	defer d.Close()
	play, captured := make([]int16, 480), make([]int16, 480)
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		for range 20 {
			if err := d.Exchange(ctx, play, captured); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Rest(); err != nil {
			t.Fatal(err)
		}
		if join(t) == nil {
			t.Error("JACK calls us while the card rests")
		}
		cancel()
	}
}

// TestSpeakerAlone: a device that plays and captures nothing keeps the clock, rests, and
// goes on.
func TestSpeakerAlone(t *testing.T) {
	jack(t, 48000)
	openJack(t).Close()
	d, err := opened(Config{Capture: "no card is called so", Playback: "JACK", Speaker: true, Priority: 10}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	play, captured := make([]int16, 480), make([]int16, 480)
	for range 2 {
		begin := time.Now()
		for range 50 {
			captured[0] = 1
			if err := d.Exchange(ctx, play, captured); err != nil {
				t.Fatal(err)
			}
			if slices.Max(captured) != 0 {
				t.Fatal("something was captured")
			}
		}
		if took := time.Since(begin); took < 400*time.Millisecond {
			t.Errorf("half a second took %v", took)
		}
		if err := d.Rest(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// join leads what is played into what is captured.
func join(t testing.TB) error {
	out, err := exec.Command("jack_connect", "-s", os.Getenv("JACK_DEFAULT_SERVER"), "PortAudio:out_0", "PortAudio:in_0").CombinedOutput()
	t.Logf("%s", out)
	return err
}

// A sounding is an engine that plays for ever, and what it reports.
type sounding struct {
	*audio.Engine
	reports chan error
	stop    context.CancelFunc
	ended   chan struct{}
}

func sound(t *testing.T) *sounding {
	ctx, stop := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := &sounding{reports: make(chan error, 100), stop: stop, ended: make(chan struct{}), Engine: audio.NewEngine(audio.Config{
		Open: func() (audio.Device, error) {
			return Open(Config{Capture: "JACK", Playback: "JACK"}, log)
		},
		Log: log,
	})}
	s.Play(audio.Germany().Dial)
	go func() {
		defer close(s.ended)
		s.Run(ctx, func(err error) { s.reports <- err })
	}()
	return s
}

// ticks waits until the engine has ticked for a while.
func (s *sounding) ticks(t *testing.T) {
	t.Helper()
	for end := s.Progress() + 100; s.Progress() < end; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := s.Alive(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

// next waits for the next report, and asserts whether it is a good one.
func (s *sounding) next(t *testing.T, good bool) {
	t.Helper()
	for {
		select {
		case err := <-s.reports:
			t.Log("reported:", err)
			if (err == nil) == good {
				return
			}
			if !good {
				t.Fatal("sound was there")
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no report in two minutes")
		}
	}
}

func (s *sounding) end(t *testing.T) {
	t.Helper()
	s.stop()
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatal("the engine does not end")
	}
}

// TestServerThatStandsStill: the engine ticks on while the card does not answer,
// has sound again when it does, and ends while it does not.
func TestServerThatStandsStill(t *testing.T) {
	server := jack(t, 48000)
	openJack(t).Close()
	s := sound(t)
	s.ticks(t)
	server.Signal(syscall.SIGSTOP)
	s.next(t, false)
	s.ticks(t)
	server.Signal(syscall.SIGCONT)
	s.next(t, true)
	s.ticks(t)
	server.Signal(syscall.SIGSTOP) // and again
	s.next(t, false)
	s.end(t)
	server.Signal(syscall.SIGCONT)
}

// TestServerThatIsKilled: the engine ticks on, and has sound again with another
// server, of another rate.
func TestServerThatIsKilled(t *testing.T) {
	server := jack(t, 48000)
	openJack(t).Close()
	s := sound(t)
	s.ticks(t)
	server.Kill()
	server.Wait() // else its successor takes it for alive
	s.next(t, false)
	s.ticks(t)
	startJack(t, 16000)
	s.next(t, true)
	s.ticks(t)
	s.end(t)
}

// BenchmarkExchange is a tick of 10 ms with a card in periods of 5 ms, as long as it
// takes; what it costs stands beside that.
func BenchmarkExchange(b *testing.B) {
	jack(b, 48000)
	d := openJack(b)
	defer d.Close()
	play, captured := make([]int16, 480), make([]int16, 480)
	usage := func() (processor time.Duration, switches int64) {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Nvcsw + u.Nivcsw
	}
	if err := d.Exchange(b.Context(), play, captured); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	processor, switches := usage()
	for b.Loop() {
		if err := d.Exchange(b.Context(), play, captured); err != nil {
			b.Fatal(err)
		}
	}
	p, s := usage()
	b.ReportMetric(float64((p-processor).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(s-switches)/float64(b.N), "switches/op")
}

func TestNameThatNoDeviceHas(t *testing.T) {
	if _, err := opened(Config{Capture: "no card is called so"}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoDevice) {
		t.Errorf("err %v", err)
	}
}
