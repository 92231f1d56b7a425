package testbed

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A describer makes up session descriptions: each follows the grammar of RFC
// 8866, and few are what anybody ever sent.
type describer struct {
	*rand.Rand
	media string // address of an IPv4 host that takes RTP
	port  int
}

// A madeOffer is a description, and what is known of it.
type madeOffer struct {
	text   string
	lines  []madeLine
	usable int    // the first line with sound that a phone can take; -1: none
	header string // of the message that has it
	body   string // of that message
}

// madeLine is an m= line.
type madeLine struct {
	media, proto string
	formats      []string
	direction    string // as it is in force
	usable       bool
}

// A madeCodec is a codec of a description: its static payload type, or -1.
type madeCodec struct {
	name   string
	static int
	known  bool // to the phone
	params string
}

var madeCodecs = []madeCodec{
	{"PCMU/8000", 0, true, ""}, {"PCMA/8000", 8, true, ""}, {"opus/48000/2", -1, true, "useinbandfec=1;stereo=0;maxplaybackrate=16000"},
	{"pcmu/8000/1", -1, true, ""}, {"OPUS/48000/2", -1, true, "usedtx=1"},
	{"G729/8000", 18, false, "annexb=no"}, {"GSM/8000", 3, false, ""}, {"G722/8000", 9, true, ""}, {"L16/44100/2", 10, false, ""},
	{"iLBC/8000", -1, false, "mode=30"}, {"speex/16000", -1, false, ""}, {"AMR-WB/16000", -1, false, "octet-align=1; mode-set=0,1,2"},
	{"EVS/16000", -1, false, "br=5.9-24.4;bw=nb-swb"}, {"CN/8000", 13, false, ""}, {"CN/16000", -1, false, ""}, {"red/8000", -1, false, "0/0"},
	{"telephone-event/8000", -1, false, "0-16"}, {"telephone-event/48000", -1, false, "0-15,66"}, {"X-own/12345/7", -1, false, "a b c"},
}

func (d *describer) oneOf(s ...string) string { return s[d.IntN(len(s))] }

func (d *describer) chance(percent int) bool { return d.IntN(100) < percent }

func (d *describer) digits(n int) string {
	b := []byte{byte('1' + d.IntN(9))}
	for len(b) < n {
		b = append(b, byte('0'+d.IntN(10)))
	}
	return string(b)
}

// connection is the value of a c= line. It is told if that costs the stream:
// lost does, and IPv6 on a street that has none.
func (d *describer) connection() (value string, lost bool) {
	switch d.IntN(20) {
	case 0:
		return "IN IP4 host-" + d.digits(5) + ".example.net", false
	case 1:
		return "IN IP4 0.0.0.0", false
	case 2:
		return "IN IP6 2001:db8::" + d.digits(3), true
	case 3:
		return "IN IP4 233.252.0." + d.digits(2) + "/127", true
	}
	return "IN IP4 " + d.media, false
}

// noise is an attribute that changes nothing that is checked.
func (d *describer) noise() string {
	return "a=" + d.oneOf(
		"x-"+d.digits(6), "x-y:"+d.oneOf("", " ", "z=1;w", "ü"), "mid:"+d.digits(1), "rtcp-mux", "ssrc:"+d.digits(9)+" cname:x@y",
		"candidate:1 1 UDP 2130706431 192.0.2."+d.digits(2)+" "+d.digits(4)+" typ host", "ice-ufrag:"+d.digits(4), "ice-pwd:"+d.digits(22), "ice-lite",
		"rtcp:"+d.oneOf("0", "5009", "9 IN IP4 0.0.0.0", "53020 IN IP6 2001:db8::1", "53020 IN IP4 host.example"), "rtcp-fb:* nack", "extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
		"silenceSupp:"+d.oneOf("on", "off")+" - - - -", "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+d.digits(40), "setup:actpass", "fingerprint:sha-256 00:11",
		"ptime:"+d.oneOf("5", "10", "15", "20", "30", "40", "60", "80", "100", "120", "150", "2.5", "7.25", "0.1", "0", "1000", d.digits(25)),
		"maxptime:"+d.oneOf("5", "10", "20", "35", "60", "150", "0.5", d.digits(25)),
		"minptime:10", "label:"+d.digits(2), "content:speaker", "lang:de", "sdplang:en", "tool:made up", "charset:UTF-8", "quality:10", "framerate:25", "group:BUNDLE 1 2", "msid-semantic: WMS",
	)
}

