package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Exchange is a SIP proxy without a memory of calls (RFC 3261, section 16.11) that
// has who calls it talk to somebody else in the codec and in packets of the duration
// that it is set to: it takes all else out of the descriptions that pass it. The two
// talk to each other directly.
type Exchange struct {
	Addr netip.Addr
	conn net.PacketConn
	done chan struct{}

	mu     sync.Mutex
	terms  Terms
	origin map[string]net.Addr // of requests, by our branch
}

// Terms are what an Exchange lets pass.
type Terms struct {
	To     netip.Addr // who is called
	User   string
	Codec  string        // as an rtpmap names it, such as "PCMU"
	Packet time.Duration // in each packet
}

// AddExchange starts one, which ends with the bed.
func (b *Bed) AddExchange() (*Exchange, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	x := &Exchange{Addr: addr, done: make(chan struct{}), origin: make(map[string]net.Addr)}
	err = h.within(func() (err error) {
		x.conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(addr, sipPort).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: start exchange: %w", err)
	}
	go x.run()
	b.onClose(func() error {
		err := x.conn.Close()
		<-x.done
		return err
	})
	return x, nil
}

// sipPort is where SIP is spoken over UDP.
const sipPort = 5060

// Set says how it joins the calls that come from now on.
func (x *Exchange) Set(t Terms) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.terms = t
}

func (x *Exchange) run() {
	defer close(x.done)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := x.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // somebody is not there any more
		}
		if message, to := x.pass(string(buf[:n]), from); to != nil {
			_, _ = x.conn.WriteTo([]byte(message), to) // SIP repeats what is lost
		}
	}
}

// ourBranch begins the branches of an Exchange.
const ourBranch = "z9hG4bK.exchange."

// pass returns a message as it goes on, and where to; nil: nowhere.
func (x *Exchange) pass(message string, from net.Addr) (string, net.Addr) {
	x.mu.Lock()
	defer x.mu.Unlock()
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	via := 0
	for i, l := range lines {
		if strings.HasPrefix(strings.ToLower(l), "via:") {
			via = i
			break
		}
	}
	if via == 0 {
		return "", nil
	}
	_, branch, _ := strings.Cut(lines[via], "branch=")
	branch, _, _ = strings.Cut(branch, ";")
	to := x.origin[branch]
	if !strings.HasPrefix(lines[0], "SIP/2.0 ") {
		method, _, _ := strings.Cut(lines[0], " ")
		branch = ourBranch + strings.TrimPrefix(branch, "z9hG4bK")
		x.origin[branch] = from
		lines[0] = fmt.Sprintf("%s sip:%s@%s SIP/2.0", method, x.terms.User, x.terms.To)
		lines = append(lines[:1:1], append([]string{fmt.Sprintf("Via: SIP/2.0/UDP %s:%d;rport;branch=%s", x.Addr, sipPort, branch)}, lines[1:]...)...)
		to = net.UDPAddrFromAddrPort(netip.AddrPortFrom(x.terms.To, sipPort))
	} else {
		lines = append(lines[:via:via], lines[via+1:]...)
	}
	if body != "" {
		body = x.terms.filter(body)
		for i, l := range lines {
			if name, _, _ := strings.Cut(strings.ToLower(l), ":"); name == "content-length" || name == "l" {
				lines[i] = "Content-Length: " + strconv.Itoa(len(body))
			}
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body, to
}

// filter takes what was not asked for out of a description (RFC 8866): other codecs,
// encryption, and what else two ends might agree on that the others do not know.
func (t Terms) filter(body string) string {
	kept := map[string]bool{}
	if strings.EqualFold(t.Codec, "PCMU") {
		kept["0"] = true // needs no rtpmap (RFC 3551)
	}
	for line := range strings.Lines(body) {
		if number, name, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "a=rtpmap:"), " "); ok && strings.HasPrefix(line, "a=rtpmap:") {
			name, _, _ = strings.Cut(name, "/")
			if strings.EqualFold(name, t.Codec) || strings.EqualFold(name, "telephone-event") {
				kept[number] = true
			}
		}
	}
	var out strings.Builder
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "a="), ":")
		switch {
		case strings.HasPrefix(line, "m="):
			fields := strings.Fields(line)
			numbers := slices.DeleteFunc(fields[min(3, len(fields)):], func(number string) bool { return !kept[number] })
			line = strings.Join(append(fields[:min(3, len(fields))], numbers...), " ")
		case !strings.HasPrefix(line, "a="):
		case name == "rtpmap", name == "fmtp":
			if number, _, _ := strings.Cut(value, " "); !kept[number] {
				continue
			}
		case name == "sendrecv", name == "sendonly", name == "recvonly", name == "inactive", name == "rtcp":
		default:
			continue
		}
		out.WriteString(line + "\r\n")
	}
	return out.String() + fmt.Sprintf("a=ptime:%d\r\n", t.Packet.Milliseconds()) // of its one medium
}
