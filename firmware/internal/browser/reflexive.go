//go:build !nobrowser

package browser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pion/ice/v4"
)

const (
	// seenWait bounds how long an answer waits for STUN servers: one question that was
	// lost is asked again after 0.5 s (RFC 8489, section 6.2.1).
	seenWait = 800 * time.Millisecond
	// seenMore is how long it waits for the others when one has answered: a NAT that
	// gives all of them the same port is the usual one.
	seenMore = 100 * time.Millisecond
)

// seen asks STUN servers where the mux's socket is seen from there, and returns what was
// answered in time, each once. As nobody vouches for it, it is a place to ask, no more.
func (e *everywhere) seen(ctx context.Context, servers []netip.AddrPort) (out []netip.AddrPort) {
	if len(servers) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, seenWait)
	defer cancel()
	answers := make(chan netip.AddrPort, len(servers))
	for _, at := range servers {
		go func() { // until it is answered, or ctx is done
			var is netip.AddrPort
			if mapped, err := e.GetXORMappedAddrContext(ctx, net.UDPAddrFromAddrPort(at), seenWait); err == nil {
				if a, ok := netip.AddrFromSlice(mapped.IP); ok && mapped.Port > 0 && mapped.Port < 1<<16 {
					is = netip.AddrPortFrom(a.Unmap(), uint16(mapped.Port))
				}
			}
			answers <- is
		}()
	}
	for range servers {
		is := <-answers
		if !is.IsValid() || slices.Contains(out, is) {
			continue
		}
		if out = append(out, is); len(out) == 1 {
			time.AfterFunc(seenMore, cancel)
		}
	}
	return out
}

// named returns an answer of this mux's agent that names what was seen beside the agent's own
// candidates: server-reflexive ones (RFC 8839, section 5.1), whose base is the phone's address of
// that family. The agent is told nothing of them: it would ask from their bases, as it does
// anyway (RFC 8445, section 6.1.2.4).
func (e *everywhere) named(answer string, seen []netip.AddrPort) (string, error) {
	at, ok := e.LocalAddr().(*net.UDPAddr)
	if !ok {
		return answer, nil
	}
	addrs := *e.addrs.Load()
	var lines strings.Builder
	for _, is := range seen {
		base := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == is.Addr().Is4() && !a.IsLinkLocalUnicast() })
		if base < 0 || slices.Contains(addrs, is.Addr()) {
			continue // it is not translated
		}
		c, err := ice.NewCandidateServerReflexive(&ice.CandidateServerReflexiveConfig{
			Network: "udp", Address: is.Addr().String(), Port: int(is.Port()), Component: ice.ComponentRTP,
			RelAddr: addrs[base].String(), RelPort: at.Port,
		})
		if err != nil {
			return "", fmt.Errorf("browser: name %s: %w", is, err)
		}
		lines.WriteString("a=candidate:" + c.Marshal() + "\r\n")
	}
	const end = "a=end-of-candidates\r\n" // RFC 8840, section 8.2; the bundle has one list
	before, after, ok := strings.Cut(answer, "\r\n"+end)
	if !ok {
		return "", errors.New("browser: name candidates: the answer has no end of them")
	}
	return before + "\r\n" + lines.String() + end + after, nil
}