// describe makes up a description with up to six streams.
func (d *describer) describe() madeOffer {
	var b strings.Builder
	write := func(line string) { b.WriteString(line + "\r\n") }
	write("v=0")
	write(fmt.Sprintf("o=%s %s %s IN %s", d.oneOf("-", "user", "x@y"), d.digits(1+d.IntN(25)), d.digits(1+d.IntN(25)), d.oneOf("IP4 "+d.media, "IP4 host.example.org", "IP6 2001:db8::1")))
	write("s=" + d.oneOf("-", " ", "Grüße an alle", "a = b"))
	for _, optional := range []string{"i=about", "u=http://example.net/?a=b", "e=x@example.net (X)", "p=+49 30 12345"} {
		if d.chance(15) {
			write(optional)
		}
	}
	lost := false
	atSession := d.chance(85)
	if atSession {
		c, m := d.connection()
		write("c=" + c)
		lost = m
	}
	d.bandwidth(write)
	for range 1 + d.IntN(2) {
		write("t=" + d.oneOf("0 0", "0 0", "2873397496 2873404696", d.digits(18)+" 0"))
		if d.chance(5) {
			write("r=" + d.oneOf("604800 3600 0 90000", "7d 1h 0 25h"))
		}
	}
	if d.chance(3) {
		write("z=2882844526 -1h 2898848070 0")
	}
	if d.chance(3) {
		write("k=" + d.oneOf("prompt", "clear:x"))
	}
	direction := "sendrecv"
	for range d.IntN(4) {
		if d.chance(20) {
			direction = d.oneOf("sendrecv", "sendonly", "recvonly", "inactive")
			write("a=" + direction)
			break
		}
		write(d.noise())
	}
	made := madeOffer{usable: -1}
	for i := range 1 + d.IntN(3)*d.IntN(4) {
		l := d.stream(write, direction, lost)
		if made.lines = append(made.lines, l); l.usable && made.usable < 0 {
			made.usable = i
		}
	}
	made.text = b.String()
	if d.chance(10) {
		made.text = strings.ReplaceAll(made.text, "\r\n", "\n")
	}
	if d.chance(10) {
		made.text = strings.TrimRight(made.text, "\r\n")
	}
	made.header, made.body = d.wrap(made.text)
	return made
}

func (d *describer) bandwidth(write func(string)) {
	for d.chance(25) {
		write("b=" + d.oneOf("AS:64", "CT:1000", "TIAS:64000", "RS:0", "RR:0", "RS:800", "X-YZ:128", "FOO:64"))
	}
}

