package phone

import (
	"log/slog"

	"flexphone/hal"
)

// progress follows the present call.
func (m model) progress(e event) (model, []action) {
	switch e := e.(type) {
	case callResolved:
		if e.call != m.call || m.state != Resolving && m.state != Calling {
			return m, nil
		}
		m.state, m.peer = Calling, e.peer.Name
		return m.wait(noAnswerWait), []action{tell("resolved", slog.String("number", m.digits),
			slog.String("peer", e.peer.Target.User), slog.String("address", e.peer.Target.Addr.String()))}
	case callerProved:
		if e.call == m.call && m.active && m.incoming {
			m.proved = true
		}
		return m, nil
	case callProgress:
		if e.call != m.call || m.state != Calling {
			return m, nil
		}
		var did []action
		if m, did = m.reach(nil); !m.peerRings {
			m.peerRings = true
			did = append(did, tell("ringing", slog.String("to", m.peer)))
		}
		return m, did
	case callEstablished:
		if e.call != m.call || m.state != Calling && m.state != Ringing {
			return m, nil
		}
		var did []action
		if m.state == Calling {
			m, did = m.reach(did)
		}
		m.state, m.talked, m.codec, m.private = Talking, true, e.codec, e.private
		return m.wait(0), append(did, tell("established", slog.String("peer", m.peer), slog.String("codec", e.codec), slog.String("security", security(e.private))))
	case callChanged:
		if e.call != m.call || m.state != Talking {
			return m, nil
		}
		return m, []action{tell("moved", slog.String("who", e.what), slog.String("peer", m.peer))}
	case callEnded:
		if e.call != m.call || !m.active {
			return m, nil
		}
		return m.end(e.reason)
	}
	return m, nil
}

func (m model) reach(did []action) (model, []action) {
	if m.reached {
		return m, did
	}
	m.reached = true
	return m, append(did, tell("connected", slog.String("peer", m.peer)))
}

func (m model) end(reason string) (model, []action) {
	m.active = false
	did := []action{tell("ended", slog.String("reason", reason), slog.String("peer", m.peer))}
	switch {
	case m.incoming && !m.talked && !m.local:
		m.missed++
		return m.rest(), did
	case !m.leased, m.local && m.hook == hal.OnHook:
		return m.rest(), did
	}
	return m.fail(reason), did
}

func security(private bool) string {
	if private {
		return "private"
	}
	return "not private"
}
