package sip

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
)

// audio is the peer's audio line.
type audio struct {
	index      int // among the m= lines
	addr       netip.Addr
	port       uint16
	rtcp       netip.AddrPort
	codecs     []Codec
	send, recv bool // the peer's direction
	ptime      time.Duration
	silent     bool // it may send neither sound nor reports
}

// readDescription finds the first audio stream that plain RTP can carry.
func readDescription(b []byte) (*sdp.SessionDescription, audio, error) {
	if len(b) > maxSDP {
		return nil, audio{}, fmt.Errorf("%w: %d bytes", errBadSDP, len(b))
	}
	sd := new(sdp.SessionDescription)
	if err := sd.Unmarshal(b); err != nil {
		return nil, audio{}, fmt.Errorf("%w: %w", errBadSDP, err)
	}
	if len(sd.MediaDescriptions) > maxMedia {
		return nil, audio{}, fmt.Errorf("%w: %d m= lines", errBadSDP, len(sd.MediaDescriptions))
	}
	for i, md := range sd.MediaDescriptions {
		n := md.MediaName
		if n.Media != "audio" || n.Port.Value <= 0 || n.Port.Value > 65535 || !slices.Equal(n.Protos, []string{"RTP", "AVP"}) {
			continue
		}
		a, err := readAudio(sd, md)
		if err != nil {
			return nil, audio{}, err
		}
		a.index = i
		return sd, a, nil
	}
	return nil, audio{}, errNoMedia
}

func readAudio(sd *sdp.SessionDescription, md *sdp.MediaDescription) (audio, error) {
	a := audio{port: uint16(md.MediaName.Port.Value), send: true, recv: true}
	c := md.ConnectionInformation
	if c == nil {
		c = sd.ConnectionInformation
	}
	if c == nil || c.Address == nil {
		return audio{}, fmt.Errorf("%w: no c= line", errBadSDP)
	}
	var err error
	if a.addr, err = mediaAddr(c.AddressType, c.Address.Address); err != nil {
		return audio{}, err
	}
	a.rtcp = netip.AddrPortFrom(a.addr, a.port+1)
	if a.port == 65535 {
		a.rtcp = netip.AddrPort{} // there is no port above
	}
	for _, at := range slices.Concat(sd.Attributes, md.Attributes) { // the media's own come last and win
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
			if ms, err := strconv.ParseFloat(strings.TrimSpace(at.Value), 64); err == nil && ms >= 1 && ms <= 500 {
				a.ptime = time.Duration(ms * float64(time.Millisecond))
			}
		case "rtcp":
			if to, ok := rtcpAddr(at.Value, a.addr); ok {
				a.rtcp = to
			}
			a.silent = a.silent || firstField(at.Value) == "0"
		case "silenceSupp": // RFC 3108, 5.6.3.4
			a.silent = a.silent || strings.EqualFold(firstField(at.Value), "on")
		case "vad":
			a.silent = a.silent || !strings.EqualFold(firstField(at.Value), "off")
		}
	}
	for _, b := range slices.Concat(sd.Bandwidth, md.Bandwidth) {
		a.silent = a.silent || b.Type == "RR" && b.Bandwidth == 0 // RFC 3556: whoever only listens sends no reports
	}
	if a.addr.IsUnspecified() { // hold as RFC 2543 had it
		a.recv = false
	}
	a.codecs = formats(md)
	a.silent = a.silent || slices.ContainsFunc(a.codecs, pauses)
	return a, nil
}

// pauses reports whether a description that names c announces pauses.
func pauses(c Codec) bool {
	if strings.EqualFold(c.Name, "CN") {
		return true
	}
	for p := range strings.SplitSeq(strings.ToLower(c.Params), ";") {
		switch strings.ReplaceAll(p, " ", "") {
		case "usedtx=1", "vad=yes", "vad=on", "vad=1", "annexb=yes": // Opus (RFC 7587), and others as they write it
			return true
		}
	}
	return false
}

func firstField(s string) string {
	f, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return f
}

// mediaAddr is the address of a c= line. Names are not resolved: a phone says
// where it is.
func mediaAddr(kind, s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Is4() != (kind == "IP4") || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("%w: address %q", errBadSDP, s)
	}
	return addr, nil
}

// rtcpAddr reads a=rtcp:PORT [IN IP4 ADDRESS] (RFC 3605).
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
		if addr, err = mediaAddr(f[2], f[3]); err != nil {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

// static are the payload types that need no a=rtpmap (RFC 3551, table 4).
var static = map[uint8]Codec{
	0:  {Name: "PCMU", PayloadType: 0, ClockRate: 8000, Channels: 1},
	8:  {Name: "PCMA", PayloadType: 8, ClockRate: 8000, Channels: 1},
	9:  {Name: "G722", PayloadType: 9, ClockRate: 8000, Channels: 1},
	13: {Name: "CN", PayloadType: 13, ClockRate: 8000, Channels: 1},
}

// formats are the codecs of an m= line, in its order. What cannot be read is
// left out: it may be meant for others.
func formats(md *sdp.MediaDescription) []Codec {
	maps, params := map[uint8]Codec{}, map[uint8]string{}
	for _, at := range md.Attributes {
		f, rest, _ := strings.Cut(strings.TrimSpace(at.Value), " ")
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
	for _, f := range md.MediaName.Formats {
		pt, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			continue
		}
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
	f := strings.Split(strings.TrimSpace(s), "/")
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
