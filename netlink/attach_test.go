package netlink

import (
	"testing"
	"time"
)

// TestSlowServerAfterAttachment: the router says that this is the network we
// knew, and the server takes longer than that to refuse the address.
func TestSlowServerAfterAttachment(t *testing.T) {
	s := newSimulation(t)
	s.router = otherMAC
	l := s.bind()
	s.unplug()
	s.run(time.Minute)
	s.want(Lost)
	s.server = nil
	s.plug()
	s.run(attachWait)
	if b := s.want(Bound)[0].Lease; b.Prefix != l.Prefix {
		t.Errorf("bound to %v", b.Prefix)
	}
	s.server = pool(simNext)
	s.run(confirmWait + time.Second)
	if b := s.want(Bound)[0].Lease; b.Addr() != simNext {
		t.Errorf("bound to %v", b.Prefix)
	}
}
