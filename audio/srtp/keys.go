package srtp

import (
	"fmt"
	"slices"
	"time"
)

// wake makes Receive look for what it may open now. The lock is held.
func (p *Path) wake() {
	p.ready = true
	p.deadline = past
	_ = p.conn.SetReadDeadline(past) // fails only when it is closed
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// useSDES makes contexts of keys that are new. The lock is held.
func (p *Path) useSDES(s SDES) error {
	if p.out == nil || p.sdes.Suite != s.Suite || !p.sdes.Own.Equal(s.Own) {
		ctx, err := p.ring.context(s.Suite, s.Own)
		if err != nil {
			return fmt.Errorf("srtp: start: %w", err)
		}
		p.out = &outbound{ctx: ctx}
	}
	if p.in == nil || p.sdes.Suite != s.Suite || !p.sdes.Peer.Equal(s.Peer) {
		ctx, err := p.ring.context(s.Suite, s.Peer)
		if err != nil {
			return fmt.Errorf("srtp: start: %w", err)
		}
		if p.in != nil {
			p.old, p.oldUntil = p.in, time.Now().Add(oldTime)
		}
		p.in = newInbound(s.Suite, ctx)
		p.wake()
	}
	p.sdes = s
	return nil
}

// useDTLS makes contexts of what the handshake that counts has made. The lock is held.
func (p *Path) useDTLS(k *keys) error {
	out, err := p.ring.context(k.suite, k.own)
	if err != nil {
		return fmt.Errorf("srtp: start: %w", err)
	}
	in, err := p.ring.context(k.suite, k.peer)
	if err != nil {
		return fmt.Errorf("srtp: start: %w", err)
	}
	if p.in != nil {
		p.old, p.oldUntil = p.in, time.Now().Add(oldTime)
	}
	p.out, p.in, p.failures = &outbound{ctx: out}, newInbound(k.suite, in), 0
	p.wake()
	return nil
}

func (d *DTLS) judge(der []byte) error {
	if d.Pin != [32]byte{} && !pinned(der, d.Pin) {
		return errWrongKey
	}
	if !slices.ContainsFunc(d.Fingerprints, func(f Fingerprint) bool { return f.of(der) }) {
		return errWrongKey
	}
	return nil
}

// judge is asked about a certificate while hands are shaken: it must be the peer's,
// as far as it is known yet. Whoever shows it owns its key.
func (p *Path) judge(h *handshake, der []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.agreed != nil && p.agreed.DTLS != nil:
		err := p.agreed.DTLS.judge(der)
		if err != nil {
			p.wrong(h)
		}
		return err
	case p.agreed == nil && p.expected.pin != [32]byte{} && pinned(der, p.expected.pin):
		return nil
	}
	return errWrongKey
}

// wrong: whoever shakes hands by h has shown another certificate than the one that was
// agreed upon. Where it is the peer's place, and no other has been shown there before, no
// keys will ever come. The lock is held.
func (p *Path) wrong(h *handshake) {
	if p.hand != h || p.in != nil || h.from.IsValid() {
		return
	}
	h.wrong = true
	if p.cfg.Wrong != nil {
		p.cfg.Wrong()
	}
}

// Keyed reports whether there are keys to speak by, or none are wanted yet.
func (p *Path) Keyed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.agreed == nil || p.out != nil
}

// renew makes new keys, where the peer is a phone that can: one of ours, which
// is known by its key. Those of SDES come by the signalling. The lock is held.
func (p *Path) renew() {
	if p.agreed != nil && p.agreed.SDES != nil && p.cfg.Worn != nil {
		p.cfg.Worn()
		return
	}
	if a := p.agreed; a == nil || a.DTLS == nil || a.DTLS.Pin == [32]byte{} || p.in == nil || p.hand != nil && !p.hand.done {
		return
	}
	if err := p.shake(); err != nil {
		p.cfg.Log.Warn("keys of a call not made new", "err", err)
	}
}
