package media

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"flexphone/firmware/internal/sip"
	"flexphone/internal/secret"
)

const (
	eventName      = "telephone-event"
	noiseName      = "CN"       // RFC 3389
	maxSDP         = 64 << 10   // bytes; a phone's description is about 500, a browser's up to 10,000
	sharedPort     = "rtcp-mux" // RFC 5761
	maxStreamLines = 64         // m= lines that we read and answer
	packetTimeMS   = 20         // what we ask for where nothing else is wanted: the usual packet of G.711 and Opus
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
	way         way             // agreed last; noWay: nothing yet
	tag, suite  string          // bySDES: of our a=crypto
	role        setup           // byDTLS: active or passive
	keys        map[string]secret.Bytes
	peerKey     secret.Bytes // bySDES: of the last agreement
}

func newSession() session {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	id := binary.BigEndian.Uint64(b[:]) >> 2
	return session{id: id, version: id}
}

// offer describes lm. What is returned beside it is lm as the offer has it: with
// the payload types that are free for it in this call; and how the sound of each
// line would be carried.
func (s *session) offer(lm Local) ([]byte, Local, []way, error) {
	lm.Codecs = s.numbered(lm.Codecs)
	if s.way == noWay && len(s.lines) == 0 {
		return s.firstOffer(lm)
	}
	w, protos := s.way, plainProtos
	lines, ways := make([]*sdp.MediaDescription, len(s.lines)), make([]way, len(s.lines))
	for i, l := range s.lines {
		lines[i] = l.refused()
		if i == s.audio {
			protos = l.name.Protos
		}
	}
	var p *Protection
	if lm.NewKeys { // once: the same end may be asked again
		s.keys, lm.NewKeys = nil, false
	}
	if w == bySDES {
		p = &Protection{Mux: true, Suite: s.suite, Own: s.ownKey(s.suite)}
	}
	lines[s.audio], ways[s.audio] = audioLine(lm, w, protos, lm.Codecs, !lm.Hold, !lm.Hold), w
	lines[s.audio].Attributes = append(lines[s.audio].Attributes, privateAttributes(w, lm, p, s.tag)...)
	if w == inPlain {
		lines[s.audio].WithPropertyAttribute(sharedPort)
	}
	b, err := s.marshal(lm, lines, nil)
	return b, lm, ways, err
}

// firstOffer describes lm to a peer that has said nothing yet: privately where that
// may be expected of it, and in plain beside it, for one that cannot.
func (s *session) firstOffer(lm Local) ([]byte, Local, []way, error) {
	var lines []*sdp.MediaDescription
	var ways []way
	if lm.Private != nil && (lm.Private.Ours || lm.OnlyPrivate) {
		l := audioLine(lm, byDTLS, privateProtos, lm.Codecs, !lm.Hold, !lm.Hold)
		l.Attributes = append(l.Attributes, privateAttributes(byDTLS, lm, nil, "")...)
		lines, ways = append(lines, l), append(ways, byDTLS)
	}
	if !lm.OnlyPrivate {
		l := audioLine(lm, inPlain, plainProtos, lm.Codecs, !lm.Hold, !lm.Hold)
		lines = append(lines, l.WithPropertyAttribute(sharedPort))
		ways = append(ways, inPlain)
	}
	if len(lines) == 0 {
		return nil, lm, nil, fmt.Errorf("media: describe: it cannot be private: %w", sip.ErrNoMedia)
	}
	b, err := s.marshal(lm, lines, nil)
	return b, lm, ways, err
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
	lm.OnlyPrivate = lm.OnlyPrivate || s.way == byDTLS || s.way == bySDES
	u, err := usable(offer, from, lm)
	if err != nil {
		return nil, sip.Media{}, err
	}
	d, peer, pick := u.description, u.audio, u.pair
	lm.Addr = from.facing(lm.Addr, peer.addr)
	// The offer's payload types are used in both directions (RFC 3264, 6.1).
	pick.local.PayloadType, pick.localEvent.PayloadType = pick.remote.PayloadType, pick.remoteEvent.PayloadType
	pick.localNoise.PayloadType = pick.remoteNoise.PayloadType
	chosen := []Codec{pick.local}
	if pick.hasNoise {
		chosen = append(chosen, pick.localNoise)
	}
	if pick.hasEvent {
		chosen = append(chosen, pick.localEvent)
	}
	if s.worn(u.way, peer) {
		s.keys = nil
	}
	p := s.protection(u.way, peer, lm)
	m := agreed(pick, peer, lm, chosen, p)
	lines := make([]*sdp.MediaDescription, len(d.streams))
	for i, l := range d.streams {
		lines[i] = l.refused()
	}
	tag := peer.crypto().tag
	lines[peer.index] = audioLine(lm, u.way, peer.protos, chosen, m.Recv, m.Send)
	lines[peer.index].Attributes = append(lines[peer.index].Attributes, privateAttributes(u.way, lm, p, tag)...)
	if u.way == inPlain && peer.mux {
		lines[peer.index].WithPropertyAttribute(sharedPort)
	}
	b, err := s.marshal(lm, lines, d.when)
	if err != nil {
		return nil, sip.Media{}, err
	}
	s.lines, s.audio, s.way = d.streams, peer.index, u.way
	if s.tag = tag; p != nil {
		s.suite = p.Suite
	}
	if s.types == nil {
		s.types = make(map[uint8]Codec)
	}
	for _, c := range peer.codecs {
		s.types[c.PayloadType] = c
	}
	return b, m, nil
}

