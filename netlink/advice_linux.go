package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An advice is what one option of a router advertisement says of name servers
// (RFC 8106). The kernel does not act on it, and hands it to whoever listens.
type advice struct {
	index   int
	router  netip.Addr    // zero: the kernel does not tell
	life    time.Duration // as in hearsay
	dns     []netip.Addr
	domains []string
}

// An advisor listens for it.
type advisor struct{ socket *nl.NetlinkSocket }

func openAdvisor() (*advisor, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_ND_USEROPT)
	if err != nil {
		return nil, fmt.Errorf("netlink: subscribe to router options: %w", err)
	}
	return &advisor{s}, nil
}

// run sends advice to out until ctx is done.
func (a *advisor) run(ctx context.Context, out chan<- advice) {
	stop := context.AfterFunc(ctx, a.socket.Close)
	defer stop()
	for ctx.Err() == nil {
		msgs, _, err := a.socket.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		for _, m := range msgs {
			if m.Header.Type != unix.RTM_NEWNDUSEROPT {
				continue
			}
			said, err := parseAdvice(m.Data)
			if err != nil {
				continue
			}
			select {
			case out <- said:
			case <-ctx.Done():
				return
			}
		}
	}
}

const (
	// sizeofNdUserOpt is the length of struct nduseroptmsg.
	sizeofNdUserOpt = 16
	ndUserOptSource = 1 // NDUSEROPT_SRCADDR
	raDNS           = 25
	raSearch        = 31
)

var errAdvice = errors.New("netlink: parse router option: malformed")

// parseAdvice reads a nduseroptmsg, its option, and the router's address.
func parseAdvice(b []byte) (advice, error) {
	if len(b) < sizeofNdUserOpt {
		return advice{}, errAdvice
	}
	said := advice{index: int(int32(binary.NativeEndian.Uint32(b[4:])))}
	n := int(binary.NativeEndian.Uint16(b[2:]))
	opt := b[sizeofNdUserOpt:]
	if n > len(opt) || n < 8 || int(opt[1])*8 > n || opt[1] == 0 {
		return advice{}, errAdvice
	}
	if v := attribute(opt[min(len(opt), (n+3)&^3):], ndUserOptSource); len(v) == 16 {
		said.router = netip.AddrFrom16([16]byte(v))
	}
	opt = opt[:int(opt[1])*8]
	said.life = lifeOf(binary.BigEndian.Uint32(opt[4:]))
	switch body := opt[8:]; opt[0] {
	case raDNS:
		for ; len(body) >= 16 && len(said.dns) < 8; body = body[16:] {
			if a := netip.AddrFrom16([16]byte(body[:16])); !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() {
				said.dns = append(said.dns, a)
			}
		}
	case raSearch:
		said.domains = appendDomains(nil, encodedNames(body)...)
	default:
		return advice{}, errAdvice
	}
	return said, nil
}
