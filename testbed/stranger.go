package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
)

// A Stranger is a host with a fixed address that speaks SIP over UDP word for
// word as it is told. It knows no transactions, repeats nothing, and takes
// whatever comes.
type Stranger struct {
	Addr  netip.AddrPort // SIP's port 5060
	Media netip.AddrPort // where it takes RTP, and loses it

	sip, rtp *net.UDPConn
	came     chan Said
	heard    atomic.Int64
}

// A Said is a SIP message that came to a Stranger.
type Said struct {
	From netip.AddrPort
	Text string
}

// AddStranger joins a stranger to the street.
func (b *Bed) AddStranger() (*Stranger, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	s := &Stranger{Addr: netip.AddrPortFrom(addr, 5060), Media: netip.AddrPortFrom(addr, 40000), came: make(chan Said, 1024)}
	err = h.within(func() (err error) {
		if s.sip, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Addr)); err != nil {
			return err
		}
		s.rtp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Media))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: make a stranger: %w", err)
	}
	b.onClose(s.sip.Close)
	b.onClose(s.rtp.Close)
	go s.read() // both end with their socket
	go s.drain()
	return s, nil
}

func (s *Stranger) read() {
	packet := make([]byte, 1<<16)
	for {
		n, from, err := s.sip.ReadFromUDPAddrPort(packet)
		if err != nil {
			close(s.came)
			return
		}
		s.came <- Said{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), string(packet[:n])}
	}
}

func (s *Stranger) drain() {
	packet := make([]byte, 1<<16)
	for {
		if _, err := s.rtp.Read(packet); err != nil {
			return
		}
		s.heard.Add(1)
	}
}

// Say sends one packet, as it is.
func (s *Stranger) Say(to netip.AddrPort, text string) error {
	if _, err := s.sip.WriteToUDPAddrPort([]byte(text), to); err != nil {
		return fmt.Errorf("testbed: say %.40q: %w", text, err)
	}
	return nil
}

// Sound sends one packet from where it takes RTP.
func (s *Stranger) Sound(to netip.AddrPort, packet []byte) error {
	_, err := s.rtp.WriteToUDPAddrPort(packet, to)
	return err
}

// Heard returns how many packets of RTP came so far.
func (s *Stranger) Heard() int { return int(s.heard.Load()) }

// Next returns the next message that ok accepts, and drops what comes before it.
func (s *Stranger) Next(ctx context.Context, ok func(Said) bool) (Said, error) {
	for {
		select {
		case m, open := <-s.came:
			if !open {
				return Said{}, fmt.Errorf("testbed: hear SIP: %w", net.ErrClosed)
			}
			if ok(m) {
				return m, nil
			}
		case <-ctx.Done():
			return Said{}, fmt.Errorf("testbed: hear SIP: %w", ctx.Err())
		}
	}
}

// Status is the status of a response; 0 for a request.
func (m Said) Status() int {
	rest, ok := strings.CutPrefix(m.Text, "SIP/2.0 ")
	if !ok {
		return 0
	}
	code, _, _ := strings.Cut(rest, " ")
	n, _ := strconv.Atoi(code)
	return n
}

// Method is the method of a request, or of the request that a response is to.
func (m Said) Method() string {
	if m.Status() == 0 {
		method, _, _ := strings.Cut(m.Text, " ")
		return method
	}
	_, method, _ := strings.Cut(m.Header("CSeq"), " ")
	return method
}

// Header is the value of the first header of that name; empty if there is none.
func (m Said) Header(name string) string {
	head, _, _ := strings.Cut(m.Text, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Body is what follows the header.
func (m Said) Body() string {
	_, body, _ := strings.Cut(m.Text, "\r\n\r\n")
	return body
}

// Tag is the tag in From or To.
func (m Said) Tag(header string) string {
	_, tag, _ := strings.Cut(m.Header(header), ";tag=")
	tag, _, _ = strings.Cut(tag, ";")
	return tag
}

// Response is the text of a response to request m: tag is To's unless it has
// one, headers are further lines without their ends, body goes with its length.
func (m Said) Response(status int, tag, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d Whatever\r\n", status)
	head, _, _ := strings.Cut(m.Text, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "to":
			if m.Tag("To") == "" {
				line += ";tag=" + tag
			}
			fallthrough
		case "via", "from", "call-id", "cseq":
			b.WriteString(line + "\r\n")
		}
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.String()
}
