package audio

import (
	"errors"
	"strings"
	"time"

	"flexphone/audio/jitter"
)

// Names of formats that are no codecs.
const (
	eventFormat = "telephone-event" // RFC 4733
	noiseFormat = "CN"              // RFC 3389
	noiseType   = 13                // of CN at 8 kHz (RFC 3551, section 6)
)

// A kind is what packets of a payload type are.
type kind uint8

const (
	nothing kind = iota // refused
	sound
	digit
	silence // comfort noise
)

// A format is what the packets of a payload type are.
type format struct {
	kind   kind
	coding *jitter.Coding // of sound
}

// formats say what packets are, by payload type.
type formats [128]format

// An ear is what a stream hears with. It outlives every change of what was
// agreed. Codings are added by Start; the buffer and those that stand in a leg
// belong to the engine's goroutine.
type ear struct {
	rate      int
	buffer    *jitter.Buffer
	pcm       []int16       // a tick of what is heard
	late      uint64        // of buffer, as counted already
	concealed time.Duration // likewise
	codecs    []Codec
	codings   []*jitter.Coding // of codecs
}

func newEar(rate int) *ear {
	return &ear{rate: rate, buffer: jitter.New(rate), pcm: make([]int16, rate/ticksPerSecond)}
}

// coding returns the coding of a codec, which is made once.
func (e *ear) coding(f Format) (*jitter.Coding, error) {
	c := f.Codec()
	for i, have := range e.codecs {
		if sameCodec(have, c) {
			return e.codings[i], nil
		}
	}
	dec, err := f.NewDecoder(e.rate)
	if err != nil {
		return nil, err
	}
	coding := &jitter.Coding{Decoder: dec, Clock: c.ClockRate}
	e.codecs, e.codings = append(e.codecs, c), append(e.codings, coding)
	return coding, nil
}

// listen fills in what packets are: by our own numbers, else by those of the peer.
func (l *leg) listen(e *Engine) error {
	for _, c := range l.session.Receive {
		if err := l.hear(e, c); err != nil && !errors.Is(err, ErrCodec) {
			return err
		}
	}
	if err := l.hear(e, l.session.Codec); err != nil {
		return err
	}
	if t := l.session.DTMF; t != 0 {
		l.receive.set(t, digit, nil)
	}
	l.receive.set(noiseType, silence, nil)
	return nil
}

func (l *leg) hear(e *Engine, c Codec) error {
	switch {
	case strings.EqualFold(c.Name, eventFormat):
		l.receive.set(c.PayloadType, digit, nil)
		return nil
	case strings.EqualFold(c.Name, noiseFormat):
		l.receive.set(c.PayloadType, silence, nil)
		return nil
	}
	f, err := e.format(c)
	if err != nil {
		return err
	}
	coding, err := l.ear.coding(f)
	if err != nil {
		return err
	}
	l.receive.set(c.PayloadType, sound, coding)
	return nil
}

// set says what a payload type is, unless that is known already.
func (f *formats) set(payloadType uint8, k kind, coding *jitter.Coding) {
	if int(payloadType) < len(f) && f[payloadType].kind == nothing {
		f[payloadType].kind, f[payloadType].coding = k, coding
	}
}
