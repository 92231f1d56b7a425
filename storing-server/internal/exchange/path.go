package exchange

import (
	"net/netip"
	"time"

	"flexphone/storing-server/internal/sockets"
)

const (
	// amplification is how many times as much may go to an address as came from
	// it, before it has answered (RFC 9146, section 6, as RFC 9000, section 8).
	amplification = 3
	// challengeEvery is how often an address is asked to answer, at the most.
	challengeEvery = 1 * time.Second
	// challengeMost is after how long without an answer the session is taken to
	// be where it was before.
	challengeMost = 5 * time.Second
)

// A place is where a peer is, and by which address of this host it spoke: answers leave from
// there, since the NAT in front of a peer lets in no others.
type place struct {
	peer netip.AddrPort
	by   *sockets.Source
}

// A path is where the datagrams of a session go. The address that the newest
// record came from gets answers at once, within limits: a record can be sent on
// by anybody who sees it. An address that has answered what was sent there alone
// is the session's for good.
//
// An announcement that is answered in one datagram needs no more than that. What
// the new address has to answer is a confirmable message that is due, or a CoAP
// ping when the limit is reached: every client knows them, few know the return
// routability check of RFC 9853. It is not safe for concurrent use.
type path struct {
	proven    place
	newest    place
	credit    int    // bytes that may go to newest, while it is not proven
	reserve   int    // of these, what a challenge takes
	challenge uint16 // ID of the message that newest has to answer
	asked     bool   // such a message was sent
	first     time.Time
	last      time.Time // when one was sent last
}

// pathTo is a path to where the peer has shaken hands. A challenge takes reserve
// bytes.
func pathTo(a place, reserve int) path { return path{proven: a, newest: a, reserve: reserve} }

// came notes a record of n bytes; latest says that none was newer. It reports whether
// the peer has moved.
func (p *path) came(from place, n int, latest bool) (moved bool) {
	if moved = latest && from.peer != p.newest.peer; moved {
		p.newest, p.asked, p.credit = from, false, 0
	}
	if from.peer == p.newest.peer && p.unproven() {
		p.credit += amplification * n
	}
	if latest {
		p.newest.by = from.by // it may have moved to another address of this host
	}
	if latest && !p.unproven() {
		p.proven.by = from.by
	}
	return moved
}

func (p *path) unproven() bool { return p.newest.peer != p.proven.peer }

// mayAsk reports whether the newest address is to be challenged now.
func (p *path) mayAsk(now time.Time) bool {
	return p.unproven() && (!p.asked || now.Sub(p.last) >= challengeEvery)
}

// ask notes that a message with an ID is sent to the newest address, which has
// to answer it, or that one is sent again.
func (p *path) ask(id uint16, now time.Time) {
	if !p.asked {
		p.first = now
	}
	p.challenge, p.asked, p.last = id, true, now
}

// answered notes that a message was answered, and reports whether that proves
// where the session is.
func (p *path) answered(id uint16, from netip.AddrPort) bool {
	if !p.asked || id != p.challenge || plainAddr(from) != plainAddr(p.newest.peer) {
		return false
	}
	p.proven, p.asked = p.newest, false
	return true
}

// to returns where n bytes go, and whether they may go there now; only a
// challenge may use up all.
func (p *path) to(n int, challenge bool, now time.Time) (place, bool) {
	if p.unproven() && p.asked && now.Sub(p.first) >= challengeMost {
		p.newest, p.asked = p.proven, false
	}
	if !p.unproven() {
		return p.newest, true
	}
	if !challenge {
		if n+p.reserve > p.credit {
			return p.newest, false
		}
	} else if n > p.credit {
		return p.newest, false
	}
	p.credit -= n
	return p.newest, true
}

// plainAddr is an address as it is told to peers.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
