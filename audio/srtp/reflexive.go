package srtp

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

// askAgain is after how long a STUN server is asked once more, and then again.
var askAgain = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}

// An inquiry is a question to a STUN server.
type inquiry struct {
	to     netip.AddrPort
	answer chan netip.AddrPort // one slot
}

// Reflexive asks STUN servers (RFC 8489) where the path's socket is seen from there, and
// returns what each has answered; zero: it has not, within 0.7 s or until ctx is done. That
// is worth no more than a place to ask: nobody vouches for it.
func (p *Path) Reflexive(ctx context.Context, servers []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, len(servers))
	asked := make([]*inquiry, len(servers))
	ids := make([][stun.TransactionIDSize]byte, len(servers))
	p.mu.Lock()
	for i, to := range servers {
		rand.Read(ids[i][:]) // never fails
		asked[i] = &inquiry{plainPort(to), make(chan netip.AddrPort, 1)}
		if p.inquiries == nil {
			p.inquiries = map[[stun.TransactionIDSize]byte]*inquiry{}
		}
		p.inquiries[ids[i]] = asked[i]
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, id := range ids {
			delete(p.inquiries, id)
		}
	}()
	for _, wait := range askAgain {
		for i, q := range asked {
			if !out[i].IsValid() && sendable(q.to) {
				if m, err := stun.Build(stun.NewTransactionIDSetter(ids[i]), stun.BindingRequest); err == nil {
					_, _ = p.conn.WriteToUDPAddrPort(m.Raw, q.to) // it is asked again
				}
			}
		}
		patience := time.NewTimer(wait)
		for i, q := range asked {
			if out[i].IsValid() || !sendable(q.to) {
				continue
			}
			select {
			case out[i] = <-q.answer:
			case <-patience.C:
				patience.Reset(0)
			case <-ctx.Done():
			}
		}
		patience.Stop()
		if ctx.Err() != nil || allValid(out, servers) {
			break
		}
	}
	return out
}

func allValid(out, servers []netip.AddrPort) bool {
	for i, a := range out {
		if !a.IsValid() && sendable(servers[i]) {
			return false
		}
	}
	return true
}

// arriveAnswer takes b if it is the answer to an inquiry. The lock is held.
func (p *Path) arriveAnswer(b []byte, from netip.AddrPort) bool {
	if len(p.inquiries) == 0 || len(b) < 20 || len(b) > longestSTUN || !stun.IsMessage(b) {
		return false
	}
	q := p.inquiries[[stun.TransactionIDSize]byte(b[8:20])]
	if q == nil || q.to != from {
		return false
	}
	m := &p.prove.in
	m.Raw = append(m.Raw[:0], b...)
	var mapped stun.XORMappedAddress
	if m.Decode() != nil || m.Type != stun.BindingSuccess || mapped.GetFrom(m) != nil {
		return true
	}
	if ip, ok := netip.AddrFromSlice(mapped.IP); ok {
		select {
		case q.answer <- netip.AddrPortFrom(ip.Unmap(), uint16(mapped.Port)):
		default: // it was answered twice
		}
	}
	return true
}
