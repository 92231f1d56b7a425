package link

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
)

// The kernel drops messages that nobody reads, and says so once (ENOBUFS): that
// is a hint as any other.
func TestHintsSurviveAFullBuffer(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	h, err := OpenHinter(Hints4()...)
	if err != nil {
		t.Fatal(err)
	}
	isptest.New(t, isptest.Addr)
	isptest.IP(t, "link", "set", "eth0", "up")
	storm := strings.Repeat("address add 198.51.100.1/32 dev eth0\naddress del 198.51.100.1/32 dev eth0\n", 4000)
	isptest.Feed(t, storm, "ip", "-batch", "-")
	if _, _, err := h.socket.Receive(); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("after 8000 changes that nobody read: %v; want %v", err, unix.ENOBUFS)
	}
	isptest.Feed(t, storm, "ip", "-batch", "-")
	ctx, cancel := context.WithCancel(context.Background())
	hints, ended := make(chan struct{}, 1), make(chan struct{})
	go func() { h.Run(ctx, hints); close(ended) }()
	<-hints // else the test never ends
	cancel()
	<-ended
}
