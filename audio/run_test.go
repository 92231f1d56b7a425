package audio_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
)

// A shaky device is a card that fails as it is told to.
type shaky struct {
	*card
	good     int // ticks before it fails
	fails    func() error
	closes   func() error
	ticked   atomic.Int64
	rested   atomic.Int64
	closings atomic.Int64
}

func (s *shaky) Exchange(ctx context.Context, play, captured []int16) error {
	if s.good--; s.good < 0 && s.fails != nil {
		return s.fails()
	}
	s.ticked.Add(1)
	return s.card.Exchange(ctx, play, captured)
}

func (s *shaky) Rest() error {
	s.rested.Add(1)
	return s.card.Rest()
}

func (s *shaky) Close() error {
	s.closings.Add(1)
	if s.closes != nil {
		return s.closes()
	}
	return nil
}

// An attended engine runs, and what it reports is written down.
type attended struct {
	*audio.Engine
	stop  context.CancelFunc
	ended chan error
	mu    sync.Mutex
	said  []string
}

func attend(t *testing.T, open func() (audio.Device, error), formats []audio.Format) *attended {
	ctx, stop := context.WithCancel(t.Context())
	a := &attended{
		Engine: audio.NewEngine(audio.Config{Open: open, Formats: formats, Log: quiet()}),
		stop:   stop, ended: make(chan error, 1),
	}
	go func() {
		a.ended <- a.Run(ctx, func(err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if err == nil {
				a.said = append(a.said, "works")
				return
			}
			a.said = append(a.said, err.Error())
		})
	}()
	return a
}

func (a *attended) reports() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.said)
}

// end stops the engine, and asserts that it ends within a few seconds.
func (a *attended) end(t *testing.T) {
	t.Helper()
	begin := time.Now()
	a.stop()
	if err := <-a.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("engine ended: %v", err)
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("its end took %v", took)
	}
}

// talk opens a stream of the engine to nobody, which sends.
func (a *attended) talk(t *testing.T, n *network, host string, c audio.Codec) *audio.Stream {
	t.Helper()
	w := n.wire(netip.MustParseAddrPort(host + ":20000"))
	w.lead(netip.MustParseAddrPort("192.0.2.99:20000"))
	s := a.Open(w)
	if err := s.Start(audio.Session{Codec: c, Send: true, Recv: true}); err != nil {
		t.Fatal(err)
	}
	return s
}

// A call goes on whatever the device does, and has sound again when there is a
// device that works.
func TestCallOutlivesItsDevice(t *testing.T) {
	const rate = 8000
	const long = 20 * time.Second
	gone := errors.New("gone")
	forever := make(chan struct{})
	for name, c := range map[string]struct {
		fails  func() error // Exchange, after a second
		closes func() error
		opens  func() error // the next three times
		says   string
	}{
		"fails":                  {func() error { return gone }, nil, nil, "gone"},
		"fails and is not there": {func() error { return gone }, nil, func() error { return gone }, "gone"},
		"panics":                 {func() error { panic("driver") }, nil, func() error { panic("driver") }, "driver"},
		"hangs for long":         {func() error { time.Sleep(long); return nil }, nil, nil, "stands still"},
		"hangs until it closes":  {func() error { <-forever; return gone }, func() error { close(forever); return nil }, nil, "stands still"},
		"all hang for long":      {func() error { time.Sleep(long); return nil }, func() error { time.Sleep(long); return gone }, func() error { time.Sleep(long); return gone }, "stands still"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				forever = make(chan struct{})
				opened := 0
				last := &shaky{card: newCard(rate, nil)}
				a := attend(t, func() (audio.Device, error) {
					switch opened++; {
					case opened == 1:
						return &shaky{card: newCard(rate, nil), good: 100, fails: c.fails, closes: c.closes}, nil
					case opened <= 4 && c.opens != nil:
						if err := c.opens(); err != nil {
							return nil, err
						}
					}
					return last, nil
				}, formats())
				s := a.talk(t, newNetwork(), hostA, formats()[1].Codec())
				for range 120 {
					before := s.Stats().PacketsSent
					time.Sleep(time.Second) // simulated
					// 50 a second; a device that stands still is given four tenths.
					if n := s.Stats().PacketsSent - before; n < 29 || n > 51 {
						t.Errorf("%d packets in a second", n)
					}
					if err := a.Alive(t.Context()); err != nil {
						t.Error(err)
					}
					if last.ticked.Load() > 300 {
						break
					}
				}
				said := a.reports()
				if len(said) < 2 || !strings.Contains(said[0], c.says) || said[len(said)-1] != "works" || len(said) > 8 {
					t.Errorf("reported %q", said)
				}
				if last.ticked.Load() == 0 {
					t.Errorf("no sound again, after %d openings", opened)
				}
				s.Close()
				a.end(t)
				time.Sleep(3 * time.Minute) // simulated: whatever hung comes to its end
				if n := last.closings.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			})
		})
	}
}

