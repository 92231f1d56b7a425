package exchange

import (
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// Tell posts a body to a path of whoever has a session with a key, once, without
// waiting and without an answer; of several sessions the one that was heard last has
// it. It reports for how long that has been silent, and whether there is one.
func (s *Server) Tell(key wire.Fingerprint, path string, body []byte) (silent time.Duration, ok bool) {
	var to *session
	s.mu.Lock()
	for _, x := range s.byKey[key] {
		if to == nil || x.heard.After(to.heard) {
			to = x
		}
	}
	if to != nil {
		silent = time.Since(to.heard)
	}
	s.mu.Unlock()
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
