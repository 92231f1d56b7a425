package sip

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

const (
	sdpType      = "application/sdp"
	eventName    = "telephone-event"
	maxSDP       = 8 << 10 // bytes; a phone's description is about 500
	maxMedia     = 16      // m= lines that we read and answer
	packetTimeMS = 20      // what we ask for: the usual packet of G.711 and Opus
)

var (
	errNoMedia = errors.New("no audio that both ends can do")
	errBadSDP  = errors.New("malformed session description")
)

// session is the o= line of one call (RFC 8866, section 5.2): the same id all
// the time, and a version that rises with each description.
type session struct {
	id, version uint64
}

func newSession() session {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	id := binary.BigEndian.Uint64(b[:]) >> 2
	return session{id: id, version: id}
}

// offer describes lm.
func (s *session) offer(lm LocalMedia) ([]byte, error) {
	return s.marshal(lm, []*sdp.MediaDescription{audioLine(lm, lm.Codecs, !lm.Hold, true)}, nil)
}

// answer is what to say to the peer's offer, and what was agreed by it.
func (s *session) answer(offer []byte, lm LocalMedia) ([]byte, Media, error) {
	sd, peer, err := readDescription(offer)
	if err != nil {
		return nil, Media{}, err
	}
	pick, ok := match(lm.Codecs, peer.codecs)
	if !ok {
		return nil, Media{}, errNoMedia
	}
	// The offer's payload types are used in both directions (RFC 3264, 6.1).
	pick.local.PayloadType, pick.localEvent.PayloadType = pick.remote.PayloadType, pick.remoteEvent.PayloadType
	chosen := []Codec{pick.local}
	if pick.hasEvent {
		chosen = append(chosen, pick.localEvent)
	}
	m := agreed(pick, peer, lm)
	m.Receive = chosen
	lines := make([]*sdp.MediaDescription, 0, len(sd.MediaDescriptions))
	for i, md := range sd.MediaDescriptions {
		if i == peer.index {
			lines = append(lines, audioLine(lm, chosen, m.Recv, m.Send))
			continue
		}
		refused := md.MediaName
		refused.Port = sdp.RangedPort{}
		lines = append(lines, &sdp.MediaDescription{MediaName: refused})
	}
	b, err := s.marshal(lm, lines, sd.TimeDescriptions)
	return b, m, err
}

// readAnswer is what was agreed by the peer's answer to an offer of lm.
func readAnswer(answer []byte, lm LocalMedia) (Media, error) {
	_, peer, err := readDescription(answer)
	if err != nil {
		return Media{}, err
	}
	if peer.index != 0 {
		return Media{}, fmt.Errorf("%w: answer to an m= line that was not offered", errBadSDP)
	}
	// The answerer's order counts: its first codec is what it wants to use.
	for _, c := range peer.codecs {
		if strings.EqualFold(c.Name, eventName) {
			continue
		}
		only := slices.DeleteFunc(slices.Clone(peer.codecs), func(o Codec) bool {
			return !strings.EqualFold(o.Name, eventName) && o != c
		})
		if pick, ok := match(lm.Codecs, only); ok {
			m := agreed(pick, peer, lm)
			m.Receive = ready(lm.Codecs, peer.codecs)
			return m, nil
		}
	}
	return Media{}, errNoMedia
}

// usable reports whether the offer holds audio in one of codecs.
func usable(offer []byte, codecs []Codec) error {
	_, peer, err := readDescription(offer)
	if err != nil {
		return err
	}
	if _, ok := match(codecs, peer.codecs); !ok {
		return errNoMedia
	}
	return nil
}

// pair is a codec and an event format that both ends can do, each as the one
// and as the other end writes it.
type pair struct {
	local, remote           Codec
	localEvent, remoteEvent Codec
	hasEvent                bool
}

func same(a, b Codec) bool {
	return strings.EqualFold(a.Name, b.Name) && a.ClockRate == b.ClockRate && max(a.Channels, 1) == max(b.Channels, 1)
}

