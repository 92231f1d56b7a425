package media

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
)

// audio is a stream of sound that RTP can carry.
type audio struct {
	security
	index      int      // among the m= lines
	protos     []string // of RTP, as the peer writes them
	addr       netip.Addr
	port       uint16
	rtcp       netip.AddrPort
	codecs     []Codec
	send, recv bool          // the peer's direction
	ptime      time.Duration // what it wishes; 0: nothing
	maxptime   time.Duration // the most that it takes; 0: anything
	silent     bool          // it may send neither sound nor reports
	metrics    bool          // it wants to be told how it is heard
}

// audios are the streams of d that we can take, in its order. One whose address
// is of a family that we do not have is none of them (RFC 6157, 4), but where a pass
// for a relay comes with it.
func (d *description) audios(from origin) []audio {
	said := audio{send: true, recv: true, silent: d.noReports} // for all of them
	said.hear(d.attributes)
	var out []audio
	for i, s := range d.streams {
		n := s.name
		if rtp, _ := kindOf(n.Protos); !strings.EqualFold(n.Media, "audio") || n.Port.Value == 0 || !rtp {
			continue
		}
		a, ok := said, false
		if a.addr, ok = d.address(s, from.host); !ok {
			continue
		}
		a.index, a.protos, a.port = i, n.Protos, uint16(n.Port.Value)
		a.hear(s.attributes) // its own win
		if !from.reaches(a.addr) && !passes(a.candidates) {
			continue
		}
		a.conclude(s)
		out = append(out, a)
	}
	return out
}

// hear takes attributes in; of two that say different things the later one wins.
func (a *audio) hear(attributes []sdp.Attribute) {
	a.security.hear(attributes)
	for _, at := range attributes {
		first, _, _ := strings.Cut(at.Value, " ")
		switch at.Key {
		case "sendrecv":
			a.send, a.recv = true, true
		case "sendonly":
			a.send, a.recv = true, false
		case "recvonly":
			a.send, a.recv = false, true
		case "inactive":
			a.send, a.recv = false, false
		case "ptime":
			a.ptime = packetTime(first)
		case "maxptime":
			a.maxptime = packetTime(first)
		case "rtcp":
			if to, ok := rtcpAddr(at.Value, a.addr); ok {
				a.rtcp = to
			}
			a.silent = a.silent || first == "0"
		case "rtcp-xr": // RFC 3611, 5.1
			a.metrics = slices.Contains(strings.Fields(strings.ToLower(at.Value)), voiceMetrics)
		case "silencesupp": // RFC 3108, 5.6.3.4
			a.silent = a.silent || strings.EqualFold(first, "on")
		case "vad":
			a.silent = a.silent || !strings.EqualFold(first, "off")
		}
	}
}

// conclude completes what s says.
func (a *audio) conclude(s mediaLine) {
	if !a.rtcp.IsValid() && a.port < 65535 { // else there is no port above
		a.rtcp = netip.AddrPortFrom(a.addr, a.port+1)
	}
	if a.maxptime > 0 && (a.ptime > a.maxptime || a.ptime == 0 && a.maxptime < packetTimeMS*time.Millisecond) {
		a.ptime = a.maxptime
	}
	if a.addr.IsUnspecified() { // hold as RFC 2543 had it
		a.recv = false
	}
	a.codecs = formats(s)
	a.silent = a.silent || s.noReports || slices.ContainsFunc(a.codecs, pauses)
}

// voiceMetrics are what is told of how a peer is heard (RFC 3611, section 5.1).
const voiceMetrics = "voip-metrics"

// longestPacket bounds what is believed of a=ptime and a=maxptime.
const longestPacket = time.Second

// packetTime reads milliseconds, whole or not (RFC 8866, 6.4); 0 if they are
// none.
func packetTime(s string) time.Duration {
	ms, err := strconv.ParseFloat(s, 64)
	if math.IsNaN(ms) || ms <= 0 || err != nil && !math.IsInf(ms, 1) {
		return 0
	}
	return time.Duration(min(ms*float64(time.Millisecond), float64(longestPacket)))
}

// pauses reports whether a description that names c announces pauses. Comfort noise
// (RFC 3389) does so for codecs of its clock alone.
func pauses(c Codec) bool {
	for p := range strings.SplitSeq(strings.ToLower(c.Params), ";") {
		switch strings.ReplaceAll(p, " ", "") {
		case "usedtx=1", "vad=yes", "vad=on", "vad=1", "annexb=yes": // Opus (RFC 7587), and others as they write it
			return true
		}
	}
	return false
}

// rtcpAddr reads a=rtcp:PORT [IN IP4 ADDRESS] (RFC 3605). Where it names a host
// instead of an address, the stream's address stays.
func rtcpAddr(v string, addr netip.Addr) (netip.AddrPort, bool) {
	f := strings.Fields(v)
	if len(f) == 0 {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, false
	}
	if len(f) == 4 {
		if own, ok := literal(f[3]); ok {
			addr = own
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), addr.IsValid() && !addr.IsMulticast()
}

// static are the payload types that need no a=rtpmap (RFC 3551, table 4).
var static = map[uint8]Codec{
	0:  {Name: "PCMU", PayloadType: 0, ClockRate: 8000, Channels: 1},
	8:  {Name: "PCMA", PayloadType: 8, ClockRate: 8000, Channels: 1},
	9:  {Name: "G722", PayloadType: 9, ClockRate: 8000, Channels: 1},
	13: {Name: "CN", PayloadType: 13, ClockRate: 8000, Channels: 1},
}

// formats are the codecs of an m= line, in its order, each number once. What
// cannot be read is left out: it may be meant for others.
func formats(s mediaLine) []Codec {
	maps, params := map[uint8]Codec{}, map[uint8]string{}
	for _, at := range s.attributes {
		f, rest, _ := strings.Cut(at.Value, " ")
		pt, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			continue
		}
		switch at.Key {
		case "rtpmap":
			if c, ok := rtpmap(rest); ok {
				c.PayloadType = uint8(pt)
				maps[uint8(pt)] = c
			}
		case "fmtp":
			params[uint8(pt)] = strings.TrimSpace(rest)
		}
	}
	var out []Codec
	var seen [128]bool
	for _, f := range s.name.Formats {
		pt, err := strconv.ParseUint(f, 10, 7)
		if err != nil || seen[pt] {
			continue
		}
		seen[pt] = true
		c, ok := maps[uint8(pt)]
		if !ok {
			c, ok = static[uint8(pt)]
		}
		if ok {
			c.Params = params[uint8(pt)]
			out = append(out, c)
		}
	}
	return out
}

// rtpmap reads NAME/RATE[/CHANNELS].
func rtpmap(s string) (Codec, bool) {
	f := strings.Split(s, "/")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	if len(f) < 2 || len(f) > 3 || f[0] == "" {
		return Codec{}, false
	}
	rate, err := strconv.ParseUint(f[1], 10, 20)
	if err != nil || rate == 0 {
		return Codec{}, false
	}
	c := Codec{Name: f[0], ClockRate: int(rate), Channels: 1}
	if len(f) == 3 {
		n, err := strconv.ParseUint(f[2], 10, 4)
		if err != nil || n == 0 {
			return Codec{}, false
		}
		c.Channels = int(n)
	}
	return c, true
}
