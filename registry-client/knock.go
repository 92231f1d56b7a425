package registry

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A knock is a word of the server that was asked for, some time later.
type knock struct {
	token uint64
	wrote uint64 // as the session's, when it was asked for
	heard chan bool
}

// answered tells who waits for k that it came, and reports whether it was k.
func (k *knock) answered(token uint64, code codes.Code, wrote uint64) bool {
	if k.heard == nil || k.token != token {
		return false
	}
	if code == codes.Content {
		k.heard <- wrote == k.wrote // it has a place for one
	} else {
		close(k.heard) // a server of before
	}
	k.heard = nil
	return true
}

// Knock asks the server for a word after so long, in whole seconds, and returns what
// receives when that comes: true where nothing was sent in the session meanwhile, so
// that the way to here was kept for as long as it takes. It is closed by a server that
// does not do this. There is one such word at a time, the newest. It does not make a
// session, and costs a datagram each way.
func (c *Client) Knock(after time.Duration) (<-chan bool, error) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil || s.lost() {
		return nil, fmt.Errorf("registry: ask for a word: %w", unreachable(errSessionLost))
	}
	return s.ask(after)
}

func (s *session) ask(after time.Duration) (<-chan bool, error) {
	s.mu.Lock()
	s.nextID++
	s.nextToken++
	id, token := s.nextID, s.nextToken
	s.mu.Unlock()
	opts := append(wire.PathOptions([]string{wire.PathKnock}), message.Option{ID: message.URIQuery, Value: []byte(wire.KnockQuery(after))})
	out, err := wire.EncodeMessage(message.Message{
		Type: message.NonConfirmable, MessageID: int32(id), Token: binary.BigEndian.AppendUint64(nil, token),
		Code: codes.GET, Options: opts,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: ask for a word: %w", err)
	}
	heard := make(chan bool, 1)
	s.mu.Lock()
	s.knock = knock{token: token, wrote: s.wrote + 1, heard: heard}
	s.mu.Unlock()
	if _, err := s.write(out); err != nil {
		return nil, fmt.Errorf("registry: ask for a word: %w: %w", unreachable(errSessionLost), err)
	}
	return heard, nil
}
