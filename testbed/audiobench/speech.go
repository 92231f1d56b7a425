package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"flexphone/audio/audiotest"
	"flexphone/audio/wav"
	"flexphone/testbed/wire"
)

// way is how long every way of speech is at least: clocks that differ make it shorter.
const way = 120 * time.Millisecond

// A spoken is what is done to speech.
type spoken struct {
	name   string
	way    wire.Config
	drifts bool // it has to be long
}

var cases = []spoken{
	{name: "nothing", way: wire.Config{}},
	{name: "loss 5 %", way: wire.Config{Loss: 0.05}},
	{name: "loss 10 %", way: wire.Config{Loss: 0.1}},
	{name: "loss 20 %", way: wire.Config{Loss: 0.2}},
	{name: "loss 11.7 %, in twos", way: wire.Config{Loss: 0.117, Run: 2}},
	{name: "jitter 20 ms", way: wire.Config{Jitter: 20 * time.Millisecond}},
	{name: "jitter 60 ms", way: wire.Config{Jitter: 60 * time.Millisecond}},
	{name: "stall 200 ms each 3 s", way: wire.Config{Stall: 200 * time.Millisecond, Every: 3 * time.Second}},
	{name: "a tenth is overtaken", way: wire.Config{Overtaken: 0.1}},
	{name: "a tenth comes twice", way: wire.Config{Repeated: 0.1}},
	{name: "clock 100 ppm slow", way: wire.Config{Drift: 100}, drifts: true},
	{name: "clock 100 ppm fast", way: wire.Config{Drift: -100}, drifts: true},
	{name: "clock 300 ppm slow", way: wire.Config{Drift: 300}, drifts: true},
	{name: "clock 300 ppm fast", way: wire.Config{Drift: -300}, drifts: true},
}

// A hearing is what was understood of a case.
type hearing struct {
	maker      string
	kind       kind
	what       string
	followed   float64       // is understood by who does not mind that delays change
	fixed      float64       // is understood at one delay
	begin, end time.Duration // from mouth to ear, less the shortest way
}

// speak measures what is understood.
func (b *bench) speak(ctx context.Context) error {
	var w *wire.Wire
	for _, c := range cases {
		if !b.cases.MatchString(c.name) {
			continue
		}
		if w == nil {
			if err := os.MkdirAll(b.out, 0o755); err != nil {
				return fmt.Errorf("audiobench: %w", err)
			}
			var err error
			if w, err = b.bed.Lay(wire.Config{Delay: way}); err != nil {
				b.report.absent = append(b.report.absent, fmt.Sprintf("speech over a bad way: %v", err))
				return nil
			}
		}
		for _, k := range kinds {
			if k.packet != 20*time.Millisecond {
				continue
			}
			for _, m := range b.makers {
				if m.name == smallest {
					continue
				}
				b.say("speech, %s, %v: %s", c.name, k, m.name)
				if err := b.again(func() error { return b.hear(ctx, w, m, k, c) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// hear measures one case with one maker.
func (b *bench) hear(ctx context.Context, w *wire.Wire, m maker, k kind, c spoken) (err error) {
	said := b.speech
	for c.drifts && time.Duration(len(said))*time.Second/cardRate < b.drift {
		said = append(said[:len(said):len(said)], b.speech...)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*stuck+2*time.Duration(len(said))*time.Second/cardRate)
	defer cancel()
	w.Set(wire.Config{Delay: way})
	ends, err := b.call(ctx, m, k)
	if err != nil {
		return err
	}
	defer func() {
		w.Set(wire.Config{Delay: way})
		err = errors.Join(err, b.hangUp(ctx, m, ends))
	}()
	own, err := b.loop(ctx)
	if err != nil {
		return err
	}
	if err := b.studio.listen(ends, ends.in[0]); err != nil {
		return err
	}
	bad := c.way
	bad.Delay = way
	w.Set(bad)
	begun := time.Now()
	heard, err := b.studio.perform(ctx, said)
	if err != nil {
		return err
	}
	followed, delays := audiotest.Follow(said, heard, cardRate)
	h := hearing{maker: m.name, kind: k, what: c.name,
		followed: audiotest.Intelligibility(said, followed, cardRate), fixed: audiotest.Intelligibility(said, heard, cardRate)}
	const some = 10 // half seconds at either end
	if len(delays) >= 2*some {
		grown := time.Duration(float64(time.Since(begun)) * c.way.Drift / 1e6)
		h.begin, h.end = middle(delays[:some])-own-way, middle(delays[len(delays)-some:])-own-way-grown
	}
	b.report.heard = append(b.report.heard, h)
	return b.keep(ctx, fmt.Sprintf("%s, %v, %s", c.name, k, m.name), heard)
}

// keep leaves what was heard to people, and a picture of it where ffmpeg is.
func (b *bench) keep(ctx context.Context, name string, heard []int16) (err error) {
	path := filepath.Join(b.out, strings.NewReplacer(" ", "-", ",", "", "%", "percent").Replace(name))
	f, err := os.Create(path + ".wav")
	if err != nil {
		return fmt.Errorf("audiobench: keep what was heard: %w", err)
	}
	if err := errors.Join(wav.Encode(f, heard, cardRate), f.Close()); err != nil {
		return fmt.Errorf("audiobench: keep what was heard: %w", err)
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil // pictures are for who wants them
	}
	out, err := exec.CommandContext(ctx, ffmpeg, "-v", "error", "-y", "-i", path+".wav", "-lavfi", "aresample=16000,showspectrumpic=s=1600x400", path+".png").CombinedOutput()
	if err != nil {
		return fmt.Errorf("audiobench: draw what was heard: %w: %s", err, out)
	}
	return nil
}