// Devices that hang for ever are left behind, but not without end, and the
// engine still ends.
// A gappy device has nothing to play each tenth time.
type gappy struct {
	*card
	ticks uint64
}

func (g *gappy) Underruns() uint64 { return g.ticks / 10 }
func (g *gappy) Late() uint64      { return g.ticks / 20 }

func (g *gappy) Exchange(ctx context.Context, play, captured []int16) error {
	if g.ticks == 100 {
		return errors.New("broken")
	}
	g.ticks++
	return g.card.Exchange(ctx, play, captured)
}

func TestUnderrunsOfAllDevicesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		devices := uint64(0)
		a := attend(t, func() (audio.Device, error) {
			devices++
			return &gappy{card: newCard(8000, nil)}, nil
		}, nil)
		a.Play(audio.Germany().Dial)
		time.Sleep(4 * time.Second) // simulated
		synctest.Wait()
		if n := a.Underruns(); devices < 2 || n > devices*10 || n < (devices-1)*10 {
			t.Errorf("%d under-runs of %d devices", n, devices)
		}
		a.end(t)
	})
}

func TestDevicesThatHangAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		hang := func() error { <-forever; return nil }
		var opened atomic.Int64
		a := attend(t, func() (audio.Device, error) {
			opened.Add(1)
			return &shaky{card: newCard(8000, nil), good: 10, fails: hang, closes: hang}, nil
		}, formats())
		s := a.talk(t, newNetwork(), hostA, formats()[2].Codec())
		time.Sleep(10 * time.Minute) // simulated
		if n := opened.Load(); n > 5 {
			t.Errorf("%d devices hang", n)
		}
		before := s.Stats().PacketsSent
		time.Sleep(time.Second)
		if n := s.Stats().PacketsSent - before; n < 49 {
			t.Errorf("%d packets in a second", n)
		}
		s.Close()
		a.end(t)
		close(forever)
	})
}

// An opening that hangs is told of, and is the only one.
func TestOpeningThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		var opened atomic.Int64
		a := attend(t, func() (audio.Device, error) {
			opened.Add(1)
			<-forever
			return newCard(8000, nil), nil
		}, formats())
		s := a.talk(t, newNetwork(), hostA, formats()[2].Codec())
		time.Sleep(5 * time.Minute)
		if n := opened.Load(); n != 1 {
			t.Errorf("%d openings", n)
		}
		if said := a.reports(); len(said) != 1 || !strings.Contains(said[0], "takes long") {
			t.Errorf("reported %q", said)
		}
		if n := s.Stats().PacketsSent; n < 295*50 {
			t.Errorf("%d packets in five minutes", n)
		}
		close(forever)
		time.Sleep(time.Second)
		if said := a.reports(); len(said) != 2 || said[1] != "works" {
			t.Errorf("reported %q", said)
		}
		s.Close()
		a.end(t)
	})
}

// While there is nothing to hear nothing ticks, the device rests, and the
// watchdog knows; whatever begins is heard at once.
func TestIdleEngineRests(t *testing.T) {
	for name, missing := range map[string]bool{"with a device": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &shaky{card: newCard(8000, nil)}
				a := attend(t, func() (audio.Device, error) {
					if missing {
						return nil, errors.New("no card")
					}
					return d, nil
				}, formats())
				for round := range 5 {
					time.Sleep(5 * time.Minute)
					before := a.Progress()
					time.Sleep(time.Hour)
					if n := a.Progress() - before; n > 0 {
						t.Fatalf("%d ticks in an idle hour", n)
					}
					if err := a.Alive(t.Context()); err != nil {
						t.Error(err)
					}
					if n := d.rested.Load(); !missing && n != int64(round+1) {
						t.Errorf("rested %d times in round %d", n, round)
					}
					var s *audio.Stream
					switch round % 3 {
					case 0:
						a.Play(audio.Germany().Dial)
					case 1:
						tone, _ := audio.DTMF('5', 80*time.Millisecond)
						a.Feedback(tone)
					case 2:
						s = a.talk(t, newNetwork(), hostA, formats()[0].Codec())
					}
					time.Sleep(50 * time.Millisecond)
					if n := a.Progress() - before; n < 3 {
						t.Errorf("%d ticks, 50 ms after something began", n)
					}
					if err := a.Alive(t.Context()); err != nil {
						t.Error(err)
					}
					a.Play(audio.Tone{})
					if s != nil {
						s.Close()
					}
				}
				a.end(t)
			})
		})
	}
}