// take is what was agreed by an answer to an offer of lm, whose lines' sound would
// be carried in these ways.
func (s *session) take(answer []byte, from origin, lm Local, ways []way) (sip.Media, error) {
	d, err := readDescription(answer)
	if err != nil {
		return sip.Media{}, err
	}
	for _, peer := range d.audios(from) {
		line, ok := peer.lineOf(ways, lm, s.suite)
		if !ok {
			continue
		}
		// The answerer's order counts: its first codec is what it wants to use.
		for _, c := range peer.codecs {
			if !sounds(c) {
				continue
			}
			only := slices.DeleteFunc(slices.Clone(peer.codecs), func(o Codec) bool { return sounds(o) && o != c })
			if pick, ok := match(lm.Codecs, only); ok {
				w := ways[line]
				s.taken(line, ways)
				return agreed(pick, peer, lm, ready(lm.Codecs, peer.codecs), s.protection(w, peer, lm)), nil
			}
		}
	}
	return sip.Media{}, sip.ErrNoMedia
}

// lineOf is which of the offered lines a answers: that at its place (RFC 3264, 6),
// or, where lines were left out or others put before it, the first that it can be an
// answer to.
func (a *audio) lineOf(ways []way, lm Local, suite string) (line int, ok bool) {
	if a.index < len(ways) && a.answers(ways[a.index], lm, suite) {
		return a.index, true
	}
	line = slices.IndexFunc(ways, func(w way) bool { return a.answers(w, lm, suite) })
	return line, line >= 0
}

// answers reports whether a is an answer to a line whose sound would be carried in
// the way w.
func (a *audio) answers(w way, lm Local, suite string) bool {
	_, private := kindOf(a.protos)
	switch w {
	case inPlain:
		return !private
	case byDTLS:
		return private && lm.Private != nil && len(a.fingerprints) > 0 && a.setup != never && a.setup != either
	case bySDES:
		return lm.Private != nil && lm.Vouched && a.crypto().suite == suite
	}
	return false
}

// taken keeps the lines of our first offer, which each further one has to have
// (RFC 3264, 8).
func (s *session) taken(line int, ways []way) {
	s.way, s.audio = ways[line], line
	if len(s.lines) > 0 {
		return
	}
	for _, w := range ways {
		l := mediaLine{name: sdp.MediaName{Media: "audio", Protos: plainProtos, Formats: []string{"0"}}}
		if w == byDTLS {
			l.name.Protos = privateProtos
		}
		s.lines = append(s.lines, l)
	}
}

// A found is the stream of an offer that is taken, and how.
type found struct {
	description *description
	audio       audio
	pair        pair
	way         way
}

