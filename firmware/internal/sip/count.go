package sip

import (
	"sync/atomic"

	gosip "github.com/emiago/sipgo/sip"
)

// A count bounds how many server transactions are kept at a time. Each keeps its
// request, its response and its timers for as long as the request may come again
// (RFC 3261, 17.2), which is 4 to 32 s, so that what others send would otherwise
// decide how much memory that takes.
type count struct {
	most int32
	now  atomic.Int32
}

// add counts tx until it is over, unless there are too many already.
func (n *count) add(tx *gosip.ServerTx) bool {
	if n.now.Add(1) > n.most {
		n.now.Add(-1)
		return false
	}
	if !tx.OnTerminate(func(string, error) { n.now.Add(-1) }) { // it is over
		n.now.Add(-1)
	}
	return true
}

// full reports whether add would say no.
func (n *count) full() bool { return n.now.Load() >= n.most }
