//go:build !nobrowser

package browser

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"flexphone/audio"
)

// receiveMost is the longest packet that is read.
const receiveMost = 1500

// A path is the way of the sound, an audio.Path, and what pion binds to send on. The
// engine draws its sources itself (RFC 3550, section 8.1), and the answer names one
// that pion has drawn: packets and reports have one for the other.
type path struct {
	pc     *webrtc.PeerConnection
	sender *webrtc.RTPSender
	track  chan *webrtc.TrackRemote // holds one when the page is heard
	closed chan struct{}
	gone   chan struct{} // closed with the session
	once   sync.Once

	own    atomic.Uint32 // source of the engine
	named  atomic.Uint32 // and in the answer
	mu     sync.Mutex    // of sending
	header rtp.Header
	out    webrtc.TrackLocalWriter
}

func newPath(pc *webrtc.PeerConnection) *path {
	return &path{pc: pc, track: make(chan *webrtc.TrackRemote, 1), closed: make(chan struct{}), gone: make(chan struct{})}
}

// heard is that the page has sent its first packet.
func (p *path) heard(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	select {
	case p.track <- t:
	default: // one voice is enough
	}
}

// Receive implements audio.Path.
func (p *path) Receive(take func(audio.Datagram)) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { p.receiveReports(take) })
	var t *webrtc.TrackRemote
	select {
	case t = <-p.track:
	case <-p.closed:
		return nil
	case <-p.gone:
		return nil
	}
	beside.Go(func() {
		select {
		case <-p.closed:
		case <-p.gone:
		}
		_ = t.SetReadDeadline(time.Unix(1, 0)) // or it is closed
	})
	b := make([]byte, receiveMost)
	for {
		n, _, err := t.Read(b)
		switch {
		case err == nil:
			take(audio.Datagram{Protocol: audio.RTP, Bytes: b[:n], At: time.Now()})
		case over(err):
			return nil
		}
		if p.isClosed() {
			return nil
		}
	}
}

// over reports whether nothing more can be read.
func over(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded)
}

func (p *path) isClosed() bool {
	select {
	case <-p.closed:
		return true
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *path) receiveReports(take func(audio.Datagram)) {
	go func() {
		select {
		case <-p.closed:
		case <-p.gone:
		}
		_ = p.sender.SetReadDeadline(time.Unix(1, 0)) // likewise
	}()
	b := make([]byte, receiveMost)
	for !p.isClosed() {
		n, _, err := p.sender.Read(b)
		if err != nil {
			if over(err) {
				return
			}
			continue
		}
		if mine, ok := p.renamed(b[:n], p.named.Load(), p.own.Load()); ok {
			take(audio.Datagram{Protocol: audio.RTCP, Bytes: mine, At: time.Now()})
		}
	}
}

// renamed is a compound packet with one source in place of another; ok is false where
// it cannot be read.
func (p *path) renamed(b []byte, from, to uint32) (out []byte, ok bool) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return nil, false
	}
	for _, packet := range packets {
		rename(packet, from, to)
	}
	out, err = rtcp.Marshal(packets)
	return out, err == nil
}

func rename(packet rtcp.Packet, from, to uint32) {
	swap := func(is *uint32) {
		if *is == from {
			*is = to
		}
	}
	reports := func(all []rtcp.ReceptionReport) {
		for i := range all {
			swap(&all[i].SSRC)
		}
	}
	switch r := packet.(type) {
	case *rtcp.SenderReport:
		swap(&r.SSRC)
		reports(r.Reports)
	case *rtcp.ReceiverReport:
		swap(&r.SSRC)
		reports(r.Reports)
	case *rtcp.SourceDescription:
		for i := range r.Chunks {
			swap(&r.Chunks[i].Source)
		}
	case *rtcp.Goodbye:
		for i := range r.Sources {
			swap(&r.Sources[i])
		}
	case *rtcp.ExtendedReport:
		swap(&r.SenderSSRC)
	}
}

// Send implements audio.Path.
func (p *path) Send(what audio.Protocol, b []byte) error {
	if p.isClosed() {
		return io.ErrClosedPipe
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return audio.ErrNoPeer
	}
	if what == audio.RTCP {
		packets, err := rtcp.Unmarshal(b)
		if err != nil {
			return err
		}
		for _, packet := range packets {
			rename(packet, p.own.Load(), p.named.Load())
		}
		return unready(p.pc.WriteRTCP(packets))
	}
	p.header = rtp.Header{}
	n, err := p.header.Unmarshal(b)
	if err != nil {
		return err
	}
	p.own.Store(p.header.SSRC)
	p.header.SSRC = p.named.Load()
	_, err = p.out.WriteRTP(&p.header, b[n:])
	return unready(err)
}

// unready is the error of what cannot be sent yet.
func unready(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return audio.ErrNoPeer
	}
	return err
}

// Close implements audio.Path. The session is the call's.
func (p *path) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Bind implements webrtc.TrackLocal.
func (p *path) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, codec := range c.CodecParameters() {
		if codec.MimeType == opus.MimeType {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.out = c.WriteStream()
			p.named.Store(uint32(c.SSRC()))
			return codec, nil
		}
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

// Unbind implements webrtc.TrackLocal.
func (p *path) Unbind(webrtc.TrackLocalContext) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = nil
	return nil
}

// ID implements webrtc.TrackLocal.
func (p *path) ID() string { return "voice" }

// RID implements webrtc.TrackLocal.
func (p *path) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (p *path) StreamID() string { return "phone" }

// Kind implements webrtc.TrackLocal.
func (p *path) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }
