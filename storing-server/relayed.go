package main

import (
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/store"
)

// strayAfter is after how long without a word a phone may have a session with another
// server of the cluster as well: then both try.
const strayAfter = 45 * time.Second

// passOn returns how a message of a link comes to a phone: in its session here, and
// else by the other servers of the cluster, each of which looks whether it has one.
// A call is a few dozen small messages, so that nobody has to keep who is where.
func passOn(phones *exchange.Server, pages *browsers, rows *store.Store) func(to wire.Fingerprint, path string, body []byte) bool {
	cluster := rows.Share(func(to wire.Fingerprint, body []byte) {
		if m, ok := links.BrowserOf(to); ok {
			pages.came(m, body)
			return
		}
		phones.Tell(to, wire.PathLink, body)
	})
	return func(to wire.Fingerprint, path string, body []byte) bool {
		if m, ok := links.BrowserOf(to); ok {
			return pages.came(m, body) || cluster != nil && cluster(to, body)
		}
		silent, here := phones.Tell(to, path, body)
		if here && silent < strayAfter || cluster == nil {
			return here
		}
		return cluster(to, body) || here
	}
}
