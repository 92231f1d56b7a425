package testbed

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// What was not asked for is taken out of a description.
func TestExchangeLeavesOneCodec(t *testing.T) {
	terms := Terms{To: netip.MustParseAddr("192.0.2.7"), User: "x", Codec: "PCMU", Packet: 10 * time.Millisecond}
	got := terms.filter(strings.ReplaceAll(`v=0
o=- 1 1 IN IP4 192.0.2.1
s=-
c=IN IP4 192.0.2.1
t=0 0
m=audio 4000 RTP/AVP 96 0 8 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=rtcp-mux
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x
a=sendrecv
`, "\n", "\r\n"))
	want := strings.ReplaceAll(`v=0
o=- 1 1 IN IP4 192.0.2.1
s=-
c=IN IP4 192.0.2.1
t=0 0
m=audio 4000 RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
a=ptime:10
`, "\n", "\r\n")
	if got != want {
		t.Errorf("filter() = %q\nwant %q", got, want)
	}
}

// Requests go on to who is called, and answers back to who has asked.
func TestExchangePasses(t *testing.T) {
	x := &Exchange{Addr: netip.MustParseAddr("203.0.113.20"), origin: map[string]net.Addr{},
		terms: Terms{To: netip.MustParseAddr("192.0.2.7"), User: "x", Codec: "PCMU", Packet: 20 * time.Millisecond}}
	from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))
	request, to := x.pass("INVITE sip:y@203.0.113.20 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nContent-Length: 0\r\n\r\n", from)
	if to == nil || to.String() != "192.0.2.7:5060" || !strings.HasPrefix(request, "INVITE sip:x@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.20:5060;") {
		t.Fatalf("request goes to %v: %q", to, request)
	}
	vias := request[strings.Index(request, "Via:"):]
	answer, to := x.pass("SIP/2.0 200 OK\r\n"+vias, nil)
	if to != net.Addr(from) || answer != "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nContent-Length: 0\r\n\r\n" {
		t.Errorf("answer goes to %v: %q", to, answer)
	}
	if message, to := x.pass("nonsense\r\n\r\n", from); to != nil {
		t.Errorf("nonsense goes to %v: %q", to, message)
	}
}
