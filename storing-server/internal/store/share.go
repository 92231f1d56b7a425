package store

import (
	"github.com/nats-io/nats.go"

	"flexphone/registry-client/wire"
)

// linksSubject is where servers of a cluster give each other messages of relayed
// links: the fingerprint of the receiver's key, and the message. Nothing keeps them.
const linksSubject = "flexphone.links"

// Share has take called with what other servers of the cluster share from now on. It
// returns how to share with them, which does not wait and reports whether it could;
// nil: there are no others.
func (s *Store) Share(take func(to wire.Fingerprint, body []byte)) func(to wire.Fingerprint, body []byte) bool {
	st, ok := s.engine.(*stream)
	if !ok || st.embedded != nil {
		return nil
	}
	own := nats.NewInbox() // marks what this server has shared
	_, err := st.conn.Subscribe(linksSubject, func(m *nats.Msg) {
		var to wire.Fingerprint
		if m.Reply != own && len(m.Data) > len(to) && len(m.Data) <= len(to)+wire.MaxBody {
			copy(to[:], m.Data)
			take(to, m.Data[len(to):])
		}
	}) // it ends with the connection
	if err != nil {
		s.opts.Log.Warn("links are not passed on to other servers", "err", err)
		return nil
	}
	return func(to wire.Fingerprint, body []byte) bool {
		return st.conn.PublishRequest(linksSubject, own, append(to[:], body...)) == nil
	}
}
