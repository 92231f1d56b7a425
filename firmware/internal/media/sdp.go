package media

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"flexphone/firmware/internal/sip"
)

const (
	eventName      = "telephone-event"
	maxSDP         = 64 << 10 // bytes; a phone's description is about 500, a browser's up to 10,000
	maxStreamLines = 64       // m= lines that we read and answer
	packetTimeMS   = 20       // what we ask for: the usual packet of G.711 and Opus
)

// session is what descriptions of one call have in common: the o= line
// (RFC 8866, section 5.2) with the same id all the time and a version that
// rises with each description, and what the peer's offers have laid down for
// offers of ours (RFC 3264, section 8).
type session struct {
	id, version uint64
	lines       []mediaLine     // the m= lines that a new offer must have in their places
	audio       int             // which of them is ours
	types       map[uint8]Codec // what the peer's payload types mean, for as long as the call lasts
}

func newSession() session {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	id := binary.BigEndian.Uint64(b[:]) >> 2
	return session{id: id, version: id}
}

// offer describes lm. What is returned beside it is lm as the offer has it: with
// the payload types that are free for it in this call.
func (s *session) offer(lm Local) ([]byte, Local, error) {
	lm.Codecs = s.numbered(lm.Codecs)
	lines, protos := make([]*sdp.MediaDescription, max(1, len(s.lines))), []string{"RTP", "AVP"}
	for i, l := range s.lines {
		lines[i] = l.refused()
		if i == s.audio {
			protos = l.name.Protos
		}
	}
	lines[s.audio] = audioLine(lm, protos, lm.Codecs, !lm.Hold, true)
	b, err := s.marshal(lm, lines, nil)
	return b, lm, err
}

// numbered is codecs under the payload types that the peer has given them; one
// to which it has given none must not have a number that means something else
// (RFC 3264, 8.3.2).
func (s *session) numbered(codecs []Codec) []Codec {
	if len(s.types) == 0 {
		return codecs
	}
	var taken [128]bool
	for _, c := range codecs {
		taken[c.PayloadType&127] = true
	}
	for pt := range s.types {
		taken[pt] = true
	}
	out := slices.Clone(codecs)
	for i, c := range out {
		known, clash := false, false
		for pt, t := range s.types {
			if same(t, c) && (!known || pt < out[i].PayloadType) {
				out[i].PayloadType, known = pt, true
			}
			clash = clash || pt == c.PayloadType
		}
		for pt := 127; clash && !known && pt >= 96; pt-- {
			if !taken[pt] {
				taken[pt], known, out[i].PayloadType = true, true, uint8(pt)
			}
		}
	}
	return out
}

// answer is what to say to an offer, and what was agreed by it.
func (s *session) answer(offer []byte, from origin, lm Local) ([]byte, sip.Media, error) {
	d, peer, pick, err := usable(offer, from, lm.Codecs)
	if err != nil {
		return nil, sip.Media{}, err
	}
	lm.Addr = from.facing(lm.Addr, peer.addr)
	// The offer's payload types are used in both directions (RFC 3264, 6.1).
	pick.local.PayloadType, pick.localEvent.PayloadType = pick.remote.PayloadType, pick.remoteEvent.PayloadType
	chosen := []Codec{pick.local}
	if pick.hasEvent {
		chosen = append(chosen, pick.localEvent)
	}
	m := agreed(pick, peer, lm, chosen)
	lines := make([]*sdp.MediaDescription, len(d.streams))
	for i, l := range d.streams {
		lines[i] = l.refused()
	}
	lines[peer.index] = audioLine(lm, peer.protos, chosen, m.Recv, m.Send)
	b, err := s.marshal(lm, lines, d.when)
	if err != nil {
		return nil, sip.Media{}, err
	}
	s.lines, s.audio = d.streams, peer.index
	if s.types == nil {
		s.types = make(map[uint8]Codec)
	}
	for _, c := range peer.codecs {
		s.types[c.PayloadType] = c
	}
	return b, m, nil
}

