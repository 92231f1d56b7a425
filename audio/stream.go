package audio

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/audio/noise"
	"flexphone/audio/rtp"
)

// Errors of streams that a caller may want to tell apart.
var (
	ErrNoDTMF = errors.New("digits were not negotiated")
	ErrClosed = errors.New("stream is closed")
)

const (
	defaultPacket = 20 * time.Millisecond
	digitsWaiting = 32
	// cnameBytes of randomness make a name that does not say who we are
	// (RFC 7022, section 4.2).
	cnameBytes = 12
)

// A Stream is one call's sound between the engine and a peer.
type Stream struct {
	engine *Engine
	log    *slog.Logger
	path   Path

	leg       atomic.Pointer[leg]
	muted     atomic.Bool
	in        []int16 // what is heard in this tick, or nil; the engine's goroutine
	out       sender  // the engine's goroutine
	outDigits chan uint8
	inDigits  chan rune // closed by the reader
	inbox     inbox

	books    sync.Mutex // of what follows; held for a few instructions
	sent     rtp.Sent
	heard    rtp.Receiver
	control  *rtp.Control
	lastSent uint32 // packets, at the last report

	packetsSent, packetsReceived, refused, unsent atomic.Uint64
	late, crowded, reportsReceived                atomic.Uint64
	delay, concealed                              atomic.Int64
	reported                                      atomic.Uint64 // of our packets, by the peer; see packed

	start  sync.Mutex // of Start and Close
	closed bool
	done   chan struct{}
	loops  sync.WaitGroup
}

// A mouth is what a stream sends with. It outlives a change of the remote or of
// the direction, and belongs to the engine's goroutine once its leg is there.
type mouth struct {
	encoder  Encoder
	reported uint64  // of the stream, as the encoder was told
	frame    []int16 // one packet
	have     int     // of frame
	pause    *pause  // nil: silence is sent as it is
}

// A leg is a session as it was agreed; it never changes.
type leg struct {
	mouth   *mouth
	ear     *ear
	receive formats
	session Session
	ssrc    uint32 // if a new one is due
}

// Open makes a stream over a path, which is the stream's from now on. It is
// silent until Start, and ends with Close.
func (e *Engine) Open(p Path) *Stream {
	name := make([]byte, cnameBytes)
	rand.Read(name)
	s := &Stream{
		engine:    e,
		log:       e.log,
		path:      p,
		outDigits: make(chan uint8, digitsWaiting),
		inDigits:  make(chan rune, digitsWaiting),
		control:   rtp.NewControl(base64.RawStdEncoding.EncodeToString(name)),
		done:      make(chan struct{}),
	}
	s.out.packet = make([]byte, rtp.HeaderSize+rtp.MaxPayload)
	s.out.sequence = uint16(random()) >> 1 // so that no wrap is lost before the peer has heard of a number (RFC 3711, section 3.3.1)
	s.out.timestamp = random()
	e.add(s)
	s.loops.Go(s.listen)
	s.loops.Go(s.report)
	return s
}

// random returns a number that others cannot guess (RFC 3550, section 5.1).
func random() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// sameCodec compares what codecs are, not their numbers.
func sameCodec(a, b Codec) bool {
	return strings.EqualFold(a.Name, b.Name) && a.ClockRate == b.ClockRate
}

// Start makes sound flow as session says, or changes what was flowing.
func (s *Stream) Start(session Session) error {
	s.start.Lock()
	defer s.start.Unlock()
	if s.closed {
		return fmt.Errorf("audio: start stream: %w", ErrClosed)
	}
	if session.DTMFClock == 0 {
		session.DTMFClock = session.Codec.ClockRate
	}
	l, err := s.newLeg(session)
	if err != nil {
		return fmt.Errorf("audio: start stream: %w", err)
	}
	s.leg.Store(l)
	s.log.Debug("stream started", "codec", session.Codec.Name, "packet", l.session.PacketTime,
		"send", session.Send, "receive", session.Recv)
	return nil
}

