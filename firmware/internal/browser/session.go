//go:build !nobrowser

package browser

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"flexphone/audio"
	"flexphone/audio/udp"
	"flexphone/firmware/internal/sip"
)

const (
	// keepAlive is how often the pair of addresses in use is asked about. A phone that
	// has moved is found by the next question.
	keepAlive = 400 * time.Millisecond
	// missAfter is after how long without a packet the page is missed, which is five questions
	// whose answers are lost, and lostAfter after how long it is gone, as any peer is (package
	// phone).
	missAfter = 2 * time.Second
	lostAfter = 45 * time.Second
	// sayWait bounds how long last words may take to arrive.
	sayWait = time.Second
	// sctpMost is how much of the data channel may wait: words.
	sctpMost = 16 << 10
	// wordMost is how long a word may be, in bytes.
	wordMost = 64
)

// channelID is of the data channel, which both ends know of.
const channelID = 0

// The codecs that are answered, by the payload types that Chromium gives them; the
// offer's count. Digits have the clock of the sound (RFC 4733, section 2.1).
var (
	opus = webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
	}}
	digits = webrtc.RTPCodecParameters{PayloadType: 110, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: "audio/telephone-event", ClockRate: 48000,
	}}
)

// A session is one PeerConnection.
type session struct {
	pc      *webrtc.PeerConnection
	words   *webrtc.DataChannel
	sender  *webrtc.RTPSender
	path    *path
	carried audio.Session
	mux     *everywhere
	opened  chan struct{} // closed when the data channel is open
	closing sync.Once
	seeking sync.Mutex // of again
}

// openSession answers an offer from addrs, and returns when the answer has all its
// candidates: with those as which STUN servers see it, if there are any.
func openSession(ctx context.Context, certificate tls.Certificate, addrs []netip.Addr, servers []netip.AddrPort, offer string, log *slog.Logger) (s *session, answer string, err error) {
	if len(addrs) == 0 {
		return nil, "", errors.New("browser: answer: the phone has no address")
	}
	var media webrtc.MediaEngine
	for _, c := range []webrtc.RTPCodecParameters{opus, digits} {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, "", fmt.Errorf("browser: answer: %w", err)
		}
	}
	conn, err := udp.Bind(ctx, udp.PortRange{})
	if err != nil {
		return nil, "", fmt.Errorf("browser: answer: %w", err)
	}
	logs := quiet{log}
	mux := &everywhere{UniversalUDPMuxDefault: ice.NewUniversalUDPMuxDefault(ice.UniversalUDPMuxParams{
		UDPConn: conn, Logger: logs.NewLogger("mux"),
		XORMappedAddrCacheTTL: time.Nanosecond, // a phone that has moved is seen as another
	})}
	mux.are(addrs)
	defer func() {
		if err != nil {
			mux.Close()
		}
	}()
	var setting webrtc.SettingEngine
	setting.LoggerFactory = logs
	setting.SetICEUDPMux(mux)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	setting.SetIncludeLoopbackCandidate(true) // the mux says which there are
	setting.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	setting.SetICETimeouts(missAfter, lostAfter, keepAlive)
	setting.SetSCTPMaxReceiveBufferSize(sctpMost)
	// The engine makes and reads reports itself.
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(setting), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{webrtc.CertificateFromX509(certificate.PrivateKey, certificate.Leaf)}})
	if err != nil {
		return nil, "", fmt.Errorf("browser: answer: %w", err)
	}
	s = &session{pc: pc, mux: mux, opened: make(chan struct{})}
	defer func() {
		if err != nil {
			pc.Close()
		}
	}()
	if err = s.prepare(); err != nil {
		return nil, "", err
	}
	if answer, err = s.negotiate(ctx, servers, offer); err != nil {
		return nil, "", err
	}
	if s.carried, err = carried(s.sender.GetParameters().Codecs); err != nil {
		return nil, "", err
	}
	go func() { // the mux is of this session
		<-s.path.gone
		mux.Close()
	}()
	return s, answer, nil
}

// again answers an offer of the page in the call that goes on: it has lost its way to the phone,
// and takes another one (ICE restart, RFC 8839, section 4.4.1.1.1), from the addresses that the
// phone has now. Keys stay, and so does what was agreed upon.
func (s *session) again(ctx context.Context, addrs []netip.Addr, servers []netip.AddrPort, offer string) (answer string, err error) {
	if len(addrs) == 0 {
		return "", errors.New("browser: answer: the phone has no address")
	}
	s.seeking.Lock()
	defer s.seeking.Unlock()
	s.mux.are(addrs)
	return s.negotiate(ctx, servers, offer)
}

