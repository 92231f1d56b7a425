package phone

import (
	"encoding/hex"

	"flexphone/hal"
)

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
	Key        string `json:"key,omitempty"`     // of the other end, which it has shown or has to; its SHA-256
	WasKey     string `json:"was_key,omitempty"` // by which its number was known, if nobody has accepted the other one
	Security   string `json:"security"`
	Link       string `json:"link,omitempty"` // of signalling with a phone of ours: direct, or relayed by the storing server
	Statistics any    `json:"statistics,omitempty"`
}

func statusOf(m model) Status {
	v := view(m)
	s := Status{
		State: m.state(), Registered: m.registered,
		Display: [2]string{v.Line1, v.Line2}, Tone: v.Tone, Lamp: lampNames[v.Lamp],
	}
	if c, busy := m.focused(); busy {
		s.Call = &CallStatus{Peer: c.peer, Codec: c.codec, Security: security(c.private)}
		s.Call.Key = c.other().text()
		if c.was != [32]byte{} {
			s.Call.WasKey = hex.EncodeToString(c.was[:])
		}
		if c.incoming {
			proved := c.trust == proved
			s.Call.Proved = &proved
		}
	}
	return s
}

var lampNames = map[hal.LampState]string{hal.LampOff: "off", hal.LampOn: "on", hal.LampBlink: "blinking"}

// Status returns what the phone does now.
func (p *Phone) Status() Status {
	p.mu.Lock()
	s, stream, focus := p.status, p.streams[p.focus], p.focus
	p.mu.Unlock()
	if s.Call != nil {
		call := *s.Call
		call.Link = p.link(focus)
		s.Call = &call
	}
	if s.Call != nil && stream != nil {
		call := *s.Call
		p.contain("statistics of a call", func() { call.Statistics = stream.Stats() })
		s.Call = &call
	}
	return s
}

// link is how a call's signalling goes now; empty: it is not one with a phone of ours,
// or has not begun.
func (p *Phone) link(id int) (link string) {
	p.mu.Lock()
	line := p.lines[id]
	p.mu.Unlock()
	if line == nil {
		return ""
	}
	p.contain("link of a call", func() {
		switch peer := line.Peer(); {
		case peer.Relayed:
			link = "relayed"
		case peer.Secure:
			link = "direct"
		}
	})
	return link
}
