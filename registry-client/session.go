package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// Transmission parameters, RFC 7252 section 4.8. ACK_TIMEOUT is 1 s there at
// the least (section 4.8.1 and RFC 8085); a phone that a caller waits for
// takes the least.
const (
	defaultAckTimeout = 1 * time.Second
	ackRandomFactor   = 1.5
	maxRetransmit     = 4
	// keptRetransmit is for a session that was made earlier: the server may
	// have lost it since, and a new one tells sooner than more patience.
	keptRetransmit = 1
	// separateWait is how long an acknowledged request waits for its separate
	// response.
	separateWait = 30 * time.Second
)

// Errors of a session that its client deals with.
var (
	errSessionLost = errors.New("session lost")
	errNoAnswer    = errors.New("no answer")
)

// A session is one DTLS association with the server and the CoAP messages in
// it. One goroutine reads it.
type session struct {
	id         uint64 // rises with each session of the client
	server     string
	remote     netip.AddrPort
	born       time.Time
	sock       *socket
	conn       net.Conn // the DTLS association
	ackTimeout time.Duration
	done       chan struct{} // closed when nothing can come any more
	reader     sync.WaitGroup
	heard      atomic.Int64 // nanoseconds from born to the newest message

	mu        sync.Mutex
	nextID    uint16
	nextToken uint64
	byID      map[uint16]*exchange
	byToken   map[uint64]*exchange
	observed  map[uint64]*subscription
	wrote     uint64                     // messages that were sent
	knock     knock                      // the newest that was asked for
	other     func(message.Message) bool // takes what is no answer, and reports whether it is known
}

// An exchange is a request that waits.
type exchange struct {
	acked    chan struct{} // closed at an empty acknowledgement
	ackOnce  sync.Once
	response chan message.Message // one slot
}

func (e *exchange) ack() { e.ackOnce.Do(func() { close(e.acked) }) }

func newSession(id uint64, t target, sock *socket, conn net.Conn, ackTimeout time.Duration, other func(message.Message) bool) *session {
	s := &session{
		id: id, server: t.server, remote: t.addr, born: time.Now(), sock: sock, conn: conn, ackTimeout: ackTimeout,
		done:      make(chan struct{}),
		nextID:    uint16(rand.Uint32()), // RFC 7252 section 4.4
		nextToken: rand.Uint64(),
		byID:      map[uint16]*exchange{},
		byToken:   map[uint64]*exchange{},
		observed:  map[uint64]*subscription{},
		other:     other,
	}
	s.reader.Go(s.read)
	return s
}

// close ends the session and waits for its reader.
func (s *session) close() {
	s.conn.Close() // says close_notify, and closes the socket
	s.sock.Close()
	s.reader.Wait()
}

// write sends one message. That it goes on its way means nothing: it is lost like any
// datagram may be.
func (s *session) write(out []byte) (int, error) {
	s.mu.Lock()
	s.wrote++
	s.mu.Unlock()
	return s.conn.Write(out)
}

// lost reports whether the session has ended.
func (s *session) lost() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// quiet returns how long ago the server was heard, whatever has become of the wall
// clock meanwhile.
func (s *session) quiet() time.Duration {
	return time.Since(s.born) - time.Duration(s.heard.Load())
}

func (s *session) read() {
	defer close(s.done)
	buf := make([]byte, 2048)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				continue
			}
			return
		}
		m, err := wire.DecodeMessage(buf[:n])
		if err != nil {
			continue // RFC 7252 section 4.2 allows to ignore it
		}
		s.heard.Store(int64(time.Since(s.born)))
		s.receive(m)
	}
}

// receive takes one message from the server. It must not keep m's bytes.
func (s *session) receive(m message.Message) {
	switch m.Type {
	case message.Acknowledgement, message.Reset:
		s.mu.Lock()
		e := s.byID[uint16(m.MessageID)]
		s.mu.Unlock()
		if e == nil {
			return
		}
		switch {
		case m.Type == message.Reset:
			e.deliver(message.Message{Type: message.Reset})
		case m.Code == codes.Empty:
			e.ack()
		default:
			s.respond(m)
		}
	case message.Confirmable, message.NonConfirmable:
		known := m.Code >= codes.Created && s.respond(m) || s.other(m)
		if m.Type == message.Confirmable || !known {
			s.acknowledge(m, known)
		}
	}
}

// acknowledge answers a message: with an acknowledgement when it was known,
// else with a reset (which ends an observation that nobody wants any more).
func (s *session) acknowledge(m message.Message, known bool) {
	t := message.Reset
	if known {
		t = message.Acknowledgement
	}
	out, err := wire.EncodeMessage(message.Message{Type: t, MessageID: m.MessageID})
	if err == nil {
		_, _ = s.write(out)
	}
}