// match finds the codec that the local end likes best.
func match(local, remote []Codec) (pair, bool) {
	for _, l := range local {
		if strings.EqualFold(l.Name, eventName) {
			continue
		}
		i := slices.IndexFunc(remote, func(r Codec) bool { return same(l, r) })
		if i < 0 {
			continue
		}
		p := pair{local: l, remote: remote[i]}
		// Events should run on the codec's clock (RFC 4733, 2.1), but many
		// phones offer them at 8000 Hz beside Opus only.
		for _, rate := range []int{l.ClockRate, 8000} {
			want := Codec{Name: eventName, ClockRate: rate}
			li := slices.IndexFunc(local, func(c Codec) bool { return same(want, c) })
			ri := slices.IndexFunc(remote, func(c Codec) bool { return same(want, c) })
			if li >= 0 && ri >= 0 {
				p.localEvent, p.remoteEvent, p.hasEvent = local[li], remote[ri], true
				break
			}
		}
		return p, true
	}
	return pair{}, false
}

func agreed(p pair, peer audio, lm LocalMedia) Media {
	m := Media{
		Remote:     netip.AddrPortFrom(peer.addr, peer.port),
		RemoteRTCP: peer.rtcp,
		Codec:      p.remote,
		PacketTime: peer.ptime,
		Send:       peer.recv,
		Recv:       peer.send && !lm.Hold,
	}
	m.Silent = peer.silent || !m.Send || !m.Recv
	m.Codec.Name = p.local.Name
	if p.hasEvent {
		m.DTMF, m.DTMFRate = p.remoteEvent.PayloadType, p.remoteEvent.ClockRate
	}
	return m
}

// ready is what may come after the answer to an offer of local: each format of
// the offer (RFC 3264, 7). An answerer is to send it under the offer's payload
// type; one that wrongly uses that of its own answer is understood as well
// where that is free.
func ready(local, answered []Codec) []Codec {
	out := slices.Clone(local)
	for _, r := range answered {
		if slices.ContainsFunc(out, func(c Codec) bool { return c.PayloadType == r.PayloadType }) {
			continue
		}
		if i := slices.IndexFunc(local, func(l Codec) bool { return same(l, r) }); i >= 0 {
			c := local[i]
			c.PayloadType = r.PayloadType
			out = append(out, c)
		}
	}
	return out
}

func addrType(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "IP4"
	}
	return "IP6"
}

func audioLine(lm LocalMedia, codecs []Codec, recv, send bool) *sdp.MediaDescription {
	md := &sdp.MediaDescription{MediaName: sdp.MediaName{
		Media:  "audio",
		Port:   sdp.RangedPort{Value: int(lm.Port)},
		Protos: []string{"RTP", "AVP"},
	}}
	add := func(key, value string) {
		md.Attributes = append(md.Attributes, sdp.Attribute{Key: key, Value: value})
	}
	for _, c := range codecs {
		pt := strconv.Itoa(int(c.PayloadType))
		md.MediaName.Formats = append(md.MediaName.Formats, pt)
		m := fmt.Sprintf("%s %s/%d", pt, c.Name, c.ClockRate)
		if c.Channels > 1 {
			m += "/" + strconv.Itoa(c.Channels)
		}
		add("rtpmap", m)
		if c.Params != "" {
			add("fmtp", pt+" "+c.Params)
		}
	}
	add("ptime", strconv.Itoa(packetTimeMS))
	switch {
	case send && recv:
		add("sendrecv", "")
	case send:
		add("sendonly", "")
	case recv:
		add("recvonly", "")
	default:
		add("inactive", "")
	}
	return md
}

func (s *session) marshal(lm LocalMedia, lines []*sdp.MediaDescription, when []sdp.TimeDescription) ([]byte, error) {
	addr := lm.Addr.Unmap().WithZone("")
	if !addr.IsValid() || lm.Port == 0 {
		return nil, fmt.Errorf("sip: describe media: no address or port")
	}
	s.version++
	if len(when) == 0 {
		when = []sdp.TimeDescription{{}}
	}
	sd := &sdp.SessionDescription{
		Origin: sdp.Origin{
			Username: "-", SessionID: s.id, SessionVersion: s.version,
			NetworkType: "IN", AddressType: addrType(addr), UnicastAddress: addr.String(),
		},
		SessionName: "-",
		ConnectionInformation: &sdp.ConnectionInformation{
			NetworkType: "IN", AddressType: addrType(addr), Address: &sdp.Address{Address: addr.String()},
		},
		TimeDescriptions:  when,
		MediaDescriptions: lines,
	}
	return sd.Marshal()
}
