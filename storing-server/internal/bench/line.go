package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"golang.org/x/net/ipv4"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

const (
	// observe and release are requests beside those that are loads.
	observe = "observe"
	check   = "check" // a lookup whose whole answer is judged
	// cidLength is of our own connection IDs: the phone's place in its line.
	cidLength = 4
	// atOnce is how many datagrams one system call takes.
	atOnce = 64
	// ackTimeout is after how long a request is sent again; RFC 7252's, without
	// the jitter and the back-off, so that a loss costs one second.
	ackTimeout = time.Second
	tick       = 50 * time.Millisecond
	// endWait is how long the last answers of a load are waited for.
	endWait = 5 * time.Second
)

// A line is one UDP socket for many phones, told apart by connection ID.
type line struct {
	conn   *net.UDPConn
	batch  *ipv4.PacketConn
	in     []ipv4.Message
	out    [][]byte       // datagrams, of which pending are to be sent
	trains []ipv4.Message // of the flush that is going on

	mu      sync.Mutex
	phones  []*phone // by place; nil: given up, or not made yet
	pending int      // of out
}

func newLine(ctx context.Context, server *net.UDPAddr) (*line, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil, fmt.Errorf("bench: open line: %w", err)
	}
	conn := c.(*net.UDPConn)
	_ = conn.SetReadBuffer(receiveBuffer) // the kernel may give less
	l := &line{conn: conn, batch: ipv4.NewPacketConn(conn)}
	for range atOnce {
		l.in = append(l.in, ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}})
		l.out = append(l.out, make([]byte, 0, 2048))
	}
	return l, nil
}

// join reserves a connection ID.
func (l *line) join() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phones = append(l.phones, nil)
	return uint32(len(l.phones) - 1)
}

func (l *line) put(p *phone) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phones[p.place] = p
}

// A job is what a line's phones do.
type job struct {
	kind    string
	window  int           // requests on their way at once
	again   bool          // each phone goes on, for lasts; else each does it once
	lasts   time.Duration // with again
	most    time.Duration // without again: an error if it takes longer
	targets int           // of lookups
	// With check: the rows to look up are taken from next, and each answer is
	// given to judge.
	next  func() (index int, ok bool)
	judge func(index int, row wire.Row, code codes.Code)
}

// A tally is what came of a job.
type tally struct {
	took              time.Duration
	times             []time.Duration
	refused, repeated int
}

func (t *tally) add(u tally) {
	t.times = append(t.times, u.times...)
	t.refused += u.refused
	t.repeated += u.repeated
}

// A run is one job on one line.
type run struct {
	*line
	job
	tally
	queue   []*phone // that may ask, longest idle first
	flying  map[*phone]struct{}
	looking map[*phone]int // with check: the row that is asked for
}

// run lets phones do j. It is the line's one goroutine.
func (l *line) run(ctx context.Context, phones []*phone, j job) (tally, error) {
	r := &run{line: l, job: j, queue: append([]*phone(nil), phones...), flying: map[*phone]struct{}{}, looking: map[*phone]int{}}
	start := time.Now()
	for time.Since(start) < r.lasts || !r.again {
		if err := ctx.Err(); err != nil {
			return r.tally, err
		}
		if err := r.fill(); err != nil {
			return r.tally, err
		}
		if len(r.flying) == 0 {
			break
		}
		if !r.again && time.Since(start) > r.most {
			return r.tally, fmt.Errorf("bench: %s: %d answers, %d missing after %v", r.kind, len(r.times), len(r.flying)+len(r.queue), r.most)
		}
		if err := r.receive(); err != nil {
			return r.tally, err
		}
	}
	took := time.Since(start)
	r.queue = nil
	for wait := time.Now(); len(r.flying) > 0 && time.Since(wait) < endWait; {
		n := len(r.times)
		if err := r.receive(); err != nil {
			return r.tally, err
		}
		r.times = r.times[:min(n, len(r.times))] // came after the time
	}
	for p := range r.flying {
		p.waiting = false
	}
	r.took = took
	return r.tally, nil
}

// fill sends until window requests are on their way.
func (r *run) fill() error {
	for len(r.flying) < r.window && len(r.queue) > 0 {
		p := r.queue[0]
		r.queue = r.queue[1:]
		ok, err := r.ask(p)
		if err != nil {
			return err
		}
		if !ok {
			r.queue = nil // nothing more to ask for
			break
		}
	}
	return r.flush()
}

// ask sends p's next request; ok is false when there is none.
func (r *run) ask(p *phone) (ok bool, err error) {
	p.id++
	m := message.Message{Type: message.Confirmable, MessageID: int32(p.id), Token: message.Token{byte(p.id >> 8), byte(p.id)}}
	switch r.kind {
	case register, notice:
		p.sequence++
		p.address = addressOf(p.index, p.sequence)
		m.Code = codes.POST
		m.Options = append(wire.PathOptions([]string{wire.PathDirectory}), wire.UintOption(message.ContentFormat, wire.FormatCBOR))
		m.Payload, err = wire.EncodeRegistration(wire.Registration{
			MAC: p.mac, Addrs: []netip.Addr{dotted(p.address)}, Ports: wire.Ports{SIP: 5060, SIPS: 5061},
			Sequence: p.sequence, Lifetime: lifetime,
		})
		p.answered, p.noticed = false, p.observer == nil || r.kind == register
	case lookup, check:
		i := rand.IntN(max(1, r.targets))
		if r.kind == check {
			if i, ok = r.next(); !ok {
				return false, nil
			}
			r.looking[p] = i
		}
		m.Code = codes.GET
		m.Options = wire.PathOptions(wire.Query{MAC: macOf(i)}.Path())
	case keepAlive:
		m.Token = nil // an empty message: RFC 7252, section 4.3
	case observe:
		m.Code = codes.GET
		m.Options = append(message.Options{wire.UintOption(message.Observe, 0)}, wire.PathOptions(wire.Query{MAC: p.mover.mac}.Path())...)
	}
	if err != nil {
		return false, err
	}
	if p.request, err = wire.AppendMessage(p.request[:0], m); err != nil {
		return false, err
	}
	p.waiting = true
	p.begun = time.Now()
	p.sent = p.begun
	r.flying[p] = struct{}{}
	return true, r.send(p, p.request)
}