// stream makes up an m= line and what belongs to it.
func (d *describer) stream(write func(string), direction string, lost bool) madeLine {
	l := madeLine{media: "audio", proto: "RTP/AVP", direction: direction}
	port := d.port
	if d.chance(20) {
		port = 1024 + d.IntN(64000)
	}
	plain := true
	switch d.IntN(16) {
	case 0:
		l.media, l.proto, l.formats = "image", d.oneOf("udptl", "UDPTL", "tcp"), []string{"t38"}
	case 1:
		l.media, l.formats = "video", []string{"31", "34"}
	case 2:
		l.media, l.proto, l.formats = "application", "UDP/DTLS/SCTP", []string{"webrtc-datachannel"}
	case 3:
		l.media, l.proto, l.formats = "message", "TCP/TLS/MSRP", []string{"*"}
	case 4:
		l.media, l.proto, l.formats = "x-"+d.digits(3), d.oneOf("RTP/AVP", "x/y/z", "udp"), []string{"0", "a-b"}
	case 5:
		l.media, l.formats = "text", []string{"98"}
	case 6:
		l.proto, plain = d.oneOf("RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "FOO/BAR", "udp", "RTP/AVP/TCP"), false
	case 7:
		port, plain = 0, false
	case 8:
		l.proto = "RTP/AVPF"
	}
	var attributes []string
	known := false
	if l.media == "audio" {
		used := map[int]bool{}
		for _, i := range d.Perm(len(madeCodecs))[:1+d.IntN(8)] {
			c := madeCodecs[i]
			pt := c.static
			for pt < 0 || used[pt] {
				pt = 96 + d.IntN(32)
			}
			used[pt] = true
			l.formats = append(l.formats, fmt.Sprint(pt))
			known = known || c.known
			if pt != c.static || d.chance(60) || !c.known {
				attributes = append(attributes, fmt.Sprintf("a=rtpmap:%d %s", pt, c.name))
			}
			if c.params != "" && d.chance(60) {
				attributes = append(attributes, fmt.Sprintf("a=fmtp:%d %s", pt, c.params))
			}
		}
	}
	ports := fmt.Sprint(port)
	if port > 0 && d.chance(4) {
		ports += "/2"
	}
	write(fmt.Sprintf("m=%s %s %s %s", l.media, ports, l.proto, strings.Join(l.formats, " ")))
	if d.chance(10) {
		write("i=a stream")
	}
	if d.chance(25) {
		var c string
		c, lost = d.connection()
		write("c=" + c)
	}
	d.bandwidth(write)
	for range d.IntN(5) {
		attributes = append(attributes, d.noise())
	}
	if d.chance(40) {
		l.direction = d.oneOf("sendrecv", "sendrecv", "sendonly", "recvonly", "inactive")
		attributes = append(attributes, "a="+l.direction)
	}
	d.Shuffle(len(attributes), func(i, j int) { attributes[i], attributes[j] = attributes[j], attributes[i] })
	for _, a := range attributes {
		write(a)
	}
	l.usable = l.media == "audio" && plain && known && !lost
	return l
}

// wrap puts a description into the body of a message, at times among other
// things, and says with which header.
func (d *describer) wrap(text string) (header, body string) {
	if d.chance(80) {
		return d.oneOf("Content-Type", "c") + ": application/sdp", text
	}
	boundary := "b" + d.digits(8)
	part := func(lines, content string) string {
		return "--" + boundary + "\r\n" + lines + "\r\n\r\n" + content + "\r\n"
	}
	parts := []string{part("Content-Type: application/sdp"+d.oneOf("", "\r\nContent-Disposition: session", "\r\nContent-Disposition: session;handling=required"), text)}
	for range d.IntN(3) {
		parts = append(parts, part(d.oneOf("Content-Type: application/isup;version=itu-t92+;base=etsi121\r\nContent-Disposition: signal;handling=optional",
			"Content-Type: application/pidf+xml\r\nContent-ID: <x@example.net>", "Content-Type: text/plain;charset=utf-8", "Content-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list;handling=optional"), "x"))
	}
	d.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return "Content-Type: multipart/" + d.oneOf("mixed", "mixed", "alternative", "related") + ";boundary=" + d.oneOf(boundary, `"`+boundary+`"`),
		strings.Join(parts, "") + "--" + boundary + "--\r\n"
}

// fits says what is wrong with an answer to the description; nil: nothing.
func (o madeOffer) fits(answer string) error {
	var names [][]string
	var direction string
	at := -1
	for line := range strings.SplitSeq(answer, "\r\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "m":
			names = append(names, strings.Fields(value))
			at++
		case "c":
			f := strings.Fields(value)
			if len(f) != 3 || (f[1] == "IP6") != strings.Contains(f[2], ":") {
				return fmt.Errorf("address %q", value)
			}
		case "a":
			if at == o.usable && slices.Contains([]string{"sendrecv", "sendonly", "recvonly", "inactive"}, value) {
				direction = value
			}
		}
	}
	if len(names) != len(o.lines) {
		return fmt.Errorf("%d m= lines, want %d", len(names), len(o.lines))
	}
	for i, l := range o.lines {
		f := names[i]
		if len(f) < 4 || f[0] != l.media || f[2] != l.proto {
			return fmt.Errorf("m= line %d is %q, offered %s %s", i, f, l.media, l.proto)
		}
		if (f[1] == "0") != (i != o.usable) {
			return fmt.Errorf("m= line %d has port %s, the usable one is %d", i, f[1], o.usable)
		}
		for _, pt := range f[3:] {
			if !slices.Contains(l.formats, pt) {
				return fmt.Errorf("m= line %d names %s, offered are %v", i, pt, l.formats)
			}
		}
	}
	may := map[string][]string{"sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"}, "sendonly": {"recvonly", "inactive"}, "recvonly": {"sendonly", "inactive"}, "inactive": {"inactive"}}
	if !slices.Contains(may[o.lines[o.usable].direction], direction) {
		return fmt.Errorf("%s to an offer that is %s", direction, o.lines[o.usable].direction)
	}
	return nil
}
