package phone

import "flexphone/hal"

// A Status is what a phone does now, for people and programs.
type Status struct {
	State      State       `json:"state"`
	Registered bool        `json:"registered"`
	Display    [2]string   `json:"display"`
	Tone       Tone        `json:"tone"`
	Lamp       string      `json:"lamp"`
	Call       *CallStatus `json:"call,omitempty"`
}

// A CallStatus describes the present call.
type CallStatus struct {
	Peer       string `json:"peer"`
	Proved     *bool  `json:"proved,omitempty"` // of a call that came in: the caller is who it says
	Codec      string `json:"codec,omitempty"`
	Security   string `json:"security"`
	Statistics any    `json:"statistics,omitempty"`
}

func statusOf(m model) Status {
	v := view(m)
	s := Status{
		State: m.state, Registered: m.registered,
		Display: [2]string{v.Line1, v.Line2}, Tone: v.Tone, Lamp: lampNames[v.Lamp],
	}
	if m.active {
		s.Call = &CallStatus{Peer: m.peer, Codec: m.codec, Security: security(m.private)}
		if m.incoming {
			s.Call.Proved = &m.proved
		}
	}
	return s
}

var lampNames = map[hal.LampState]string{hal.LampOff: "off", hal.LampOn: "on", hal.LampBlink: "blinking"}

// Status returns what the phone does now.
func (p *Phone) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	if s.Call != nil && p.stream != nil {
		call := *s.Call
		call.Statistics = p.stream.Stats()
		s.Call = &call
	}
	return s
}