// prepare makes what is said and heard.
func (s *session) prepare() error {
	s.path = newPath(s.pc)
	var err error
	if s.sender, err = s.pc.AddTrack(s.path); err != nil {
		return fmt.Errorf("browser: answer: %w", err)
	}
	s.path.sender = s.sender
	negotiated, id := true, uint16(channelID)
	if s.words, err = s.pc.CreateDataChannel("call", &webrtc.DataChannelInit{Negotiated: &negotiated, ID: &id}); err != nil {
		return fmt.Errorf("browser: answer: %w", err)
	}
	s.pc.OnTrack(s.path.heard)
	return nil
}

// negotiate answers an offer, and returns when the answer has all its candidates.
func (s *session) negotiate(ctx context.Context, servers []netip.AddrPort, offer string) (string, error) {
	seen := make(chan []netip.AddrPort, 1)
	go func() { seen <- s.mux.seen(ctx, servers) }() // beside; it takes seenWait at the most
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("browser: read offer: %w: %w", sip.ErrDescription, err)
	}
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("browser: answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("browser: answer: %w", err)
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return "", fmt.Errorf("browser: answer: %w", ctx.Err())
	}
	return s.mux.named(s.pc.LocalDescription().SDP, <-seen)
}

// carried is how the engine carries what was agreed upon.
func carried(codecs []webrtc.RTPCodecParameters) (audio.Session, error) {
	var out audio.Session
	for _, c := range codecs {
		a := audio.Codec{PayloadType: uint8(c.PayloadType), ClockRate: int(c.ClockRate)}
		switch {
		case strings.EqualFold(c.MimeType, opus.MimeType):
			a.Name = "opus"
			out.Codec, out.Params = a, c.SDPFmtpLine
		case strings.EqualFold(c.MimeType, digits.MimeType):
			a.Name = "telephone-event"
			out.DTMF, out.DTMFClock = a.PayloadType, a.ClockRate
		default:
			continue
		}
		out.Receive = append(out.Receive, a)
	}
	if out.Codec.Name == "" {
		return out, fmt.Errorf("browser: answer: %w", sip.ErrNoMedia)
	}
	return out, nil
}

// begin has heard called with what the page says, missed when it does not answer, and lost when
// it is gone.
func (s *session) begin(heard func(word string), missed, lost func()) {
	s.words.OnMessage(func(m webrtc.DataChannelMessage) {
		if len(m.Data) <= wordMost {
			heard(string(m.Data))
		}
	})
	s.words.OnClose(lost)
	s.pc.OnConnectionStateChange(func(is webrtc.PeerConnectionState) {
		switch is {
		case webrtc.PeerConnectionStateDisconnected:
			missed()
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			lost()
		}
	})
	s.words.OnOpen(sync.OnceFunc(func() { close(s.opened) }))
}

// alive is nil while the page answers ICE's questions.
func (s *session) alive() error {
	if s.pc.ConnectionState() == webrtc.PeerConnectionStateConnected {
		return nil
	}
	return errors.New("browser: probe: the page does not answer")
}

func (s *session) say(word string) error {
	if err := s.words.SendText(word); err != nil {
		return fmt.Errorf("browser: say %q: %w", word, err)
	}
	return nil
}

// remote is where the page is; invalid before that is known.
func (s *session) remote() netip.AddrPort {
	sctp := s.pc.SCTP()
	if sctp == nil || sctp.Transport() == nil || sctp.Transport().ICETransport() == nil {
		return netip.AddrPort{}
	}
	pair, err := sctp.Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil || pair.Remote == nil {
		return netip.AddrPort{}
	}
	at, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at, pair.Remote.Port)
}

// close ends the session when the last words have arrived, or soon.
func (s *session) close() {
	s.closing.Do(func() {
		for end := time.Now().Add(sayWait); s.words.BufferedAmount() > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
		_ = s.pc.Close() // it says goodbye, and nobody hears why not
		close(s.path.gone)
	})
}

// everywhere is a mux of one socket that is bound to no address, on the addresses that
// the phone has: as they come and go, it stays.
type everywhere struct {
	*ice.UniversalUDPMuxDefault
	addrs atomic.Pointer[[]netip.Addr]
}

func (e *everywhere) are(addrs []netip.Addr) { e.addrs.Store(&addrs) }

// GetListenAddresses implements ice.UDPMux.
func (e *everywhere) GetListenAddresses() (all []net.Addr) {
	at, ok := e.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil
	}
	for _, a := range *e.addrs.Load() {
		all = append(all, &net.UDPAddr{IP: a.AsSlice(), Port: at.Port})
	}
	return all
}
