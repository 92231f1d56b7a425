package evdev

import (
	"time"

	"flexphone/hal"
)

// codes is how many key codes there are (KEY_MAX + 1).
const codes = 0x2ff + 1

// phoneKey returns the key of a telephone that a key code means, or 0: codes of a
// keyboard's upper row, of its number pad, and those made for telephones; and for volume
// and mute, as USB handsets have them too. Two codes may mean the same key.
func phoneKey(code uint16) hal.Key {
	switch {
	case code >= 2 && code <= 10: // KEY_1 to KEY_9
		return hal.Key('1' + code - 2)
	case code >= 0x200 && code <= 0x209: // KEY_NUMERIC_0 to KEY_NUMERIC_9
		return hal.Key('0' + code - 0x200)
	case code >= 71 && code <= 73: // KEY_KP7 to KEY_KP9
		return hal.Key('7' + code - 71)
	case code >= 75 && code <= 77: // KEY_KP4 to KEY_KP6
		return hal.Key('4' + code - 75)
	case code >= 79 && code <= 81: // KEY_KP1 to KEY_KP3
		return hal.Key('1' + code - 79)
	case code == 11, code == 82: // KEY_0, KEY_KP0
		return '0'
	case code == 0x20a, code == 55: // KEY_NUMERIC_STAR, KEY_KPASTERISK
		return '*'
	case code == 0x20b: // KEY_NUMERIC_POUND
		return '#'
	case code == 113, code == 248: // KEY_MUTE, KEY_MICMUTE
		return hal.Mute
	case code == 114: // KEY_VOLUMEDOWN
		return hal.VolumeDown
	case code == 115: // KEY_VOLUMEUP
		return hal.VolumeUp
	}
	return 0
}

// codeHook is KEY_PHONE: what a hook switch on gpio-keys reports while somebody
// holds the handset.
const codeHook = 169

// A state is which of a phone's keys of a device are down. It is pure: events
// and pictures of the device come in, moves of keys and hook go out.
type state struct {
	codes   map[uint16]bool // codes that are down
	keys    map[hal.Key]int // how many codes of a key are down
	dropped bool            // events were lost, and those up to the next report are not whole
}

func newState() *state { return &state{codes: map[uint16]bool{}, keys: map[hal.Key]int{}} }

// A change is a move of a key or, with key 0, of the handset.
type change struct {
	key    hal.Key
	active bool // down, or off hook
	at     time.Duration
}

// step takes one event. look tells that the device must be asked for its state.
func (s *state) step(e event) (changes []change, look bool) {
	switch {
	case e.typ == typeSyn && e.code == codeSynDropped:
		s.dropped = true
	case s.dropped && e.typ == typeSyn && e.code == codeSynReport:
		s.dropped = false
		return nil, true
	case s.dropped:
	case e.typ == typeKey && e.value != 2: // 2 is a repeat of a held key
		return s.set(nil, e.code, e.value != 0, e.at), false
	}
	return changes, false
}

// look takes the state of all keys, one bit a code as EVIOCGKEY gives it.
func (s *state) look(bits []byte, at time.Duration) (changes []change) {
	for c := range uint16(codes) {
		down := int(c/8) < len(bits) && bits[c/8]>>(c%8)&1 != 0
		changes = s.set(changes, c, down, at)
	}
	return changes
}

func (s *state) set(changes []change, code uint16, down bool, at time.Duration) []change {
	key := phoneKey(code)
	if key == 0 && code != codeHook || s.codes[code] == down {
		return changes
	}
	s.codes[code] = down
	if key == 0 {
		return append(changes, change{active: down, at: at})
	}
	if down {
		s.keys[key]++
	} else {
		s.keys[key]--
	}
	if down && s.keys[key] == 1 || !down && s.keys[key] == 0 {
		return append(changes, change{key: key, active: down, at: at})
	}
	return changes
}