// An engine that does not turn is no living one.
func TestAliveOfAnEngineThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := audio.On(newCard(8000, nil), formats(), quiet())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := e.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an engine that does not run: %v", err)
		}
	})
}

// The device that comes back has another rate: who talks goes on talking.
func TestDeviceOfAnotherRate(t *testing.T) {
	for _, f := range formats() {
		synctest.Test(t, func(t *testing.T) {
			rates := []int{8000, 48000, 16000}
			var cards []*shaky
			a := attend(t, func() (audio.Device, error) {
				rate := rates[len(cards)%len(rates)]
				cards = append(cards, &shaky{card: newCard(rate, nil), good: 300, fails: func() error { return errors.New("gone") }})
				return cards[len(cards)-1], nil
			}, formats())
			n := newNetwork()
			pa := newPhone(n, hostA, newCard(16000, whistle(16000, 20*time.Second)))
			w := n.wire(netip.MustParseAddrPort(hostB + ":20000"))
			w.lead(pa.addr)
			s := a.Open(w)
			pa.talkTo(t, w.addr, f.Codec(), 0)
			if err := s.Start(audio.Session{Codec: f.Codec(), Send: true, Recv: true}); err != nil {
				t.Fatal(err)
			}
			a.Play(audio.Tone{Segments: []audio.Segment{{For: time.Hour}}})
			run(t, 12*time.Second, pa)
			s.Close()
			pa.Close()
			a.Play(audio.Tone{})
			a.end(t)
			if len(cards) < 3 {
				t.Fatalf("%d cards", len(cards))
			}
			for i, c := range cards[:3] {
				// 3 s each, of which the first loses a syllable.
				if got := whistled(c.ear, c.rate); got < 2800*time.Millisecond {
					t.Errorf("%s: card %d at %d Hz heard %v of %v", f.Codec().Name, i, c.rate, got, length(c.ear, c.rate))
				}
			}
		})
	}
}

// A broken format makes coders that panic after a while.
type broken struct {
	audio.Format
	encoder, decoder bool
}

func (b broken) NewEncoder(rate int, packet time.Duration, params string) (audio.Encoder, error) {
	e, err := b.Format.NewEncoder(rate, packet, params)
	return &brokenCoder{Encoder: e, left: 50, breaks: b.encoder}, err
}

func (b broken) NewDecoder(rate int) (audio.Decoder, error) {
	d, err := b.Format.NewDecoder(rate)
	return &brokenCoder{Decoder: d, left: 50, breaks: b.decoder}, err
}

type brokenCoder struct {
	audio.Encoder
	audio.Decoder
	left   int
	breaks bool
}

func (c *brokenCoder) count() {
	if c.left--; c.left < 0 && c.breaks {
		panic("coder")
	}
}

func (c *brokenCoder) Encode(b []byte, pcm []int16) (int, error) {
	c.count()
	return c.Encoder.Encode(b, pcm)
}

func (c *brokenCoder) Decode(pcm []int16, b []byte) (int, error) {
	c.count()
	return c.Decoder.Decode(pcm, b)
}

// A panic in a tick ends the stream in which it happened: its sockets are
// closed, its peer is told, and another call of the same engine is heard.
func TestPanicEndsOneStreamOnly(t *testing.T) {
	for name, b := range map[string]broken{"encoder": {formats()[1], true, false}, "decoder": {formats()[1], false, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				c := newCard(8000, nil)
				a := attend(t, func() (audio.Device, error) { return c, nil }, []audio.Format{b, formats()[2]})
				peer := newPhone(n, hostA, newCard(8000, whistle(8000, 4*time.Second)))
				w := n.wire(netip.MustParseAddrPort(hostB + ":20000"))
				w.lead(peer.addr)
				bad := a.Open(w)
				good := a.talk(t, n, "192.0.2.8", formats()[2].Codec())
				peer.talkTo(t, w.addr, b.Codec(), 0)
				if err := bad.Start(audio.Session{Codec: b.Codec(), Send: true, Recv: true}); err != nil {
					t.Fatal(err)
				}
				run(t, 4*time.Second, peer)
				before := good.Stats().PacketsSent
				time.Sleep(time.Second)
				if n := good.Stats().PacketsSent - before; n < 49 {
					t.Errorf("the other call sent %d packets in a second", n)
				}
				for range bad.Digits() { // closed, since the stream is
				}
				if err := bad.Start(audio.Session{Codec: b.Codec()}); !errors.Is(err, audio.ErrClosed) {
					t.Errorf("started again: %v", err)
				}
				if said := a.reports(); len(said) > 0 {
					t.Errorf("the device was blamed: %q", said)
				}
				bad.Close()
				good.Close()
				peer.Close()
				a.end(t)
			})
		})
	}
}
