// Package control is the local control socket of a phone: what stands behind
// `flexphone ctl`.
//
// A client connects to a UNIX socket, writes one Request as a line of JSON and
// reads Responses, a line each: one, or for "events" one after the other until
// it goes away. The package knows the socket and its framing; what a command
// means is its Handler's business. Only the owner of the socket file may connect.
package control

import (
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"flexphone/firmware/internal/events"
)

// maxRequest bounds a line from a client, in bytes.
const maxRequest = 4096

// A Request is one command and its arguments.
type Request struct {
	Command   string   `json:"command"`
	Arguments []string `json:"arguments,omitempty"`
}

// A Response is the answer to a Request, or one event.
type Response struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// queue is how many events a slow reader may lag behind.
const queue = 1024

// Events passes what happens to whoever listens.
type Events struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
}

// listener is one reader of events. Both fields are guarded by Events.mu.
type listener struct {
	lines chan json.RawMessage
	lost  uint64
}

// NewEvents returns Events to which nobody listens.
func NewEvents() *Events { return &Events{listeners: map[*listener]struct{}{}} }

// Publish tells every listener of event. It never blocks: a listener that lags
// far behind is told later how many events it has lost.
func (e *Events) Publish(event events.Event) {
	line := encode(time.Now(), event)
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		if l.lost > 0 && len(l.lines) < cap(l.lines) {
			l.lines <- encode(time.Now(), events.Lost{Events: l.lost})
			l.lost = 0
		}
		select {
		case l.lines <- line:
		default:
			l.lost++
		}
	}
}

func (e *Events) listen() *listener {
	l := &listener{lines: make(chan json.RawMessage, queue)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners[l] = struct{}{}
	return l
}

func (e *Events) leave(l *listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, l)
}

// encode returns one event as a JSON object: time, event, then its fields.
func encode(at time.Time, event events.Event) json.RawMessage {
	b := []byte(`{"time":`)
	b = appendJSON(b, at.Format(time.RFC3339Nano))
	b = append(b, `,"event":`...)
	b = appendJSON(b, event.Name())
	for _, a := range events.Fields(event) {
		b = append(b, ',')
		b = appendJSON(b, a.Key)
		b = append(b, ':')
		v := a.Value.Resolve()
		switch v.Kind() {
		case slog.KindDuration:
			b = appendJSON(b, v.Duration().String())
		default:
			b = appendJSON(b, v.Any())
		}
	}
	return append(b, '}')
}

func appendJSON(b []byte, v any) []byte {
	enc, err := json.Marshal(v)
	if err != nil {
		enc, _ = json.Marshal("unprintable: " + err.Error()) // a string always encodes
	}
	return append(b, enc...)
}
