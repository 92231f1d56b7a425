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
	"syscall"
	"testing"
	"time"
)

// jack starts a JACK server of its own whose sound card is a clock, and makes
// PortAudio see it. It ends with the test.
func jack(t *testing.T, rate int) *os.Process {
	t.Helper()
	if raceDetector {
		t.Skip("the binding hands PortAudio a number as a pointer, which -race takes for an error: run without it")
	}
	for _, tool := range []string{"jackd", "jack_wait", "jack_connect"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no virtual sound card here: install jackd2 (%v)", err)
		}
	}
	name := fmt.Sprintf("flexphone-test-%d", os.Getpid())
	t.Setenv("JACK_DEFAULT_SERVER", name)
	t.Setenv("JACK_NO_START_SERVER", "1")
	t.Setenv("JACK_NO_AUDIO_RESERVATION", "1")
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

func openJack(t *testing.T) *Device {
	t.Helper()
	d, err := Open(Config{Capture: "JACK", Playback: "JACK"}, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
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
	const rate = 48000
	jack(t, rate)
	d := openJack(t)
	defer d.Close()
	if d.Rate() != rate {
		t.Fatalf("rate %d", d.Rate())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if b, err := exec.Command("jack_connect", "-s", os.Getenv("JACK_DEFAULT_SERVER"),
		"PortAudio:out_0", "PortAudio:in_0").CombinedOutput(); err != nil {
		t.Fatalf("join ports: %v\n%s", err, b)
	}
	play, captured := make([]int16, rate/100), make([]int16, rate/100)
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

func TestNameThatNoDeviceHas(t *testing.T) {
	if _, err := Open(Config{Capture: "no card is called so"}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoDevice) {
		t.Errorf("err %v", err)
	}
}
