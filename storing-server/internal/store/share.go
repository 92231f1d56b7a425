package store

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go"

	"flexphone/registry-client/wire"
)

// linksSubject is where servers of one cluster give each other messages of relayed
// links: the fingerprint of the receiver's key, and the message. Nothing keeps them. Of
// what is subscribed to in one cluster, its gateways ask others: so each cluster has a
// subject of its own, after its name, and no message of a link leaves it. Leaf nodes deny
// it as they do the streams (docs/scale.md). It is outside of subjectRoot, all of which a
// stream of rows that are not divided keeps.
func linksSubject(cluster string) string {
	name := sha256.Sum256([]byte(cluster)) // in which anything may stand
	return "flexphone-links." + hex.EncodeToString(name[:8])
}

// Share has take called with what other servers of the cluster share from now on. It
// returns how to share with them, which does not wait and reports whether it could;
// nil: there are no others.
func (s *Store) Share(take func(to wire.Fingerprint, body []byte)) func(to wire.Fingerprint, body []byte) bool {
	st, ok := s.engine.(*stream)
	if !ok || st.embedded != nil {
		return nil
	}
	subject := linksSubject(st.conn.ConnectedClusterName())
	own := nats.NewInbox() // marks what this server has shared
	_, err := st.conn.Subscribe(subject, func(m *nats.Msg) {
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
		return st.conn.PublishRequest(subject, own, append(to[:], body...)) == nil
	}
}

// seenMost bounds how long the other servers are asked as what a phone is seen: who waits opens a
// page, or rings in one.
const seenMost = 200 * time.Millisecond

// seenSubject is where servers of one cluster ask that. It begins as linksSubject does, for the
// same reasons, and since leaf nodes deny that already.
func seenSubject(cluster string) string { return linksSubject(cluster) + ".seen" }

// ShareSeen has others of the cluster told as what seen sees whoever has a key, unless that is
// zero, from now on. It returns how to ask them, which takes as long as the first of them that
// knows, or seenMost; nil: there are no others.
func (s *Store) ShareSeen(seen func(wire.Fingerprint) netip.Addr) func(wire.Fingerprint) netip.Addr {
	st, ok := s.engine.(*stream)
	if !ok || st.embedded != nil {
		return nil
	}
	subject := seenSubject(st.conn.ConnectedClusterName())
	_, err := st.conn.Subscribe(subject, func(m *nats.Msg) {
		if of := (wire.Fingerprint{}); len(m.Data) == len(of) {
			if at := seen(wire.Fingerprint(m.Data)); at.IsValid() {
				_ = m.Respond(at.AsSlice()) // who asks waits no longer than seenMost
			}
		}
	}) // it ends with the connection
	if err != nil {
		s.opts.Log.Warn("as what phones are seen is not told to other servers", "err", err)
		return nil
	}
	return func(of wire.Fingerprint) netip.Addr {
		m, err := st.conn.Request(subject, of[:], seenMost)
		if err != nil {
			return netip.Addr{}
		}
		at, _ := netip.AddrFromSlice(m.Data)
		return at.Unmap()
	}
}
