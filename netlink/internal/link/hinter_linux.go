package link

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Hinter says when links, addresses or routes may have changed.
type Hinter struct{ socket *nl.NetlinkSocket }

// OpenHinter subscribes to groups of rtnetlink(7), such as those of Hints4. Whoever
// opens a Hinter must run or close it.
func OpenHinter(groups ...uint) (*Hinter, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("netlink: subscribe to changes: %w", err)
	}
	return &Hinter{s}, nil
}

// Hints4 is where IPv4 changes are told.
func Hints4() []uint {
	return []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE}
}

// Run fills hints until ctx is done. A full buffer (ENOBUFS) is a hint too.
func (h *Hinter) Run(ctx context.Context, hints chan<- struct{}) {
	stop := context.AfterFunc(ctx, h.socket.Close)
	defer stop()
	for ctx.Err() == nil {
		_, _, err := h.socket.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		select {
		case hints <- struct{}{}:
		default:
		}
	}
}

// Close is for who does not run it.
func (h *Hinter) Close() { h.socket.Close() }