// respond gives a response to whom it is for, and reports whether there was
// anyone.
func (s *session) respond(m message.Message) bool {
	if len(m.Token) != 8 {
		return false
	}
	token := binary.BigEndian.Uint64(m.Token)
	s.mu.Lock()
	e, sub := s.byToken[token], s.observed[token]
	knocked := s.knock.answered(token, m.Code, s.wrote)
	s.mu.Unlock()
	if knocked {
		return true
	}
	if e == nil && sub == nil {
		return false
	}
	own := clone(m)
	if e != nil {
		e.deliver(own)
	}
	if sub != nil {
		sub.deliver(own)
	}
	return true
}

func (e *exchange) deliver(m message.Message) {
	select {
	case e.response <- m:
	default: // a duplicate
	}
}

// post sends r once, and waits for nothing. What is answered all the same comes with
// the token.
func (s *session) post(r request, token message.Token) {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.mu.Unlock()
	out, err := wire.EncodeMessage(message.Message{
		Type: message.NonConfirmable, MessageID: int32(id), Token: token, Code: r.code, Options: r.options, Payload: r.payload,
	})
	if err == nil {
		_, _ = s.write(out) // lost like any datagram may be
	}
}

// A request is a message without its ID and token.
type request struct {
	code    codes.Code
	options message.Options
	payload []byte
	body    func(server netip.AddrPort) ([]byte, error) // makes payload for each server; nil: it stays
	observe bool
}

// do sends r and returns its response. retransmit is how often r is sent
// again. An observing request's subscription is returned as well; the caller
// must forget it.
func (s *session) do(ctx context.Context, r request, retransmit int) (message.Message, *subscription, error) {
	e := &exchange{acked: make(chan struct{}), response: make(chan message.Message, 1)}
	var sub *subscription
	s.mu.Lock()
	s.nextID++
	s.nextToken++
	id, token := s.nextID, s.nextToken
	s.byID[id], s.byToken[token] = e, e
	if r.observe {
		sub = &subscription{token: token, news: make(chan struct{}, 1)}
		s.observed[token] = sub
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.byID, id)
		delete(s.byToken, token)
		s.mu.Unlock()
	}()
	m, err := s.exchange(ctx, e, message.Message{
		Type: message.Confirmable, MessageID: int32(id), Token: binary.BigEndian.AppendUint64(nil, token),
		Code: r.code, Options: r.options, Payload: r.payload,
	}, retransmit)
	if err != nil && sub != nil {
		s.forget(sub)
		sub = nil
	}
	return m, sub, err
}

// exchange is RFC 7252, section 4.2.
func (s *session) exchange(ctx context.Context, e *exchange, m message.Message, retransmit int) (message.Message, error) {
	out, err := wire.EncodeMessage(m)
	if err != nil {
		return message.Message{}, err
	}
	wait := time.Duration(float64(s.ackTimeout) * (1 + rand.Float64()*(ackRandomFactor-1)))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	acked := e.acked
	if _, err := s.write(out); err != nil {
		return message.Message{}, fmt.Errorf("%w: %w", errSessionLost, err)
	}
	for sent := 0; ; {
		select {
		case m := <-e.response:
			if m.Type == message.Reset {
				return m, fmt.Errorf("server reset the request: %w", errSessionLost)
			}
			return m, nil
		case <-acked:
			acked, sent = nil, retransmit // only the response is missing
			timer.Reset(separateWait)
		case <-timer.C:
			if sent >= retransmit {
				return message.Message{}, errNoAnswer
			}
			sent++
			wait *= 2
			timer.Reset(wait)
			if _, err := s.write(out); err != nil {
				return message.Message{}, fmt.Errorf("%w: %w", errSessionLost, err)
			}
		case <-s.done:
			return message.Message{}, errSessionLost
		case <-ctx.Done():
			return message.Message{}, ctx.Err()
		}
	}
}

// ping sends an empty confirmable message, which every CoAP endpoint answers
// with a reset (RFC 7252, section 4.3).
func (s *session) ping(ctx context.Context, retransmit int) error {
	e := &exchange{acked: make(chan struct{}), response: make(chan message.Message, 1)}
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.byID[id] = e
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.byID, id)
		s.mu.Unlock()
	}()
	m, err := s.exchange(ctx, e, message.Message{Type: message.Confirmable, MessageID: int32(id)}, retransmit)
	if m.Type == message.Reset {
		return nil
	}
	return err
}

func clone(m message.Message) message.Message {
	out := m
	out.Token = append(message.Token(nil), m.Token...)
	out.Payload = append([]byte(nil), m.Payload...)
	out.Options = make(message.Options, len(m.Options))
	for i, o := range m.Options {
		out.Options[i] = message.Option{ID: o.ID, Value: append([]byte(nil), o.Value...)}
	}
	return out
}
