package exchange

import (
	"net/netip"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// Tell posts a body to a path of whoever has a session with a key, once, without
// waiting and without an answer; of several sessions the one that was heard last has
// it. It reports for how long that has been silent, and whether there is one.
func (s *Server) Tell(key wire.Fingerprint, path string, body []byte) (silent time.Duration, ok bool) {
	to, silent := s.latest(key)
	if to == nil {
		return 0, false
	}
	d := drafts.Get().(*draft)
	defer drafts.Put(d)
	to.write(d, message.Message{
		Type: message.NonConfirmable, MessageID: int32(to.newID()), Code: codes.POST, Payload: body,
		Options: append(wire.PathOptions([]string{path}), wire.UintOption(message.ContentFormat, wire.FormatCBOR)),
	})
	return silent, true
}

// Seen returns at which address who has a session with a key has answered last; zero: nobody has one. Where a
// NAT translates, it is the NAT's.
func (s *Server) Seen(key wire.Fingerprint) netip.Addr {
	x, _ := s.latest(key)
	if x == nil {
		return netip.Addr{}
	}
	x.records.Lock()
	defer x.records.Unlock()
	return plainAddr(x.path.proven.peer).Addr()
}

// latest returns the session with a key that was heard last, and for how long that has been
// silent; nil: there is none.
func (s *Server) latest(key wire.Fingerprint) (x *session, silent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.byKey[key] {
		if x == nil || one.heard.After(x.heard) {
			x = one
		}
	}
	if x != nil {
		silent = time.Since(x.heard)
	}
	return x, silent
}
