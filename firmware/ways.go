package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"flexphone/audio"
	"flexphone/audio/srtp"
	"flexphone/audio/udp"
)

// The ways of a call's sound.
const (
	undecided int32 = iota
	plain
	private
	led // by a path of the call's own
)

// ways are both paths that a call's sound may take until it is agreed which; the
// other one is closed then, or both, where the call has brought another. It is an
// audio.Path.
type ways struct {
	plain   *udp.Path
	private *srtp.Path                 // nil: there is no key yet to be private with, or no port
	other   atomic.Pointer[audio.Path] // that the call has brought
	taken   atomic.Int32
	log     *slog.Logger

	// Each holds one when something is to be done:
	worn      chan struct{} // the private path wants new keys
	wrong     chan struct{} // another than the peer shakes hands
	turned    chan struct{} // sound goes another way than before
	lost      chan struct{} // the way by which it went was lost
	elsewhere chan struct{} // the peer is to be told of other places than before
}

// openWays opens both. own is what this phone proves itself with.
func openWays(ctx context.Context, own func() (tls.Certificate, bool), log *slog.Logger) (*ways, error) {
	p, err := udp.Open(ctx, netip.Addr{}, udp.PortRange{})
	if err != nil {
		return nil, err
	}
	w := &ways{plain: p, log: log}
	for _, c := range []*chan struct{}{&w.worn, &w.wrong, &w.turned, &w.lost, &w.elsewhere} {
		*c = make(chan struct{}, 1)
	}
	certificate, ok := own()
	if !ok {
		return w, nil
	}
	conn, err := udp.Bind(ctx, udp.PortRange{})
	if err != nil {
		log.Warn("no private sound for the call", "err", err)
		return w, nil
	}
	w.private = srtp.New(ctx, conn, srtp.Config{
		Certificate: certificate, Worn: note(w.worn), Wrong: note(w.wrong), Turned: note(w.turned), Lost: note(w.lost), Log: log,
	})
	return w, nil
}

// note returns what has c hold one.
func note(c chan struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default: // it has been told
		}
	}
}

// relayed reports whether private sound goes by the relay, or will, once there is any.
func (w *ways) relayed() bool {
	way := w.taken.Load()
	return w.private != nil && (way == private || way == undecided) && w.private.Way() == srtp.Relayed
}

// take decides for one of them, once.
func (w *ways) take(way int32) error {
	if !w.taken.CompareAndSwap(undecided, way) {
		if w.taken.Load() != way {
			return errors.New("flexphone: start sound: it is carried in another way already")
		}
		return nil
	}
	if way == private {
		return w.plain.Close()
	}
	if w.private != nil {
		return w.private.Close()
	}
	return nil
}

// lead takes the path that the call has brought, once.
func (w *ways) lead(by audio.Path) error {
	if w.other.CompareAndSwap(nil, &by); *w.other.Load() != by || !w.taken.CompareAndSwap(undecided, led) && w.taken.Load() != led {
		return errors.New("flexphone: start sound: it is carried in another way already")
	}
	return w.closeOwn()
}

// closeOwn closes the paths that were opened for any call.
func (w *ways) closeOwn() error {
	err := w.plain.Close()
	if w.private != nil {
		err = errors.Join(err, w.private.Close())
	}
	return err
}

// Receive implements audio.Path.
func (w *ways) Receive(take func(audio.Datagram)) error {
	only := func(way int32) func(audio.Datagram) {
		return func(d audio.Datagram) {
			if w.taken.Load() == way {
				take(d)
			}
		}
	}
	var beside sync.WaitGroup
	var failed error
	if w.private != nil {
		beside.Go(func() { failed = w.private.Receive(only(private)) })
	}
	err := w.plain.Receive(only(plain))
	beside.Wait()
	if other := w.other.Load(); other != nil && w.taken.Load() == led {
		return (*other).Receive(take)
	}
	return errors.Join(err, failed)
}

// Send implements audio.Path.
func (w *ways) Send(p audio.Protocol, b []byte) error {
	switch w.taken.Load() {
	case plain:
		return w.plain.Send(p, b)
	case private:
		return w.private.Send(p, b)
	case led:
		return (*w.other.Load()).Send(p, b)
	}
	return audio.ErrNoPeer
}

// Close implements audio.Path.
func (w *ways) Close() error {
	err := w.closeOwn()
	if other := w.other.Load(); other != nil {
		err = errors.Join(err, (*other).Close())
	}
	return err
}
