package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"flexphone/firmware/internal/events"
)

// start serves handle at a fresh socket for as long as the test lasts.
func start(t *testing.T, told *Events, handle Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "control.sock")
	s, err := Listen(path, told, handle, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v; want the context's error", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return path
}

func TestCommandsAndTheirErrors(t *testing.T) {
	path := start(t, NewEvents(), func(_ context.Context, r Request) (any, error) {
		if r.Command == "bad" {
			return nil, errors.New("no such command")
		}
		return map[string]string{r.Command: strings.Join(r.Arguments, "+")}, nil
	})
	var got string
	err := Do(t.Context(), path, Request{"press", []string{"1", "2"}}, func(b json.RawMessage) error {
		got = string(b)
		return nil
	})
	if err != nil || got != `{"press":"1+2"}` {
		t.Errorf("Do(press) gave %s, %v", got, err)
	}
	err = Do(t.Context(), path, Request{Command: "bad"}, func(json.RawMessage) error { return nil })
	if err == nil || err.Error() != "no such command" {
		t.Errorf("Do(bad) = %v; want the handler's error", err)
	}
}

func TestEventsComeInOrderAndEndWithTheirReader(t *testing.T) {
	told := NewEvents()
	path := start(t, told, func(context.Context, Request) (any, error) { return nil, nil })
	for i := range 2 { // two listeners, one after the other
		stop := errors.New("seen enough")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		go func() {
			for ctx.Err() == nil && !heard(told) {
				runtime.Gosched()
			}
			told.Publish(events.Registered{Sequence: uint64(i), Took: time.Second})
			told.Publish(events.Released{})
		}()
		var got []string
		err := Do(ctx, path, Request{Command: "events"}, func(b json.RawMessage) error {
			var e struct {
				Time  time.Time `json:"time"`
				Event string    `json:"event"`
				Took  string    `json:"took"`
			}
			if err := json.Unmarshal(b, &e); err != nil {
				return err
			}
			if time.Since(e.Time) > time.Minute {
				t.Errorf("event at %v, long ago", e.Time)
			}
			got = append(got, e.Event+e.Took)
			if len(got) == 2 {
				return stop
			}
			return nil
		})
		cancel()
		if !errors.Is(err, stop) || strings.Join(got, " ") != "registered1s released" {
			t.Errorf("events = %v, %v", got, err)
		}
		for heard(told) { // the server notices that its reader has left
			runtime.Gosched()
		}
	}
}

func heard(e *Events) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listeners) > 0
}

// What is read outside is the time, the name and the fields, in this order.
func TestEventAsText(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	got := string(encode(at, events.RegisterFailed{Error: `no "answer"`, Retry: 1500 * time.Millisecond}))
	if want := `{"time":"2026-01-02T03:04:05.000000006Z","event":"register.failed","error":"no \"answer\"","retry":"1.5s"}`; got != want {
		t.Errorf("event = %s; want %s", got, want)
	}
}

// A reader that does not read must not hold up the phone, and must learn that it
// has missed something.
func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	e := NewEvents()
	l := e.listen()
	for range queue + 5 {
		e.Publish(events.Mended{Part: "lamp"})
	}
	for range queue {
		<-l.lines
	}
	e.Publish(events.Mended{Part: "lamp"})
	if got := string(<-l.lines); !strings.Contains(got, `"event":"lost","events":5`) {
		t.Errorf("after the loss: %s", got)
	}
}

func TestSocketOfALivePhoneIsNotTaken(t *testing.T) {
	path := start(t, NewEvents(), nil)
	if _, err := Listen(path, NewEvents(), nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another phone") {
		t.Errorf("Listen() = %v; want an error", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"command":"press","arguments":["1"]}`))
	f.Add([]byte(`{"command":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		s := &Server{events: NewEvents(), log: slog.New(slog.DiscardHandler),
			handle: func(_ context.Context, r Request) (any, error) { return r, nil }}
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { s.serve(t.Context(), server) })
		wg.Go(func() {
			client.Write(append(line, '\n'))
		})
		b := make([]byte, 2*maxRequest)
		client.Read(b)
		client.Close()
		wg.Wait()
	})
}
