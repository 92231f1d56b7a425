package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An advice is what router advertisements say of name servers (RFC 8106). The
// kernel does not act on it, and hands it to whoever listens.
type advice struct {
	index   int
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

// run sends advice to out until ctx is done. Each option of an advertisement is
// a message of its own; out gets what is known by then.
func (a *advisor) run(ctx context.Context, out chan<- advice) {
	stop := context.AfterFunc(ctx, a.socket.Close)
	defer stop()
	known := map[int]advice{}
	for ctx.Err() == nil {
		msgs, _, err := a.socket.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		for _, m := range msgs {
			if m.Header.Type != unix.RTM_NEWNDUSEROPT {
				continue
			}
			index, dns, search, err := parseAdvice(m.Data)
			if err != nil {
				continue
			}
			k := known[index]
			k.index = index
			if dns != nil {
				k.dns = dns
			}
			if search != nil {
				k.domains = search
			}
			known[index] = k
			select {
			case out <- k:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sizeofNdUserOpt is the length of struct nduseroptmsg.
const sizeofNdUserOpt = 16

const (
	raDNS    = 25
	raSearch = 31
)

var errAdvice = errors.New("netlink: parse router option: malformed")

// parseAdvice reads a nduseroptmsg and its option. A lifetime of zero ends what
// was said before; the result is then empty and not nil.
func parseAdvice(b []byte) (index int, dns []netip.Addr, search []string, err error) {
	if len(b) < sizeofNdUserOpt {
		return 0, nil, nil, errAdvice
	}
	index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	n := int(binary.NativeEndian.Uint16(b[2:]))
	opt := b[sizeofNdUserOpt:]
	if n > len(opt) || n < 8 || int(opt[1])*8 > n || opt[1] == 0 {
		return 0, nil, nil, errAdvice
	}
	opt = opt[:int(opt[1])*8]
	life, body := binary.BigEndian.Uint32(opt[4:]), opt[8:]
	switch opt[0] {
	case raDNS:
		dns = []netip.Addr{}
		for ; life > 0 && len(body) >= 16 && len(dns) < 8; body = body[16:] {
			if a := netip.AddrFrom16([16]byte(body[:16])); !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() {
				dns = append(dns, a)
			}
		}
		return index, dns, nil, nil
	case raSearch:
		search = []string{}
		if life > 0 {
			search = appendDomains(search, encodedNames(body)...)
		}
		return index, nil, search, nil
	}
	return 0, nil, nil, errAdvice
}