// send puts one message of p on its way, with the next flush.
func (r *run) send(p *phone, m []byte) error {
	if r.pending == len(r.out) {
		if err := r.flush(); err != nil {
			return err
		}
	}
	b := &r.out[r.pending]
	var err error
	if *b, err = p.secret.Seal((*b)[:0], record.TypeApplication, m); err != nil {
		return fmt.Errorf("bench: send: %w", err)
	}
	r.pending++
	return nil
}

// receive takes what has come, waiting one tick at the most.
func (r *run) receive() error {
	if err := r.conn.SetReadDeadline(time.Now().Add(tick)); err != nil {
		return fmt.Errorf("bench: receive: %w", err)
	}
	n, err := r.batch.ReadBatch(r.in, 0)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return r.repeat()
	case err != nil && refusedByPeer(err):
		return nil // the server is away; requests are sent again in time
	case err != nil:
		return fmt.Errorf("bench: receive: %w", err)
	}
	for _, m := range r.in[:n] {
		for b := m.Buffers[0][:m.N]; len(b) > 0; {
			one, rest, ok := record.Split(b, cidLength)
			if !ok {
				break
			}
			b = rest
			p := r.phone(one)
			if p == nil {
				continue
			}
			content, kind, _, err := p.secret.Open(one)
			if err == nil && kind == record.TypeApplication {
				if err := r.take(p, content); err != nil {
					return err
				}
			}
		}
	}
	if rand.IntN(256) == 0 { // a busy line has no idle tick
		if err := r.repeat(); err != nil {
			return err
		}
	}
	return r.flush()
}

// phone returns whom a record is for.
func (l *line) phone(one []byte) *phone {
	place := binary.BigEndian.Uint32(record.CID(one, cidLength))
	if int(place) >= len(l.phones) {
		return nil
	}
	return l.phones[place]
}

// repeat sends again what was not answered in time.
func (r *run) repeat() error {
	now := time.Now()
	for p := range r.flying {
		if p.waiting && now.Sub(p.sent) > ackTimeout {
			p.sent = now
			r.repeated++
			if err := r.send(p, p.request); err != nil {
				return err
			}
		}
	}
	return r.flush()
}

// take handles one CoAP message for p.
func (r *run) take(p *phone, b []byte) error {
	if len(b) < 4 {
		return nil
	}
	code := codes.Code(b[1])
	id := binary.BigEndian.Uint16(b[2:])
	switch message.Type(b[0] >> 4 & 3) {
	case message.Acknowledgement:
		if p.waiting && id == p.id && code != codes.Empty {
			return r.answer(p, code, b)
		}
	case message.Reset:
		if r.kind == keepAlive && p.waiting && id == p.id {
			return r.answer(p, code, b)
		}
	case message.Confirmable:
		ack := []byte{0x60, 0, b[2], b[3]} // RFC 7252 section 4.2: empty acknowledgement
		if code == codes.Empty {
			ack[0] = 0x70 // section 4.3: a ping is answered by a reset
		}
		if err := r.send(p, ack); err != nil {
			return err
		}
		if p.mover != nil && code == codes.Content {
			return r.noticed(p.mover, b)
		}
	}
	return nil
}

// answer takes the response to p's request.
func (r *run) answer(p *phone, code codes.Code, b []byte) error {
	p.waiting = false
	if r.kind == check {
		var row wire.Row
		if code == codes.Content {
			m, err := wire.DecodeMessage(b)
			if err != nil {
				return err
			}
			if row, err = wire.DecodeRow(m.Payload); err != nil {
				return err
			}
		}
		r.judge(r.looking[p], row, code)
	}
	if code >= codes.BadRequest {
		r.refused++
		r.done(p)
		return nil
	}
	p.answered = true
	if r.kind == register || r.kind == notice {
		p.acknowledged = p.sequence
	}
	if r.kind != notice || p.noticed {
		r.times = append(r.times, time.Since(p.begun))
		r.done(p)
	}
	return nil
}

// noticed takes a notification about p.
func (r *run) noticed(p *phone, b []byte) error {
	m, err := wire.DecodeMessage(b)
	if err != nil {
		return err
	}
	row, err := wire.DecodeRow(m.Payload)
	if err != nil {
		return err
	}
	if _, flying := r.flying[p]; !flying || p.noticed || row.Sequence != p.sequence {
		return nil
	}
	p.noticed = true
	if p.answered {
		r.times = append(r.times, time.Since(p.begun))
		r.done(p)
	}
	return nil
}

func (r *run) done(p *phone) {
	delete(r.flying, p)
	if r.again || r.kind == check {
		r.queue = append(r.queue, p)
	}
}
