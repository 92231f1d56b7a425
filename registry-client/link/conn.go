package link

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pion/transport/v5/deadline"

	"flexphone/registry-client/wire"
)

// A Conn is one end of a link. It is a net.Conn.
type Conn struct {
	links *Links
	name  linkName
	end   context.CancelFunc // of who sends; nil: nobody does yet. Guarded by links.mu

	read, write *deadline.Deadline

	mu      sync.Mutex
	stream  *stream
	changed chan struct{} // closed, and another in its place, when the stream changes
	failure error         // of who asked for it
	shut    bool          // at this end
}

// run sends what is to be sent until the link is over.
func (r *Conn) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	asked := false
	for {
		r.mu.Lock()
		m, ok, at := r.stream.say(time.Now())
		over, changed, repeats := r.stream.over, r.changed, r.stream.repeats
		if over && !ok {
			r.tell()
		}
		r.mu.Unlock()
		switch {
		case ok:
			r.links.carrier.Post(m)
			continue
		case over:
			return
		}
		// Nobody answers, or could be heard: perhaps nothing gets there.
		if r.links.carrier.Lost() || repeats >= askAfter && !asked {
			r.links.carrier.Doubt(ctx)
			asked = true
			if again := time.Now().Add(lostAgain); r.links.carrier.Lost() && (at.IsZero() || at.After(again)) {
				at = again
			}
		} else if repeats == 0 {
			asked = false
		}
		var alarm <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			alarm = timer.C
		}
		select {
		case <-changed:
		case <-alarm:
		case <-ctx.Done():
			r.mu.Lock()
			r.failure, r.stream.over = net.ErrClosed, true
			r.tell()
			r.mu.Unlock()
			return
		}
	}
}

// tell wakes who waits for a change; r.mu is held.
func (r *Conn) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Conn) took(m wire.LinkMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream.take(time.Now(), m)
	r.tell()
}

// gone says why the link is over, nil while it is not, and when the other end has
// done with it; r.mu is held.
func (r *Conn) gone() error {
	switch {
	case r.failure != nil:
		return r.failure
	case r.stream.lost:
		return unreachable(errSilent)
	case r.stream.parted == wire.EndUnknown:
		return unreachable(io.ErrUnexpectedEOF)
	case r.stream.parted == wire.EndReset:
		return unreachable(syscall.ECONNRESET)
	case r.stream.parted != 0 && r.stream.parted != wire.EndDone:
		return ErrNotTaken
	}
	return nil
}

// Read implements net.Conn.
func (r *Conn) Read(b []byte) (int, error) {
	for {
		r.mu.Lock()
		if r.shut {
			r.mu.Unlock()
			return 0, net.ErrClosed
		}
		n := r.stream.read(b)
		if n > 0 && r.stream.owe {
			r.tell()
		}
		err, finished, changed := r.gone(), r.stream.finished || r.stream.over, r.changed
		r.mu.Unlock()
		switch {
		case n > 0 || len(b) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case finished:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-r.read.Done():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write implements net.Conn. It waits while the other end takes no more.
func (r *Conn) Write(b []byte) (done int, err error) {
	for {
		r.mu.Lock()
		err, over, changed := r.gone(), r.stream.over || r.stream.ending, r.changed
		switch {
		case r.shut:
			err = net.ErrClosed
		case err == nil && over:
			err = io.ErrClosedPipe
		case err == nil:
			if n := r.stream.write(b[done:]); n > 0 {
				done += n
				r.tell()
			}
			changed = r.changed
		}
		r.mu.Unlock()
		if err != nil || done == len(b) {
			return done, err
		}
		select {
		case <-changed:
		case <-r.write.Done():
			return done, os.ErrDeadlineExceeded
		}
	}
}

// Close implements net.Conn. What was written is still sent.
func (r *Conn) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.stream.end()
	r.tell()
	return nil
}

// KeepAlive has the other end asked whether it is there whenever nothing has come from it
// for quiet, as TCP does it; an answer that takes longer than look ends the link, and the
// error wraps ETIMEDOUT. Zero: it may be silent, and nothing is sent.
func (r *Conn) KeepAlive(quiet, look time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream.keepAlive(time.Now(), quiet, look)
	r.tell()
}

// Reset closes the link without sending what was written before.
func (r *Conn) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.stream.reset()
	r.tell()
}

// abandon is Close of a link that was never one.
func (r *Conn) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut, r.stream.over, r.stream.bye = true, true, true
	r.tell()
}

// LocalAddr implements net.Conn. It is an Addr.
func (r *Conn) LocalAddr() net.Addr { return Addr{r.links.own} }

// RemoteAddr implements net.Conn. It is an Addr.
func (r *Conn) RemoteAddr() net.Addr { return Addr{r.stream.peer} }

// SetDeadline implements net.Conn.
func (r *Conn) SetDeadline(t time.Time) error {
	r.read.Set(t)
	r.write.Set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (r *Conn) SetReadDeadline(t time.Time) error {
	r.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (r *Conn) SetWriteDeadline(t time.Time) error {
	r.write.Set(t)
	return nil
}
