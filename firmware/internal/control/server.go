package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// requestWait is how long a connected client may take to write its request.
const requestWait = 5 * time.Second

// A Handler carries out a command. Its result is encoded as JSON; nil is none.
type Handler func(ctx context.Context, r Request) (result any, err error)

// A Server listens on a control socket.
type Server struct {
	listener *net.UnixListener
	events   *Events
	handle   Handler
	log      *slog.Logger
}

// answerWait is how long a phone may take to say that it is there.
const answerWait = 2 * time.Second

// Answers reports whether a phone answers at path.
func Answers(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	heard := false
	_ = Do(ctx, path, Request{Command: "status"}, func(json.RawMessage) error { heard = true; return nil })
	return heard
}

// Listen makes the socket at path, with its folder when that is missing. A
// socket that a dead phone left there is replaced; one that answers is an error.
func Listen(path string, events *Events, handle Handler, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control: make the socket's folder: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("control: listen on %s: another phone answers there; give this one another `control` in its settings", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control: replace old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control: restrict socket: %w", err)
	}
	return &Server{listener: l, events: events, handle: handle, log: log}, nil
}

// Run serves clients until ctx is done, and takes the socket away.
func (s *Server) Run(ctx context.Context) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("control: accept: %w", err)
		}
		clients.Go(func() {
			if err := s.serve(ctx, c); err != nil && ctx.Err() == nil {
				s.log.Debug("control client left", "err", err)
			}
		})
	}
}

func (s *Server) serve(ctx context.Context, c net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()

	if err := c.SetReadDeadline(time.Now().Add(requestWait)); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(c, maxRequest))
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return write(c, Response{Error: "not a request: " + err.Error()})
	}
	if r.Command == "events" {
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		return s.stream(ctx, cancel, c)
	}
	result, err := s.handle(ctx, r)
	if err != nil {
		return write(c, Response{Error: err.Error()})
	}
	resp := Response{}
	if result != nil {
		if resp.Result, err = json.Marshal(result); err != nil {
			return write(c, Response{Error: "no answer: " + err.Error()})
		}
	}
	return write(c, resp)
}

// stream writes events until the client goes away, which its end of file tells.
func (s *Server) stream(ctx context.Context, left context.CancelFunc, c net.Conn) error {
	l := s.events.listen()
	defer s.events.leave(l)
	// An empty answer says that from here on no event is missed.
	if err := write(c, Response{}); err != nil {
		return err
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	reader.Go(func() {
		defer left()
		io.Copy(io.Discard, c)
	})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line := <-l.lines:
			if err := write(c, Response{Result: line}); err != nil {
				c.Close()
				return err
			}
		}
	}
}

func write(c net.Conn, r Response) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}
