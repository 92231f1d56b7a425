// Package trace writes to the log what goes over the wire, for whoever looks for a
// fault.
//
// It knows how the messages of each protocol read, and what in them is nobody
// else's business: keys, tokens, passwords and digests are blanked, and of sound
// and digits only the headers are told. It refuses to know sockets: what has a
// wire hands over what goes by, in the clear, and nothing where it is not traced.
//
// # Why what is not known is left out
//
// A log is copied into mails and tickets. So a part of a message that may hold a
// secret is shown only where it is understood: of a body that is no session
// description, and of a message that cannot be read, there is the length.
package trace

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"flexphone/audio"
	"flexphone/registry-client/wire"
)

// The protocols that can be traced.
const (
	sip  = "sip"
	rtp  = "rtp"
	dhcp = "dhcp"
	coap = "coap"
)

// Names returns the names of what can be traced.
func Names() []string { return []string{sip, rtp, dhcp, coap} }

// blank stands for what is not shown.
const blank = "***"

// mostText bounds what is told of one message, in bytes.
const mostText = 4096

// A Trace is of some protocols. The zero Trace is of none.
type Trace struct {
	log   *slog.Logger
	names []string
}

// New returns a trace of the protocols with these names, which are of Names.
func New(names []string, log *slog.Logger) Trace { return Trace{log, names} }

// tell writes a line. says is asked only where the protocol is traced.
func (t Trace) tell(protocol string, sent bool, with, says string) {
	way := "received"
	if sent {
		way = "sent"
	}
	if len(says) > mostText {
		says = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(says[:mostText], ""), len(says))
	}
	t.log.Info("trace "+protocol, "way", way, "with", with, "says", says)
}

// SIP returns what is to be told of each whole message of SIP; nil: it is not
// traced.
func (t Trace) SIP() func(sent bool, with netip.AddrPort, message []byte) {
	if !slices.Contains(t.names, sip) {
		return nil
	}
	return func(sent bool, with netip.AddrPort, message []byte) {
		t.tell(sip, sent, with.String(), sipText(message))
	}
}

// DHCP returns what is to be told of each message of DHCP and DHCPv6; nil: it is
// not traced.
func (t Trace) DHCP() func(sent bool, message []byte) {
	if !slices.Contains(t.names, dhcp) {
		return nil
	}
	return func(sent bool, message []byte) { t.tell(dhcp, sent, "server", dhcpText(message)) }
}

// CoAP returns what wraps an association with the storing server, whose reads and
// writes are messages of CoAP; nil: it is not traced.
func (t Trace) CoAP() func(net.Conn) net.Conn {
	if !slices.Contains(t.names, coap) {
		return nil
	}
	return func(c net.Conn) net.Conn { return association{c, t} }
}

type association struct {
	net.Conn
	trace Trace
}

// Read implements net.Conn.
func (a association) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	if err == nil {
		a.tell(false, b[:n])
	}
	return n, err
}

// Write implements net.Conn.
func (a association) Write(b []byte) (int, error) {
	n, err := a.Conn.Write(b)
	if err == nil {
		a.tell(true, b)
	}
	return n, err
}

func (a association) tell(sent bool, b []byte) {
	says := fmt.Sprintf("no message, %d bytes", len(b))
	if m, err := wire.DecodeMessage(b); err == nil {
		says = coapText(m)
	}
	a.trace.tell(coap, sent, a.RemoteAddr().String(), says)
}

// RTP returns p, traced if RTP is: each packet of sound, digits and reports.
func (t Trace) RTP(p audio.Path) audio.Path {
	if !slices.Contains(t.names, rtp) {
		return p
	}
	return path{p, t}
}

type path struct {
	audio.Path
	trace Trace
}

// Receive implements audio.Path.
func (p path) Receive(take func(audio.Datagram)) error {
	return p.Path.Receive(func(d audio.Datagram) {
		p.trace.tell(rtp, false, "peer", rtpText(d.Protocol, d.Bytes))
		take(d)
	})
}

// Send implements audio.Path.
func (p path) Send(what audio.Protocol, b []byte) error {
	err := p.Path.Send(what, b)
	if err == nil {
		p.trace.tell(rtp, true, "peer", rtpText(what, b))
	}
	return err
}
