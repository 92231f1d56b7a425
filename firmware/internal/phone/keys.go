package phone

import "flexphone/hal"

// key is a key that goes down.
func (m model) key(k hal.Key) (model, []action) {
	c, busy := m.focused()
	switch {
	case k == hal.VolumeUp:
		return m, []action{turn{+1, m.rings()}}
	case k == hal.VolumeDown:
		return m, []action{turn{-1, m.rings()}}
	case k == hal.Mute && (busy || m.muted):
		return m.mute(!m.muted)
	case k == hal.Mute:
		return m, nil
	case busy && c.phase == talking:
		did := []action{click{k}, sendDigit{c.id, k}}
		if k == '*' {
			did = append(did, rate{c.id})
		}
		return m, did
	case busy && k == '#':
		m, did := m.accept()
		return m, append(did, click{k})
	case busy, m.desk == told:
		return m, nil
	case m.desk == idle:
		if m.state() == Initial {
			return m, nil
		}
		m.desk, m.digits, m.notice = dialling, "", notice{}
	}
	if k != '#' && len(m.digits) < dialMost {
		m.digits += string(k)
	}
	did := []action{click{k}}
	switch {
	case k == '#' && m.digits == "":
		return m.wait(firstDigitWait), did
	case k == '#', complete(m.digits):
		m, dialled := m.dial()
		return m, append(did, dialled...)
	}
	return m.wait(interDigitWait), did
}

// rings reports whether a key of the volume means what rings: while it does, and while the
// phone is not in use, when nothing else can be meant.
func (m model) rings() bool {
	s := m.state()
	return s == Ringing || m.hook == hal.OnHook && (s == Standby || s == Initial)
}

// mute keeps what is said here from every peer, until that is taken back or the call is
// over: whoever calls next is not to wonder.
func (m model) mute(is bool) (model, []action) {
	m.muted = is
	return m, []action{mute{is}}
}
