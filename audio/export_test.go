package audio

import (
	"log/slog"
	"time"
)

// On returns an engine on a device that is always there.
func On(d Device, formats []Format, log *slog.Logger) *Engine {
	e := NewEngine(Config{Open: func() (Device, error) { return d, nil }, Formats: formats, Log: log})
	e.retune(d.Rate())
	return e
}

func (e *Engine) Retune(rate int) { e.retune(rate) }

func (e *Engine) Tick(play, captured []int16, now time.Time) { e.tick(play, captured, now) }

// A Reader is a stream's receiving end without its path.
type Reader struct{ r reader }

func NewReader(s *Stream) *Reader { return &Reader{reader{stream: s}} }

func (r *Reader) Take(d Datagram) { r.r.take(d) }

func (s *Stream) SSRC() uint32 {
	s.books.Lock()
	defer s.books.Unlock()
	return s.sent.SSRC
}