// usable finds the stream of an offer that has sound in one of lm's codecs: the
// first that can be private, else the first.
func usable(offer []byte, from origin, lm Local) (found, error) {
	d, err := readDescription(offer)
	if err != nil {
		return found{}, err
	}
	var best found
	for _, a := range d.audios(from) {
		p, ok := match(lm.Codecs, a.codecs)
		if w := a.wayOf(lm); ok && (w > inPlain && best.way <= inPlain || w == inPlain && best.way == noWay) {
			best = found{d, a, p, w}
		}
	}
	if best.way == noWay {
		return found{}, sip.ErrNoMedia
	}
	return best, nil
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

// pair is a codec, an event format and comfort noise that both ends can do, each as
// the one and as the other end writes it.
type pair struct {
	local, remote           Codec
	localEvent, remoteEvent Codec
	localNoise, remoteNoise Codec
	hasEvent, hasNoise      bool
}

// sounds reports whether c is a codec, and not what is sent beside one.
func sounds(c Codec) bool {
	return !strings.EqualFold(c.Name, eventName) && !strings.EqualFold(c.Name, noiseName)
}

// find returns the place of a format among others, or -1.
func find(in []Codec, name string, clock int) int {
	return slices.IndexFunc(in, func(c Codec) bool { return same(Codec{Name: name, ClockRate: clock}, c) })
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
		if !sounds(l) {
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
			li, ri := find(local, eventName, rate), find(remote, eventName, rate)
			if li >= 0 && ri >= 0 {
				p.localEvent, p.remoteEvent, p.hasEvent = local[li], remote[ri], true
				break
			}
		}
		// Noise has the clock of the codec in whose place it comes (RFC 3389, 4).
		if li, ri := find(local, noiseName, l.ClockRate), find(remote, noiseName, l.ClockRate); li >= 0 && ri >= 0 {
			p.localNoise, p.remoteNoise, p.hasNoise = local[li], remote[ri], true
		}
		return p, true
	}
	return pair{}, false
}

// agreed is what a pair means with peer, when receive may come.
func agreed(p pair, peer audio, lm Local, receive []Codec, keys *Protection) sip.Media {
	rtcp := peer.rtcp
	if keys == nil && peer.mux { // we always offer it, and answer it where it is offered
		rtcp = netip.AddrPortFrom(peer.addr, peer.port)
	}
	terms := RTP{RemoteRTCP: rtcp, Codec: p.remote, Receive: receive, Metrics: peer.metrics, Protection: keys}
	terms.Codec.Name = p.local.Name
	if p.hasEvent {
		terms.DTMF, terms.DTMFRate = p.remoteEvent.PayloadType, p.remoteEvent.ClockRate
	}
	if p.hasNoise {
		terms.Noise = p.remoteNoise.PayloadType
	}
	m := sip.Media{
		Remote:     netip.AddrPortFrom(peer.addr, peer.port),
		Codec:      p.local.Name,
		PacketTime: peer.ptime,
		Send:       peer.recv && !lm.Hold,
		Recv:       peer.send && !lm.Hold,
		Holds:      lm.Hold,
		Private:    keys != nil && lm.Vouched,
		Terms:      terms,
	}
	m.Silent = peer.silent || find(peer.codecs, noiseName, p.remote.ClockRate) >= 0 || !m.Send || !m.Recv
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

func audioLine(lm Local, w way, protos []string, codecs []Codec, recv, send bool) *sdp.MediaDescription {
	port := lm.Port
	if w != inPlain {
		port = lm.Private.Port
	}
	md := &sdp.MediaDescription{MediaName: sdp.MediaName{
		Media:  "audio",
		Port:   sdp.RangedPort{Value: int(port)},
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
	add("rtcp-xr", voiceMetrics)
	add("ptime", strconv.FormatInt(cmp.Or(lm.PacketTime.Milliseconds(), packetTimeMS), 10))
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
	if !addr.IsValid() || slices.ContainsFunc(lines, func(l *sdp.MediaDescription) bool {
		return l.MediaName.Port.Value == 0 && len(l.Attributes) > 0
	}) {
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