// readAnswer is what was agreed by an answer to an offer of lm. What it names
// beside our offer is passed over.
func readAnswer(answer []byte, from origin, lm Local) (sip.Media, error) {
	d, err := readDescription(answer)
	if err != nil {
		return sip.Media{}, err
	}
	for _, peer := range d.audios(from) {
		// The answerer's order counts: its first codec is what it wants to use.
		for _, c := range peer.codecs {
			if strings.EqualFold(c.Name, eventName) {
				continue
			}
			only := slices.DeleteFunc(slices.Clone(peer.codecs), func(o Codec) bool {
				return !strings.EqualFold(o.Name, eventName) && o != c
			})
			if pick, ok := match(lm.Codecs, only); ok {
				return agreed(pick, peer, lm, ready(lm.Codecs, peer.codecs)), nil
			}
		}
	}
	return sip.Media{}, sip.ErrNoMedia
}

// usable finds the first stream of an offer that has sound in one of codecs.
func usable(offer []byte, from origin, codecs []Codec) (*description, audio, pair, error) {
	d, err := readDescription(offer)
	if err != nil {
		return nil, audio{}, pair{}, err
	}
	for _, a := range d.audios(from) {
		if p, ok := match(codecs, a.codecs); ok {
			return d, a, p, nil
		}
	}
	return nil, audio{}, pair{}, sip.ErrNoMedia
}

// facing is our address for media with theirs: ours, or if that is of the other
// family, the one from which the kernel would send to theirs.
func (o origin) facing(ours, theirs netip.Addr) netip.Addr {
	if !ours.IsValid() || theirs.IsUnspecified() || ours.Unmap().Is4() == theirs.Is4() {
		return ours
	}
	if a := o.source(theirs); a.IsValid() {
		return a
	}
	return ours
}

// pair is a codec and an event format that both ends can do, each as the one
// and as the other end writes it.
type pair struct {
	local, remote           Codec
	localEvent, remoteEvent Codec
	hasEvent                bool
}

// same reports whether a and b are one codec. Opus is always called stereo
// (RFC 7587, section 7), except by those who do not know.
func same(a, b Codec) bool {
	return strings.EqualFold(a.Name, b.Name) && a.ClockRate == b.ClockRate &&
		(max(a.Channels, 1) == max(b.Channels, 1) || strings.EqualFold(a.Name, "opus"))
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

// agreed is what a pair means with peer, when receive may come.
func agreed(p pair, peer audio, lm Local, receive []Codec) sip.Media {
	terms := RTP{RemoteRTCP: peer.rtcp, Codec: p.remote, Receive: receive}
	terms.Codec.Name = p.local.Name
	if p.hasEvent {
		terms.DTMF, terms.DTMFRate = p.remoteEvent.PayloadType, p.remoteEvent.ClockRate
	}
	m := sip.Media{
		Remote:     netip.AddrPortFrom(peer.addr, peer.port),
		Codec:      p.local.Name,
		PacketTime: peer.ptime,
		Send:       peer.recv,
		Recv:       peer.send && !lm.Hold,
		Terms:      terms,
	}
	m.Silent = peer.silent || !m.Send || !m.Recv
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

func audioLine(lm Local, protos []string, codecs []Codec, recv, send bool) *sdp.MediaDescription {
	md := &sdp.MediaDescription{MediaName: sdp.MediaName{
		Media:  "audio",
		Port:   sdp.RangedPort{Value: int(lm.Port)},
		Protos: protos,
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

func (s *session) marshal(lm Local, lines []*sdp.MediaDescription, when []sdp.TimeDescription) ([]byte, error) {
	addr := lm.Addr.Unmap().WithZone("")
	if !addr.IsValid() || lm.Port == 0 {
		return nil, fmt.Errorf("media: describe: no address or port")
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