// newLeg makes the leg of a session out of what the one before has already.
func (s *Stream) newLeg(session Session) (*leg, error) {
	f, err := s.engine.format(session.Codec)
	if err != nil {
		return nil, err
	}
	wish := session.PacketTime
	if wish <= 0 {
		wish = defaultPacket
	}
	session.PacketTime = f.Packet(wish)
	rate := int(s.engine.rate.Load())
	l := &leg{session: session, ssrc: random()}
	before := s.leg.Load()
	if before != nil && before.ear.rate != rate {
		before = nil
	}
	if before != nil && sameCodec(before.session.Codec, session.Codec) &&
		before.session.Params == session.Params && before.session.PacketTime == session.PacketTime &&
		before.session.Noise == session.Noise {
		l.mouth = before.mouth
	} else {
		enc, err := f.NewEncoder(rate, session.PacketTime, session.Params)
		if err != nil {
			return nil, err
		}
		l.mouth = &mouth{encoder: enc, frame: make([]int16, int(session.PacketTime*time.Duration(rate)/time.Second))}
		if session.Noise != 0 {
			l.mouth.pause = &pause{meter: noise.NewMeter(rate), length: session.PacketTime}
		}
	}
	if before != nil {
		l.ear = before.ear
	} else {
		l.ear = newEar(rate)
	}
	return l, l.listen(s.engine)
}

// retune makes the leg anew for another rate of the device.
func (s *Stream) retune() {
	s.start.Lock()
	defer s.start.Unlock()
	l := s.leg.Load()
	if s.closed || l == nil {
		return
	}
	n, err := s.newLeg(l.session)
	if err != nil {
		s.log.Error("call is silent", "err", err)
		return
	}
	s.leg.Store(n)
}

// drop ends a stream in which a panic happened.
func (s *Stream) drop(panicked any) {
	s.log.Error("stream dropped", "panic", panicked, "stack", string(debug.Stack()))
	s.engine.remove(s)
	go s.Close() // it waits for whoever may have called us
}

// survive is deferred by the goroutines of a stream.
func (s *Stream) survive() {
	if r := recover(); r != nil {
		s.drop(r)
	}
}

// Mute sends silence instead of what is captured, or ends that. What other streams
// say is sent all the same.
func (s *Stream) Mute(on bool) { s.muted.Store(on) }

// SendDigit sends a key press: 0-9, *, #, A-D. Presses are sent one after the
// other, each for a tenth of a second.
func (s *Stream) SendDigit(key rune) error {
	code, ok := rtp.EventOf(key)
	if !ok {
		return fmt.Errorf("audio: send digit: %q is none", key)
	}
	l := s.leg.Load()
	if l == nil || l.session.DTMF == 0 || !l.session.Send {
		return fmt.Errorf("audio: send digit: %w", ErrNoDTMF)
	}
	select {
	case s.outDigits <- code:
		return nil
	default:
		return fmt.Errorf("audio: send digit: %d are waiting already", digitsWaiting)
	}
}

// Digits returns the key presses of the peer. It is closed some time after
// Close. Presses that nobody reads are lost when 32 are waiting.
func (s *Stream) Digits() <-chan rune { return s.inDigits }

// Stats returns the figures so far; also after Close.
func (s *Stream) Stats() Stats {
	st := Stats{
		PacketsSent:     s.packetsSent.Load(),
		PacketsReceived: s.packetsReceived.Load(),
		ReportsReceived: s.reportsReceived.Load(),
		Late:            s.late.Load(),
		Delay:           time.Duration(s.delay.Load()),
		Refused:         s.refused.Load(),
		Crowded:         s.crowded.Load(),
		Unsent:          s.unsent.Load(),
		Concealed:       time.Duration(s.concealed.Load()),
	}
	if l := s.leg.Load(); l != nil {
		st.Codec = l.session.Codec.Name
	}
	s.books.Lock()
	defer s.books.Unlock()
	st.PacketsLost = s.heard.Lost()
	st.Jitter = s.heard.Jitter()
	st.RoundTrip = s.control.RoundTrip()
	st.Peer, st.Told = s.control.Metrics()
	return st
}

// Close says goodbye to the peer and closes the path. It waits until nothing of
// the stream runs any more, but for the tick that may be under way.
func (s *Stream) Close() error {
	s.start.Lock()
	defer s.start.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.engine.remove(s)
	close(s.done)
	s.sendReport(time.Now(), true)
	err := s.path.Close()
	s.loops.Wait()
	if err != nil {
		return fmt.Errorf("audio: close stream: %w", err)
	}
	return nil
}
