package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Line carries conversations over one pair of wires. Each piece of one has a
// header of four bytes: the conversation's number and the length of the piece,
// 16 bits each, the more significant byte first. The length 0 ends it.
type Line struct {
	wires io.ReadWriteCloser
	write sync.Mutex // one piece at a time

	mu     sync.Mutex
	talks  map[uint16]*Talk
	last   uint16 // number given out last
	broken error
	opened chan *Talk // what the other end has begun
}

// maxPiece is the longest piece: short enough that no conversation waits long
// for another.
const maxPiece = 2048

// maxUnread bounds what one conversation may leave unread, in bytes: a minute
// of sound.
const maxUnread = 60 * 2 * Rate

// errUnread ends a conversation at whose end nobody reads.
var errUnread = errors.New("serial: too much was not read")

// NewLine begins to read wires. It owns them from now on: Close closes them.
// in is where it reads: wires, or a buffer before it.
func NewLine(wires io.ReadWriteCloser, in io.Reader) *Line {
	l := &Line{wires: wires, talks: make(map[uint16]*Talk), opened: make(chan *Talk, 64)}
	go l.read(in) // ends with the wires
	return l
}

// Close ends all conversations.
func (l *Line) Close() error { return l.wires.Close() }

// Open begins a conversation. Only one end of a line may do so.
func (l *Line) Open() (*Talk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return nil, fmt.Errorf("serial: open: %w", l.broken)
	}
	for l.last++; l.talks[l.last] != nil; l.last++ {
	}
	return l.add(l.last), nil
}

func (l *Line) add(number uint16) *Talk {
	t := &Talk{line: l, number: number}
	t.more.L = &t.mu
	l.talks[number] = t
	return t
}

// Accept returns the next conversation that the other end has begun.
func (l *Line) Accept() (*Talk, error) {
	t, ok := <-l.opened
	if !ok {
		return nil, io.EOF
	}
	return t, nil
}

func (l *Line) read(in io.Reader) {
	err := l.readPieces(in)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	for _, t := range l.talks {
		t.end(err)
	}
	close(l.opened)
}

func (l *Line) readPieces(in io.Reader) error {
	var head [4]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		number, length := binary.BigEndian.Uint16(head[:]), int(binary.BigEndian.Uint16(head[2:]))
		if length > maxPiece {
			return fmt.Errorf("serial: a piece of %d bytes", length)
		}
		piece := make([]byte, length)
		if _, err := io.ReadFull(in, piece); err != nil {
			return err
		}
		l.deliver(number, piece)
	}
}

// deliver gives a piece to its conversation, which the first piece begins. What
// comes for one that has ended here is dropped.
func (l *Line) deliver(number uint16, piece []byte) {
	l.mu.Lock()
	t := l.talks[number]
	if t == nil && len(piece) > 0 {
		t = l.add(number)
		select {
		case l.opened <- t:
		default:
			t.end(errors.New("serial: too many conversations"))
		}
	}
	l.mu.Unlock()
	switch {
	case t == nil:
	case len(piece) == 0:
		t.end(io.EOF)
		l.forget(t)
	default:
		t.add(piece)
	}
}

// forget gives a number back once both ends have closed the conversation.
func (l *Line) forget(t *Talk) {
	t.mu.Lock()
	over := t.closed && t.why != nil
	t.mu.Unlock()
	if over {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.talks, t.number)
	}
}

func (l *Line) send(number uint16, piece []byte) error {
	b := make([]byte, 4, 4+len(piece))
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(len(piece)))
	l.write.Lock()
	defer l.write.Unlock()
	_, err := l.wires.Write(append(b, piece...))
	return err
}

// A Talk is one conversation: bytes both ways.
type Talk struct {
	line   *Line
	number uint16

	mu     sync.Mutex
	more   sync.Cond
	unread []byte
	why    error // nothing comes any more
	closed bool  // at this end
}

func (t *Talk) add(piece []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed || t.why != nil:
		return
	case len(t.unread)+len(piece) > maxUnread:
		t.why = errUnread
	default:
		t.unread = append(t.unread, piece...)
	}
	t.more.Broadcast()
}

func (t *Talk) end(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = why
	}
	t.more.Broadcast()
}

// Read implements io.Reader.
func (t *Talk) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.unread) == 0 && t.why == nil && !t.closed {
		t.more.Wait()
	}
	if len(t.unread) > 0 {
		n := copy(b, t.unread)
		t.unread = t.unread[n:]
		return n, nil
	}
	if t.closed {
		return 0, io.ErrClosedPipe
	}
	return 0, t.why
}

// Write implements io.Writer.
func (t *Talk) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		t.mu.Lock()
		closed, why := t.closed, t.why
		t.mu.Unlock()
		if closed || why != nil {
			return n, io.ErrClosedPipe
		}
		piece := b[n:min(n+maxPiece, len(b))]
		if err := t.line.send(t.number, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return len(b), nil
}

// Close tells the other end that the conversation is over.
func (t *Talk) Close() error {
	t.mu.Lock()
	was := t.closed
	t.closed = true
	t.more.Broadcast()
	t.mu.Unlock()
	if was {
		return nil
	}
	err := t.line.send(t.number, nil)
	t.line.forget(t)
	return err
}

// Join passes bytes between two conversations until one of them ends, and
// closes both.
func Join(a, b io.ReadWriteCloser) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
}

func pass(to, from io.ReadWriteCloser) {
	io.Copy(to, from) // whatever ends it, ends both
	to.Close()
	from.Close()
}
